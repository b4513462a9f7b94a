"""One measurement at a time on a machine."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

log = logging.getLogger(__name__)

_in_process = threading.RLock()


def _lock_path() -> Path:
    return Path(tempfile.gettempdir()) / "dioe-measuring.lock"


@contextlib.contextmanager
def measuring(timeout_s: float = 60.0, *, warn: bool = True) -> Iterator[bool]:
    """Hold the machine-wide measuring lock. Gives False if it could not be had in ``timeout_s``.

    Without the lock one still measures: the samples are then to be marked noisy. Reentrant within
    a thread. ``warn`` = False is for those who try again and again.
    """
    start = time.monotonic()
    if not _in_process.acquire(timeout=timeout_s):
        yield False
        return
    try:
        lock = filelock.FileLock(_lock_path(), mode=0o666, is_singleton=True)
        try:
            lock.acquire(timeout=max(0.0, timeout_s - (time.monotonic() - start)))
        except (filelock.Timeout, OSError) as error:
            level = logging.WARNING if warn else logging.DEBUG
            log.log(level, "measuring without the machine-wide lock %s: %s", _lock_path(), error)
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
    finally:
        _in_process.release()
