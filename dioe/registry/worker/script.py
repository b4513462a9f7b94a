"""The worker process: maps memory, answers requests, hosts a handler. The protocol is described in
docs/decisions/0010-workers.md.

Started by its path on any Python from 3.7 up, with or without DIOE; so it needs the standard
library alone, and nothing newer than 3.7. The client imports the frames from here.

A handler is a module with ``create(args)``, which returns an object with three methods::

    handle(op, args, memory) -> dict   # in the thread of the channel that asks, several at a time
    release(ids)                       # the client has let go of these objects
    close()                            # last of all

``args`` and what ``handle`` returns are JSON data; ``memory.view(segment, offset, nbytes)`` is
a writable memoryview of bytes that the client reads and writes too. What ``handle`` raises travels
as the names of its classes, its text, and its ``place`` and ``fix`` if it has such attributes.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import importlib.util
import json
import mmap
import os
import platform
import signal
import socket
import struct
import sys
import threading

PROTOCOL_VERSION = 1
MAGIC = b"DIOE"
PREFIX = struct.Struct("<4sI")  # the magic, the length of the body
MAX_FRAME_BYTES = 8 << 20
MAX_TEXT = 4000  # characters of each text of an error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Handler(Protocol):
        """What ``create`` of a handler's module returns."""

        def handle(self, op: str, args: dict[str, Any], memory: Memory) -> dict[str, Any]: ...
        def release(self, ids: list[int]) -> None: ...
        def close(self) -> None: ...


class ProtocolError(Exception):
    """The other side sent what is no frame, or not the one that had to come."""


def encode_frame(message: dict[str, Any]) -> bytes:
    """One frame; raises ProtocolError if it would be too long, TypeError for what isn't JSON."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"a message of {len(body)} bytes is more than the {MAX_FRAME_BYTES} of a frame"
        )
    return PREFIX.pack(MAGIC, len(body)) + body


def body_length(prefix: bytes) -> int:
    """Length of the body that follows a prefix; raises ProtocolError."""
    magic, length = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(f"{prefix!r} doesn't begin a frame")
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
    return int(length)


def decode_body(body: bytes | bytearray) -> dict[str, Any]:
    """The message of a frame; raises ProtocolError."""
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame holds no JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a frame holds no JSON object")
    return message


class Memory:
    """The segments that the client made and this process has mapped."""

    def __init__(self) -> None:
        self._segments: dict[int, mmap.mmap] = {}

    def map(self, segment: int, size: int, descriptor: int) -> None:
        """Map a segment; the descriptor stays the caller's."""
        self._segments[segment] = mmap.mmap(descriptor, size)

    def drop(self, segments: list[int]) -> None:
        """Forget segments; each is unmapped when the last view of it is gone."""
        for segment in segments:
            self._segments.pop(segment, None)

    def view(self, segment: int, offset: int = 0, nbytes: int | None = None) -> memoryview:
        """Bytes of a segment, all by default; raises ProtocolError if it doesn't have them."""
        mapped = self._segments.get(segment)
        if mapped is None:
            raise ProtocolError(f"there is no segment {segment}")
        if nbytes is None:
            nbytes = len(mapped) - offset
        if offset < 0 or nbytes < 0 or offset + nbytes > len(mapped):
            raise ProtocolError(f"segment {segment} has no {nbytes} bytes at {offset}")
        return memoryview(mapped)[offset : offset + nbytes]


