"""A worker process as the client sees it: started, asked, found dead, stopped.

The protocol is described in docs/decisions/0010-workers.md.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dioe.registry.worker.channel import Channel, Late
from dioe.registry.worker.errors import how_it_ended, remote_error
from dioe.registry.worker.memory import Segment, make_segment
from dioe.registry.worker.noise import Noise
from dioe.registry.worker.script import PROTOCOL_VERSION, ProtocolError, encode_frame
from dioe.types import Array, BackendError, DeviceLost, TimedOut, UnsupportedError

log = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("script.py")
CLOSE_LIMIT_S = 5.0
"""How long a worker may take to close what it holds before it is killed."""

SHOWN_LINES = 20
"""Lines of a dead worker's stderr in the text of the error."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a worker: which Python, which handler, what the handler is told.

    ``handler`` is the name of a module or the path of a file (ending in ``.py``); ``sys_path`` goes
    before the worker's own. ``place`` names the worker in messages. The handler also gets
    ``folder``, a path for files that go when the worker does; nobody has made it yet.
    """

    handler: str
    args: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    sys_path: Sequence[str] = ()
    script: Path = SCRIPT
    place: str = "worker"

    @classmethod
    def same_python(cls, handler: str, args: Mapping[str, Any], place: str) -> Command:
        """A worker that finds the modules that this process would find now."""
        path = tuple(entry or os.getcwd() for entry in sys.path)
        return cls(handler, args, sys_path=path, place=place)


def check_platform() -> None:
    """Raise UnsupportedError where descriptors can't be passed to another process."""
    if not hasattr(socket, "AF_UNIX") or not hasattr(socket.socket, "sendmsg"):
        raise UnsupportedError(
            f"workers need Unix sockets that carry descriptors, which {sys.platform} lacks",
            place="worker",
            fix="use Linux (or WSL), or the plugin without a worker",
        )


