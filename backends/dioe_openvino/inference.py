"""A run that was started and may not be done yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dioe.types import DioeError, TimedOut
from dioe_openvino.errors import PLACE, run_error


class Inference:
    """The event of an InferRequest that was started. Any thread may wait for it."""

    __slots__ = ("_done", "_error", "_finish", "_lock", "_request")

    def __init__(self, request: Any, finish: Callable[[], None]) -> None:
        """``finish`` is called once, by the thread that first sees the run done."""
        self._request, self._finish = request, finish
        self._lock = threading.Lock()
        self._done = False
        self._error: Exception | None = None

    def wait(self, timeout_ms: float | None = None) -> None:
        """See ``dioe.types.Event``. Raises TimedOut, or the error of the run each time."""
        with self._lock:
            if not self._done:
                self._settle(timeout_ms)
        if self._error is not None:
            raise self._error

    def _settle(self, timeout_ms: float | None) -> None:
        try:
            if timeout_ms is None:
                self._request.wait()
            elif not self._request.wait_for(max(1, int(timeout_ms))):
                raise TimedOut(f"the run had not finished after {timeout_ms} ms", place=PLACE)
            self._done = True
            self._finish()
        except TimedOut:
            raise
        except Exception as error:  # noqa: BLE001 - raised by each who waits
            self._done = True
            self._error = error if isinstance(error, DioeError) else run_error(error)

    def done(self) -> bool:
        """See ``dioe.types.Event``: also true of a run that failed."""
        if self._done or not self._lock.acquire(blocking=False):
            return self._done  # or another thread is waiting, and so it is not
        try:
            if not self._done:
                self._settle(0)
        except TimedOut:
            return False
        finally:
            self._lock.release()
        return True

    def abandon(self) -> None:
        """Wait for the run whatever became of it: what it uses is about to go."""
        with self._lock:
            if self._done:
                return
            self._done = True
            try:
                self._request.wait()
            except Exception as error:  # noqa: BLE001 - raised by each who waits
                self._error = run_error(error)
