"""Building the simulated device, and the end of processes that use it."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dioe_torch.simulated import BuildError, build, reason_unavailable

pytestmark = pytest.mark.skipif(reason_unavailable() is not None, reason=str(reason_unavailable()))

BEGIN = """
import os, signal, threading, torch
from dioe_torch.simulated import load
mlu = load()
stream = mlu.Stream("mlu:1")
pinned = torch.randn(1000).pin_memory()
"""
PENDING = """
hold = mlu.hold(stream)
hold.__enter__()
with mlu.stream(stream):
    device = pinned.to("mlu:1", non_blocking=True)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    reason = reason_unavailable()
    assert reason is not None
    assert "compiler" in reason
    with pytest.raises(BuildError, match="compiler"):
        build.library(tmp_path)


def test_a_compiler_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(BuildError, match="no such flag"):
        build.library(tmp_path / "cache")
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left == {"lock"}


def test_code_is_not_loaded_from_where_others_can_write(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(BuildError, match="not loaded from there"):
        build.library(shared)
    with pytest.raises(BuildError, match="no place"):
        build.library(Path("/dev/null/cache"))


def test_it_is_built_once_and_for_its_user(simulated_cache: Path) -> None:
    built = build.library()
    assert built.parent == simulated_cache
    when = built.stat().st_mtime_ns
    assert build.library() == built
    assert built.stat().st_mtime_ns == when
    assert simulated_cache.stat().st_mode & 0o077 == 0
    assert not [path for path in simulated_cache.iterdir() if path.is_dir()]


def test_builds_at_once_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file lock serves threads as it does processes: who comes later finds it built."""
    compiler = tmp_path / "compiler"
    calls = tmp_path / "calls"
    compiler.write_text(
        f"#!/bin/sh\necho >> {calls}\nsleep 0.1\n"
        'while [ "$1" != -o ]; do shift; done\nprintf built > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with ThreadPoolExecutor() as pool:
        built = set(pool.map(build.library, [tmp_path / "cache"] * 3))
    assert {path.read_text() for path in built} == {"built"}
    assert len(calls.read_text()) == 3  # two sources and the link


def test_a_process_ends_with_work_pending(simulated_cache: Path) -> None:
    done = run(PENDING + "print('end')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_process_ends_at_ctrl_c(simulated_cache: Path) -> None:
    done = run(
        PENDING
        + "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        + "threading.Event().wait(30)"
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_forked_process_is_told(simulated_cache: Path) -> None:
    done = run(
        """
device = pinned.to("mlu:1")
import warnings
with warnings.catch_warnings(action="ignore"):
    child = os.fork()
if child == 0:
    assert mlu._is_in_bad_fork()
    try:
        device.cpu()
    except RuntimeError as error:
        print(error, flush=True)
    raise SystemExit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
"""
    )
    assert "forked process" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_another_backend_in_the_process(simulated_cache: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import torch; torch.utils.rename_privateuse1_backend('other')\n"
            "from dioe_torch.simulated import BuildError, load\n"
            "try: load()\nexcept BuildError as error: print(error)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "another backend in torch's PrivateUse1: other" in done.stdout