class WorkerProcess:
    """A running worker. Thread-safe: each call takes a channel of its own.

    Raises, on starting: UnsupportedError (this platform), BackendError (the worker can't start,
    speaks another version, its handler raises), TimedOut. The process, its memory and its
    descriptors go with ``close``, with the last reference to this object, or with the process that
    started it.
    """

    def __init__(self, command: Command, *, start_limit_s: float) -> None:
        check_platform()
        self.place = command.place
        self._lock = threading.Lock()
        self._counter = itertools.count(1)
        self._lost = ""
        self._lost_kind: type[BackendError | DeviceLost] = DeviceLost
        self._dropped: deque[int] = deque()
        self._released: deque[int] = deque()
        self._segments: weakref.WeakValueDictionary[int, Segment] = weakref.WeakValueDictionary()
        self._life = _Life(command)
        self._finalizer = weakref.finalize(self, self._life.end)
        self.folder = Path(self._life.folder)
        try:
            self.hello = self._greet(command, start_limit_s)
        except BaseException:
            self._finalizer()
            raise

    def _greet(self, command: Command, limit_s: float) -> Mapping[str, Any]:
        args = {
            "protocol": PROTOCOL_VERSION,
            "sys_path": list(command.sys_path),
            "handler": command.handler,
            "args": {**command.args, "folder": self._life.folder},
        }
        answer = self.call("hello", args, limit_s=limit_s)
        if answer.get("protocol") != PROTOCOL_VERSION:
            raise BackendError(
                f"the worker speaks version {answer.get('protocol')!s:.20} of the protocol, "
                f"this DIOE version {PROTOCOL_VERSION}",
                place=self.place,
                fix="update whichever is older",
            )
        return answer

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._life.process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked. False in a process forked from the one that started it."""
        return not self._lost and self._life.owner == os.getpid() and self._life.running

    @property
    def printed(self) -> str:
        """The end of what it wrote to stdout."""
        self._life.stdout.drain()
        return self._life.stdout.tail

    @property
    def how_it_ended(self) -> str:
        """Its end in words: the name of the signal, or the exit code."""
        return how_it_ended(self._life.process.returncode)

    def call(
        self,
        op: str,
        args: Mapping[str, Any],
        *,
        limit_s: float,
        descriptors: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Ask and wait for the answer.

        Raises what the worker's handler raised, DeviceLost when the worker is or gets lost,
        TimedOut after ``limit_s`` (the worker is killed then), BackendError for an answer that is
        none.
        """
        self._check()
        deadline = time.monotonic() + limit_s
        identity = next(self._counter)
        frame = self._frame(identity, op, args)
        channel = self._take()
        kept = False
        try:
            channel.send(frame, descriptors, deadline)
            answer = channel.receive(deadline)
            if answer.get("id") != identity or not (
                isinstance(answer.get("ok"), dict) or "error" in answer
            ):
                raise ProtocolError("the answer belongs to no request")
            kept = True
        except Late:
            cause = f"no answer to {op!r} within {limit_s:g} s"
            self._bury(f"the worker was stopped: {cause}", DeviceLost)
            raise TimedOut(
                cause + "; the worker was stopped", place=self.place, fix=self._last_words()
            ) from None
        except ProtocolError as error:
            self._bury(f"the worker was stopped, it broke the protocol: {error}", BackendError)
            raise self._lost_error() from None
        except (EOFError, OSError) as error:
            self._find_out(op, error)
            raise self._lost_error() from None
        finally:
            if kept:
                self._life.give_back(channel)
            else:  # an answer may still come: nobody can use it again
                self._life.discard(channel)
        if "error" in answer:
            raise remote_error(answer["error"], self.place)
        found: dict[str, Any] = answer["ok"]
        return found

    def _frame(self, identity: int, op: str, args: Mapping[str, Any]) -> bytes:
        message: dict[str, Any] = {"id": identity, "op": op, "args": args}
        if self._dropped:
            message["drop"] = _taken(self._dropped)
        if self._released:
            message["release"] = _taken(self._released)
        try:
            return encode_frame(message)
        except ProtocolError as error:
            self._dropped.extend(message.get("drop", ()))
            self._released.extend(message.get("release", ()))
            raise BackendError(f"{op!r} can't be asked: {error}", place=self.place) from None

    def _check(self) -> None:
        if self._life.owner != os.getpid():
            raise BackendError(
                "the worker belongs to the process this one was forked from",
                place=self.place,
                fix="start processes by spawn, or open backends after the fork",
            )
        if self._lost:
            raise self._lost_error()

    def _take(self) -> Channel:
        try:
            return self._life.take()
        except OSError as error:
            if self._life.running:
                raise BackendError(
                    f"no channel to the worker: {error}", place=self.place
                ) from error
            self._find_out("a new channel", error)
            raise self._lost_error() from None

    def _find_out(self, op: str, error: BaseException) -> None:
        """The other end of a channel is gone: find out why, and end what is left."""
        self._life.wait(1.0)
        if self._life.running:
            self._bury(f"the worker hung up during {op!r} ({error})", DeviceLost)
        else:
            self._life.end()
            self._bury(f"the worker is gone: it {self.how_it_ended} during {op!r}", DeviceLost)

    def _bury(self, cause: str, kind: type[BackendError | DeviceLost]) -> None:
        with self._lock:
            if not self._lost:
                self._lost, self._lost_kind = cause, kind
        self._finalizer()

    def _lost_error(self) -> BackendError | DeviceLost:
        return self._lost_kind(self._lost, place=self.place, fix=self._last_words())

    def _last_words(self) -> str:
        lines = self._life.stderr.tail.splitlines()[-SHOWN_LINES:]
        return "\n  ".join(["it last wrote to stderr:", *lines]) if lines else ""

    def segment(self, nbytes: int) -> Segment:
        """New memory that the worker has mapped too. Raises OutOfMemory and what ``call`` does."""
        made, descriptor = make_segment(next(self._counter), nbytes)
        try:
            args = {"segment": made.id, "size": len(made)}
            self.call("map", args, limit_s=CLOSE_LIMIT_S * 6, descriptors=[descriptor])
        finally:
            os.close(descriptor)
        self._segments[made.id] = made
        weakref.finalize(made, self._dropped.append, made.id).atexit = False
        return made

    def find(self, array: Array) -> tuple[int, int] | None:
        """The segment and offset where a C-contiguous array lies; None if in none of them."""
        if not array.flags.c_contiguous or array.nbytes == 0:
            return None
        first = array.__array_interface__["data"][0]
        for reference in self._segments.valuerefs():  # a list, so that other threads may add
            segment = reference()
            offset = -1 if segment is None else first - segment.address
            if segment is not None and 0 <= offset <= len(segment) - array.nbytes:
                return segment.id, offset
        return None

    def release(self, identity: int) -> None:
        """Tell the worker, with whatever is asked next, that an object isn't needed any more."""
        self._released.append(identity)

    def close(self) -> None:
        """End the worker: it may close what it holds, then it is killed. May be called again."""
        if self.alive:
            with contextlib.suppress(DeviceLost, TimedOut, BackendError):  # gone all the same
                self.call("close", {}, limit_s=CLOSE_LIMIT_S)
                self._life.wait(CLOSE_LIMIT_S)
        self._bury("the worker was closed", BackendError)


