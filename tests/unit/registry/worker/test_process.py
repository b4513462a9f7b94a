"""Worker processes that end, hang, print, and lie; clients that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dioe.registry.worker import Command, WorkerProcess
from dioe.registry.worker.errors import how_it_ended, remote_error
from dioe.registry.worker.process import SCRIPT
from dioe.types import (
    BackendError,
    DeviceLost,
    InputError,
    OutOfMemory,
    TimedOut,
    UnsupportedError,
)

HANDLER = """
import builtins, ctypes, os, sys, threading, time

class Handler:
    def __init__(self, args):
        self.args, self.released = args, []

    def handle(self, op, args, memory):
        return getattr(self, op)(memory=memory, **args)

    def echo(self, memory, **args):
        return args

    def facts(self, memory):
        return {"folder": self.args["folder"], "given": self.args.get("given"),
                "thread": threading.get_ident(), "released": self.released}

    def fill(self, memory, segment, value):
        view = memory.view(segment)
        view[:8] = bytes([value]) * 8
        return {}

    def beyond(self, memory, segment):
        memory.view(segment, 4000, 4097)

    def exit(self, memory, code):
        print("about to leave", file=sys.stderr, flush=True)
        os._exit(code)

    def crash(self, memory):
        ctypes.string_at(0)

    def hang(self, memory):
        ctypes.PyDLL(None).sleep(60)  # in C, with the lock of the interpreter held

    def sleep(self, memory, seconds):
        time.sleep(seconds)
        return {}

    def shout(self, memory, count):
        for _ in range(count):
            print("x" * 9999)
            print("y" * 9999, file=sys.stderr)
        return {}

    def fork(self, memory):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        return {"pid": pid}

    def big(self, memory):
        return {"x": "y" * (9 << 20)}

    def unprintable(self, memory):
        return {"x": object()}

    def throw(self, memory, kind):
        raise getattr(builtins, kind)("so it is")

    def release(self, ids):
        self.released += ids

    def close(self):
        pass

def create(args):
    if args.get("broken"):
        raise OSError("no card")
    return Handler(args)