class Worker:
    """Channels, each served by a thread, and the one handler behind them."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.handler: Handler | None = None

    def serve(self, channel: socket.socket) -> None:
        """Answer requests until the other side hangs up or sends what is no frame."""
        with channel:
            while True:
                try:
                    message, descriptors = receive(channel)
                    reply, last = self.answer(message, descriptors)
                    channel.sendall(reply)
                except (OSError, EOFError):
                    return  # the client has thrown the channel away, or is gone
                except ProtocolError as error:
                    sys.stderr.write(f"dioe worker: {error}\n")
                    return
                if last:
                    leave(0)

    def answer(self, message: dict[str, Any], descriptors: list[int]) -> tuple[bytes, bool]:
        """The frame that answers a request, and whether it was the last."""
        identity, op = message.get("id"), message.get("op")
        try:
            self.let_go(message)
            found = self.perform(op, message.get("args"), descriptors)
            return encode_frame({"id": identity, "ok": found}), op == "close"
        except BaseException as error:  # noqa: BLE001 - whatever the handler raises is its answer
            return encode_frame({"id": identity, "error": describe(error)}), False
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def let_go(self, message: dict[str, Any]) -> None:
        """Forget what the client has let go of."""
        self.memory.drop(message.get("drop", []))
        released = message.get("release", [])
        if released and self.handler is not None:
            self.handler.release(released)

    def perform(self, op: Any, args: Any, descriptors: list[int]) -> dict[str, Any]:
        """Do what is asked for."""
        if not isinstance(op, str) or not isinstance(args, dict):
            raise ProtocolError("a request has a text op and an object args")
        if op == "hello":
            return self.hello(args)
        if op == "map":
            if len(descriptors) != 1:
                raise ProtocolError("map comes with one descriptor")
            self.memory.map(args["segment"], args["size"], descriptors[0])
            return {}
        if self.handler is None:
            raise ProtocolError("the first request is hello")
        if op == "close":
            self.handler.close()
            return {}
        return self.handler.handle(op, args, self.memory)

    def hello(self, args: dict[str, Any]) -> dict[str, Any]:
        """Agree on the protocol and make the handler."""
        if args.get("protocol") != PROTOCOL_VERSION:
            raise ProtocolError(
                f"this worker speaks version {PROTOCOL_VERSION} of the protocol, "
                f"the client {args.get('protocol')!r}"
            )
        given = args.get("sys_path", [])
        sys.path[:] = given + [entry for entry in sys.path if entry not in given]
        self.handler = load(args["handler"]).create(args.get("args", {}))
        return {
            "protocol": PROTOCOL_VERSION,
            "python": platform.python_version(),
            "pid": os.getpid(),
        }


def load(name: str) -> Any:
    """The handler's module, by its path (ending in ``.py``) or its name."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location("dioe_worker_handler", name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name!r} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def describe(error: BaseException) -> dict[str, Any]:
    """An error as it travels: names of its classes, most derived first, and its texts."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind is not object]
    cause = getattr(error, "cause", None)
    texts = {"cause": str(error) if cause is None else str(cause)}
    for name in ("place", "fix"):
        texts[name] = str(getattr(error, name, None) or "")
    answer = {name: text[:MAX_TEXT] for name, text in texts.items()}  # type: dict[str, Any]
    answer["kinds"] = kinds
    return answer


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and the descriptors that came with it; raises EOFError, ProtocolError."""
    descriptors = array.array("i")
    try:
        length = body_length(read(channel, PREFIX.size, descriptors))
        return decode_body(read(channel, length, descriptors)), list(descriptors)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def read(channel: socket.socket, nbytes: int, descriptors: array.array[int]) -> bytes:
    """So many bytes; the descriptors that come with them are appended."""
    data = bytearray()
    room = socket.CMSG_SPACE(descriptors.itemsize)
    while len(data) < nbytes:
        part, extra, _, _ = channel.recvmsg(
            nbytes - len(data), room, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        )
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(content) - len(content) % descriptors.itemsize
                descriptors.frombytes(content[:whole])
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def tie_life_to(lifeline: int) -> None:
    """Be killed by the kernel when the last copy of the pipe's other end is closed.

    Where that doesn't exist, the thread at the door notices that the client is gone, unless code
    that never lets Python run keeps it from looking.
    """
    try:
        import fcntl
    except ImportError:
        return
    set_signal = getattr(fcntl, "F_SETSIG", None)
    if set_signal is None:
        return
    fcntl.fcntl(lifeline, set_signal, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    try:
        if os.read(lifeline, 1) == b"":  # closed before anyone listened
            leave(1)
    except BlockingIOError:
        pass  # still open


def attend(door: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve every channel whose descriptor comes through the door; end with the client."""
    descriptors = array.array("i")
    while True:
        try:
            read(door, 1, descriptors)
        except (EOFError, OSError):
            leave(1)
        while descriptors:
            channel = socket.socket(fileno=descriptors.pop())
            threading.Thread(target=serve, args=(channel,), daemon=True).start()


def leave(code: int) -> None:
    """End at once, whatever threads and exit handlers the handler's libraries left behind."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def main(first: int, door: int, lifeline: int) -> None:
    """Serve the inherited channel in this thread until it closes."""
    for descriptor in (first, door, lifeline):
        os.set_inheritable(descriptor, False)
    tie_life_to(lifeline)
    worker = Worker()
    entrance = socket.socket(fileno=door)
    threading.Thread(target=attend, args=(entrance, worker.serve), daemon=True).start()
    worker.serve(socket.socket(fileno=first))
    leave(0)


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    main(*(int(argument) for argument in sys.argv[1:4]))
