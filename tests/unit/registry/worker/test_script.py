"""The worker's script: frames, old Pythons, and what its syntax and imports may be."""

from __future__ import annotations

import ast
import json
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.registry.worker import Command, WorkerProcess
from dioe.registry.worker import script as wire
from dioe.registry.worker.process import SCRIPT

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def decode(frame: bytes) -> dict[str, Any]:
    size = wire.PREFIX.size
    assert wire.body_length(frame[:size]) == len(frame) - size
    return wire.decode_body(frame[size:])


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_framed_comes_back(message: dict[str, Any]) -> None:
    assert decode(wire.encode_frame(message)) == message


@given(st.binary(min_size=8, max_size=8))
def test_a_prefix_is_a_length_within_the_limit_or_refused(prefix: bytes) -> None:
    try:
        length = wire.body_length(prefix)
    except wire.ProtocolError:
        assert prefix[:4] != b"DIOE" or struct.unpack("<I", prefix[4:])[0] > wire.MAX_FRAME_BYTES
    else:
        assert 0 <= length <= wire.MAX_FRAME_BYTES
        assert prefix == b"DIOE" + struct.pack("<I", length)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:1e-u\\', max_size=60).map(str.encode))
def test_a_body_is_an_object_or_refused(body: bytes) -> None:
    try:
        message = wire.decode_body(body)
    except wire.ProtocolError:
        return
    assert message == json.loads(body)


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 200_000, b"[]", b"7" * 10_000, b"\xff"]
)
def test_bodies_that_would_hurt_are_refused(body: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.decode_body(body)


def test_a_message_too_long_for_a_frame() -> None:
    with pytest.raises(wire.ProtocolError, match="is more than the"):
        wire.encode_frame({"x": "y" * wire.MAX_FRAME_BYTES})


def test_syntax_and_imports_of_the_script_are_those_of_python_3_7() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported <= sys.stdlib_module_names
    since = {"removeprefix", "removesuffix", "recv_fds", "send_fds", "memfd_create", "pidfd_open"}
    assert since.isdisjoint({n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)})


def interpreters() -> list[str]:
    """Other Pythons of this machine, from 3.7 up, one of each version."""
    found: dict[str, str] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for minor in range(7, 15):
        version = f"3.{minor}"
        path = shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin")
        candidates = [path, *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        installed = [one for one in candidates if one]
        if installed and sys.version_info[:2] != (3, minor):
            found[version] = installed[0]
    return list(found.values())


HANDLER = '''
class InputError(Exception):
    """Of this name in the contract; this Python needs no DIOE."""
    place, fix = "input 'x'", "give another"

class Handler:
    def handle(self, op, args, memory):
        if op == "refuse":
            raise InputError("not like this")
        view = memory.view(args["segment"], args["offset"], 4)
        view[:] = bytes(reversed(bytes(view)))
        return {"first": view[0]}

    def release(self, ids):
        pass

    def close(self):
        pass

def create(args):
    return Handler()
'''


@pytest.mark.parametrize("python", interpreters() or [None])
def test_the_worker_runs_on_other_pythons(python: str | None, tmp_path: Path) -> None:
    if python is None:
        pytest.skip("no other Python from 3.7 up is installed")
    handler = tmp_path / "handler.py"
    handler.write_text(HANDLER)
    worker = WorkerProcess(Command(str(handler), python=python), start_limit_s=30)
    try:
        version = tuple(int(part) for part in worker.hello["python"].split(".")[:2])
        assert version >= (3, 7)
        assert version != sys.version_info[:2]
        segment = worker.segment(100)
        segment.bytes(64, 4)[:] = [1, 2, 3, 4]
        answer = worker.call("reverse", {"segment": segment.id, "offset": 64}, limit_s=5)
        assert answer == {"first": 4}
        assert segment.bytes(64, 4).tolist() == [4, 3, 2, 1]
        with pytest.raises(Exception, match="not like this") as caught:
            worker.call("refuse", {}, limit_s=5)
        assert type(caught.value).__name__ == "InputError"
        assert type(caught.value).__module__ == "dioe.types"
        assert str(caught.value) == "input 'x': not like this\n  give another"
    finally:
        worker.close()