def _taken(queue: deque[int]) -> list[int]:
    taken: list[int] = []
    with contextlib.suppress(IndexError):  # another thread took the last
        while len(taken) < 10_000:
            taken.append(queue.popleft())
    return taken


class _Life:
    """The process and everything open towards it; knows nothing of the object that uses it."""

    def __init__(self, command: Command) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._ending = threading.RLock()  # a finalizer may run in the thread that holds it
        self._ended = False
        self._idle: list[Channel] = []
        self._busy: set[Channel] = set()
        with contextlib.ExitStack() as stack:
            # Only named here: who needs it makes it, so that it seldom outlives a killed client.
            name = f"dioe-worker-{secrets.token_hex(16)}"
            self.folder = os.path.join(tempfile.gettempdir(), name)
            ours, first = socket.socketpair()
            self._door, door = socket.socketpair()
            out, stdout = os.pipe()
            err, stderr = os.pipe()
            lifeline, self._lifeline = os.pipe()
            for near in (ours, self._door):
                stack.callback(near.close)
            for descriptor in (out, err, self._lifeline):
                stack.callback(os.close, descriptor)
            theirs = (first.fileno(), door.fileno(), lifeline)
            try:
                self.process = subprocess.Popen(
                    [command.python, "-I", "-u", os.fspath(command.script), *map(str, theirs)],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=theirs,
                    start_new_session=True,
                )
            except OSError as error:
                raise BackendError(
                    f"{command.python} can't be started: {error}", place=command.place
                ) from error
            finally:
                first.close()
                door.close()
                for descriptor in (stdout, stderr, lifeline):
                    os.close(descriptor)
            self.stdout, self.stderr = Noise(out), Noise(err)
            self._pidfd = _pidfd(self.process.pid)
            self._idle.append(self._channel(ours))
            stack.pop_all()

    def _channel(self, near: socket.socket) -> Channel:
        return Channel(near, self._pidfd, (self.stdout, self.stderr), lambda: self.running)

    @property
    def running(self) -> bool:
        """Whether the process runs. It isn't reaped: until ``end`` its id must stay its own."""
        if self.process.returncode is not None:
            return False
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.process.pid, flags) is None
        except AttributeError:  # no waitid on macOS before Python 3.13
            return self.process.poll() is None
        except ChildProcessError:  # somebody else has reaped it
            return False

    def take(self) -> Channel:
        """An idle channel, the one used last, or a new one. Raises OSError."""
        with self._lock:
            if self._ended:
                raise BrokenPipeError("the worker has ended")
            if self._idle:
                channel = self._idle.pop()
            else:
                near, far = socket.socketpair()
                with far:
                    try:
                        socket.send_fds(self._door, [b"c"], [far.fileno()])
                    except OSError:
                        near.close()
                        raise
                channel = self._channel(near)
            self._busy.add(channel)
            return channel

    def give_back(self, channel: Channel) -> None:
        with self._lock:
            self._busy.discard(channel)
            if not self._ended:
                self._idle.append(channel)
                return
        channel.close()

    def discard(self, channel: Channel) -> None:
        with self._lock:
            self._busy.discard(channel)
        channel.close()

    def wait(self, limit_s: float) -> None:
        """Wait for the end of the process, without reaping it."""
        deadline = time.monotonic() + limit_s
        while self.running and time.monotonic() < deadline:
            time.sleep(0.005)

    def end(self) -> None:
        """Kill the process and what it started, and close everything. Once: whoever calls while
        another thread does so returns when it is done, and finds the exit code."""
        with self._ending:
            with self._lock:
                if self._ended:
                    return
                self._ended = True
                idle, self._idle = self._idle, []
            self._end(idle)

    def _end(self, idle: Sequence[Channel]) -> None:
        if self.owner == os.getpid():
            # Before the process is waited for, so that its id can't be another's by then.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            try:
                self.process.wait(CLOSE_LIMIT_S)
            except subprocess.TimeoutExpired:
                log.warning("worker %d doesn't end on SIGKILL", self.process.pid)
            shutil.rmtree(self.folder, ignore_errors=True)
        for noise in (self.stdout, self.stderr):
            if self.owner == os.getpid():
                noise.drain_rest()
            noise.close()
        for channel in idle:  # a busy one is closed by the call that uses it
            channel.close()
        self._door.close()
        for descriptor in (self._lifeline, self._pidfd):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = None


def _pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there is none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