"""

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    handler = tmp_path / "handler.py"
    handler.write_text(HANDLER)
    started: list[WorkerProcess] = []

    def make(**args: object) -> WorkerProcess:
        started.append(WorkerProcess(Command(str(handler), args), start_limit_s=20))
        return started[-1]

    yield make
    for worker in started:
        worker.close()
        assert not psutil.pid_exists(worker.pid)


def test_calls(start: Start) -> None:
    worker = start(given=7)
    before = worker.alive
    assert before
    assert worker.hello["pid"] == worker.pid
    assert worker.call("echo", {"a": [1, None, "ü"]}, limit_s=5) == {"a": [1, None, "ü"]}
    facts = worker.call("facts", {}, limit_s=5)
    assert facts["given"] == 7
    Path(facts["folder"]).mkdir()  # as a handler that needs it does
    worker.close()
    assert not worker.alive
    assert not Path(facts["folder"]).exists()
    with pytest.raises(BackendError, match="the worker was closed"):
        worker.call("echo", {}, limit_s=5)


def test_memory_is_shared_and_sealed(start: Start) -> None:
    worker = start()
    segment = worker.segment(100)
    worker.call("fill", {"segment": segment.id, "value": 9}, limit_s=5)
    assert segment.bytes(0, 9).tolist() == [9] * 8 + [0]
    assert worker.find(segment.array(8, (2, 3), np.dtype(np.int16))) == (segment.id, 8)
    assert worker.find(np.ones(3)) is None
    with pytest.raises(BackendError, match=r"segment \d+ has no 4097 bytes at 4000"):
        worker.call("beyond", {"segment": segment.id}, limit_s=5)
    identity, view = segment.id, segment.bytes(0, 8)
    del segment
    worker.call("fill", {"segment": identity, "value": 3}, limit_s=5)
    assert view.tolist() == [3] * 8  # a view keeps it
    del view
    with pytest.raises(BackendError, match=f"there is no segment {identity}"):
        worker.call("fill", {"segment": identity, "value": 3}, limit_s=5)


def test_the_worker_cannot_shrink_memory(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("memory is sealed on Linux only")
    from dioe.registry.worker.memory import make_segment

    segment, descriptor = make_segment(1, 8192)
    try:
        for size in (0, 4096, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
    assert segment.bytes().sum() == 0
    with pytest.raises(OutOfMemory, match="bytes of shared memory"):
        make_segment(1, 1 << 62)


def test_several_threads_are_served_at_once(start: Start) -> None:
    worker = start()
    begin = time.monotonic()
    calls = [
        threading.Thread(
            target=worker.call, args=("sleep", {"seconds": 0.5}), kwargs={"limit_s": 9}
        )
        for _ in range(8)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert time.monotonic() - begin < 2
    one, other = (worker.call("facts", {}, limit_s=5)["thread"] for _ in range(2))
    assert one == other  # the channel used last is used again


def test_released_objects_are_told_with_the_next_call(start: Start) -> None:
    worker = start()
    worker.release(5)
    worker.release(6)
    assert worker.call("facts", {}, limit_s=5)["released"] == [5, 6]
    assert worker.call("facts", {}, limit_s=5)["released"] == [5, 6]


@pytest.mark.parametrize(
    ("op", "args", "how"),
    [
        ("exit", {"code": 3}, "it ended itself with exit code 3 during 'exit'"),
        ("exit", {"code": 0}, "it ended itself with exit code 0"),
        ("crash", {}, "it was killed by SIGSEGV during 'crash'"),
    ],
)
def test_the_end_of_a_worker_is_told(start: Start, op: str, args: dict[str, int], how: str) -> None:
    worker = start()
    with pytest.raises(DeviceLost, match=how) as caught:
        worker.call(op, args, limit_s=20)
    assert ("about to leave" in str(caught.value)) == (op == "exit")
    assert not worker.alive
    with pytest.raises(DeviceLost, match=how):
        worker.call("echo", {}, limit_s=5)
    with pytest.raises(DeviceLost, match=how):
        worker.segment(10)


def test_one_dies_and_all_who_wait_hear_of_it(start: Start) -> None:
    worker = start()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            worker.call("sleep", {"seconds": 30}, limit_s=60)
        except DeviceLost as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    os.kill(worker.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(10)
    assert ["SIGKILL" in str(error) for error in errors] == [True] * 4


def test_a_deadline_stops_the_worker(start: Start) -> None:
    worker = start()
    begin = time.monotonic()
    with pytest.raises(
        TimedOut, match=r"no answer to 'hang' within 0\.3 s; the worker was stopped"
    ):
        worker.call("hang", {}, limit_s=0.3)
    assert time.monotonic() - begin < 5
    assert not psutil.pid_exists(worker.pid)
    with pytest.raises(DeviceLost, match="the worker was stopped: no answer to 'hang'"):
        worker.call("echo", {}, limit_s=5)


def test_a_worker_that_somebody_stopped(start: Start) -> None:
    """SIGSTOP, as a debugger or an overcommitted machine sends it: it costs the deadline."""
    worker = start()
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(TimedOut, match=r"no answer to 'echo' within 0\.3 s"):
        worker.call("echo", {}, limit_s=0.3)
    assert not psutil.pid_exists(worker.pid)
    assert not worker.folder.exists()


def test_what_it_prints_neither_blocks_it_nor_fills_memory(start: Start) -> None:
    worker = start()
    assert worker.call("shout", {"count": 200}, limit_s=20) == {}
    worker.call("echo", {}, limit_s=5)
    assert 0 < len(worker.printed) <= 4096


def test_children_of_a_worker_go_with_it(start: Start) -> None:
    worker = start()
    child = worker.call("fork", {}, limit_s=5)["pid"]
    assert psutil.pid_exists(child)
    begin = time.monotonic()
    with pytest.raises(DeviceLost, match="exit code 4"):  # the child holds the sockets open
        worker.call("exit", {"code": 4}, limit_s=20)
    assert time.monotonic() - begin < 5
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_errors_of_the_handler(start: Start) -> None:
    worker = start()
    for kind, expected in (
        ("MemoryError", OutOfMemory),
        ("ValueError", BackendError),
        ("SystemExit", BackendError),
        ("KeyboardInterrupt", BackendError),
    ):
        with pytest.raises(expected, match="so it is") as caught:
            worker.call("throw", {"kind": kind}, limit_s=5)
        if expected is BackendError:
            assert caught.value.cause == f"{kind}: so it is"
    with pytest.raises(BackendError, match="more than the"):
        worker.call("big", {}, limit_s=20)
    with pytest.raises(BackendError, match="not JSON serializable"):
        worker.call("unprintable", {}, limit_s=5)
    with pytest.raises(BackendError, match="can't be asked"):
        worker.call("echo", {"x": "y" * (9 << 20)}, limit_s=5)
    assert worker.call("echo", {}, limit_s=5) == {}


def test_a_handler_that_cannot_be_made(start: Start, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="OSError: no card"):
        start(broken=True)
    with pytest.raises(BackendError, match="ModuleNotFoundError"):
        WorkerProcess(Command("no.such.module"), start_limit_s=20)
    with pytest.raises(BackendError, match="can't be started"):
        WorkerProcess(Command("x", python=str(tmp_path / "nothing")), start_limit_s=20)
    with pytest.raises(DeviceLost, match="exit code 2"):
        WorkerProcess(Command("x", script=tmp_path / "nothing.py"), start_limit_s=20)


def test_an_interrupt_leaves_the_worker_usable(start: Start) -> None:
    worker = start()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        worker.call("sleep", {"seconds": 0.6}, limit_s=20)
    timer.join()
    assert worker.call("echo", {"a": 1}, limit_s=5) == {"a": 1}  # not the answer to the other


@pytest.mark.parametrize("mine", [2, "1", None])
def test_another_version_is_refused_by_the_worker(tmp_path: Path, mine: object) -> None:
    script = tmp_path / "script.py"
    text = SCRIPT.read_text(encoding="utf-8")
    assert "PROTOCOL_VERSION = 1" in text
    script.write_text(text.replace("PROTOCOL_VERSION = 1", f"PROTOCOL_VERSION = {mine!r}"))
    with pytest.raises(BackendError, match=r"speaks version .* of the protocol, the client 1"):
        WorkerProcess(Command("json", script=script), start_limit_s=20)


LIES = {
    "another version": (b'{"id":1,"ok":{"protocol":9}}', "speaks version 9 of the protocol"),
    "no version": (b'{"id":1,"ok":{}}', "speaks version None"),
    "another id": (b'{"id":2,"ok":{"protocol":1}}', "belongs to no request"),
    "no answer": (b'{"id":1}', "belongs to no request"),
    "not an object": (b'{"id":1,"ok":[]}', "belongs to no request"),
    "a list": (b"[1]", "holds no JSON object"),
    "deep": (b"[" * 100_000, "holds no JSON"),
    "no JSON": (b"\xff\x00", "holds no JSON"),
    "an odd error": (b'{"id":1,"error":[7]}', "unknown error"),
    "an error of odd texts": (
        b'{"id":1,"error":{"kinds":[3,"X\\u001b[2J"],"cause":["x"],"place":7}}',
        r"X\\x1b\[2J:",
    ),
}


def liar(tmp_path: Path, code: str) -> Command:
    script = tmp_path / "liar.py"
    head = "import socket, struct, sys, time\ns = socket.socket(fileno=int(sys.argv[1]))\n"
    script.write_text(head + "s.recv(99999)\n" + textwrap.dedent(code))
    return Command("x", script=script)


@pytest.mark.parametrize(("body", "match"), LIES.values(), ids=LIES.keys())
def test_a_worker_that_lies(tmp_path: Path, body: bytes, match: str) -> None:
    command = liar(
        tmp_path,
        f"b = {body!r}\ns.sendall(b'DIOE' + struct.pack('<I', len(b)) + b)\ntime.sleep(60)",
    )
    begin = time.monotonic()
    with pytest.raises(BackendError, match=match):
        WorkerProcess(command, start_limit_s=20)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("code", "kind", "match"),
    [
        ("s.sendall(b'HTTP/1.1 200 OK'); time.sleep(60)", BackendError, "doesn't begin a frame"),
        ("s.sendall(b'DIOE' + b'\\xff' * 4); time.sleep(60)", BackendError, "is longer than"),
        ("s.sendall(b'DIO'); s.close(); time.sleep(60)", DeviceLost, "hung up during 'hello'"),
        ("s.sendall(b'DIOE' + b'\\0\\0\\1\\0')", DeviceLost, "exit code 0"),
        ("time.sleep(60)", TimedOut, "no answer to 'hello'"),
        (
            "s.sendall(b'DIOE' + b'\\0\\0\\1\\0')\n"
            "while True:\n    s.sendall(b' '); time.sleep(0.05)",
            TimedOut,
            "no answer to 'hello'",
        ),
    ],
)
def test_a_worker_that_breaks_frames(
    tmp_path: Path, code: str, kind: type[Exception], match: str
) -> None:
    begin = time.monotonic()
    with pytest.raises(kind, match=match):
        WorkerProcess(liar(tmp_path, code), start_limit_s=1)
    assert time.monotonic() - begin < 8


def test_a_fork_of_the_client_neither_uses_nor_ends_the_worker(tmp_path: Path) -> None:
    """In a process of its own: this one has threads, and is not to be forked."""
    handler = tmp_path / "handler.py"
    handler.write_text(HANDLER)
    code = f"""
