"""One measurement at a time: between processes, between threads, and again within one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dioe.profiling import measuring

HOLD = """
import sys
from dioe.profiling.lock import measuring
with measuring(float(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def lock_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, so that it waits for nobody else's measurement."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@contextmanager
def another_process(timeout_s: float = 20.0) -> Iterator[str]:
    """A process that holds the lock, or says that it couldn't get it, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(timeout_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.communicate("", timeout=30)
        assert process.returncode == 0


def test_between_processes(caplog: pytest.LogCaptureFixture, lock_folder: Path) -> None:
    with another_process() as other:
        assert other == "True"
        assert list(lock_folder.iterdir()) == [lock_folder / "dioe-measuring.lock"]
        with caplog.at_level(logging.WARNING), measuring(timeout_s=0.1) as held:
            assert not held
    assert "without the machine-wide lock" in caplog.text
    with measuring(timeout_s=20.0) as held:
        assert held
        with another_process(timeout_s=0.1) as other:
            assert other == "False"
    with another_process() as other:
        assert other == "True"


def test_a_process_that_dies_gives_the_lock_back() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "20"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        process.kill()
    with measuring(timeout_s=20.0) as held:
        assert held


def test_again_within_a_thread() -> None:
    with measuring() as outer:
        with measuring(timeout_s=0.0) as inner:
            assert outer
            assert inner
        # leaving the inner one gives nothing back
        with another_process(timeout_s=0.0) as other:
            assert other == "False"


def test_between_threads() -> None:
    results: list[bool] = []

    def measure(timeout_s: float) -> None:
        with measuring(timeout_s) as held:
            results.append(held)

    with measuring():
        thread = threading.Thread(target=measure, args=(0.05,))
        thread.start()
        thread.join()
    assert results == [False]
    with measuring():
        waiting = threading.Thread(target=measure, args=(20.0,))
        waiting.start()
    waiting.join()
    assert results == [False, True]


def test_an_error_while_measuring_gives_the_lock_back() -> None:
    with pytest.raises(OSError, match="the device is gone"), measuring():
        raise OSError("the device is gone")
    with another_process() as other:
        assert other == "True"


def test_where_no_file_can_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, where a folder is needed")
    monkeypatch.setattr(tempfile, "tempdir", str(blocked))
    with caplog.at_level(logging.WARNING), measuring(timeout_s=1.0) as held:
        assert not held
    assert str(blocked) in caplog.text
    with pytest.raises(KeyError, match="mine"), measuring(timeout_s=1.0):
        raise KeyError("mine")