import os
from dioe.registry.worker import Command, WorkerProcess
from dioe.types import BackendError
worker = WorkerProcess(Command({str(handler)!r}), start_limit_s=20)
pid = os.fork()
if pid == 0:
    try:
        worker.call("echo", {{}}, limit_s=5)
    except BackendError as error:
        assert "forked" in str(error)
        worker.close()
        del worker
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert worker.call("echo", {{"a": 1}}, limit_s=5) == {{"a": 1}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("op", ["echo", "hang"])
def test_a_worker_ends_with_its_client(tmp_path: Path, op: str) -> None:
    if op == "hang" and sys.platform != "linux":
        pytest.skip("the kernel kills it on Linux only")
    handler = tmp_path / "handler.py"
    handler.write_text(HANDLER)
    code = f"""
import threading, time
from dioe.registry.worker import Command, WorkerProcess
worker = WorkerProcess(Command({str(handler)!r}), start_limit_s=20)
print(worker.pid, flush=True)
worker.call({op!r}, {{}}, limit_s=60)
time.sleep(60)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert client.stdout is not None
    with client, client.stdout:
        pid = int(client.stdout.readline())
        time.sleep(0.3)
        assert psutil.pid_exists(pid)
        client.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_platforms_without_descriptors_over_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("socket.AF_UNIX")
    with pytest.raises(UnsupportedError, match="Unix sockets"):
        WorkerProcess(Command("x"), start_limit_s=1)


def test_errors_by_name() -> None:
    error = remote_error({"kinds": ["Special", "InputError"], "cause": "c", "fix": "f"}, "w")
    assert type(error) is InputError
    assert (error.cause, error.place, error.fix) == ("c", "w", "f")
    assert remote_error({"kinds": ["DioeError"], "cause": "c"}, "w").cause == "DioeError: c"
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(-99) == "was killed by signal 99"
