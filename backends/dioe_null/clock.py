"""Time, real or virtual: the only place where the null backend waits."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from dioe.types import TimedOut

_SPIN_MS = 0.2
"""The last stretch is not slept: Linux wakes a thread 50 µs late by default (``PR_SET_TIMERSLACK``
in prctl(2)), and more on a busy machine."""


class Clock(Protocol):
    """What time it is, in milliseconds since some beginning, and a way to wait."""

    def now_ms(self) -> float: ...
    def sleep_until(self, at_ms: float) -> None: ...


class RealClock:
    """The machine's monotonic clock. Waits end within about 50 µs of their time."""

    def now_ms(self) -> float:
        """Milliseconds of ``time.perf_counter``."""
        return time.perf_counter_ns() / 1e6

    def sleep_until(self, at_ms: float) -> None:
        """Sleep, then spin for the last bit, giving way to other threads of the process."""
        rest_ms = at_ms - self.now_ms() - _SPIN_MS
        if rest_ms > 0:
            time.sleep(rest_ms / 1e3)
        while self.now_ms() < at_ms:
            time.sleep(0)


class VirtualClock:
    """A clock that stands still but for those who wait: they move it on, in no time.

    One thread at a time gives the same times in every run. Thread-safe.
    """

    def __init__(self, start_ms: float = 0.0) -> None:
        self._now_ms = start_ms
        self._lock = threading.Lock()

    def now_ms(self) -> float:
        """The virtual time."""
        return self._now_ms

    def sleep_until(self, at_ms: float) -> None:
        """Move the clock to ``at_ms``, unless it is later already."""
        with self._lock:
            self._now_ms = max(self._now_ms, at_ms)

    def advance(self, by_ms: float) -> None:
        """Let time pass, as if the caller had been busy."""
        with self._lock:
            self._now_ms += by_ms


class TimedEvent:
    """Something that happens at a known time (``at_ms`` of the clock)."""

    __slots__ = ("at_ms", "clock")

    def __init__(self, clock: Clock, at_ms: float) -> None:
        self.clock, self.at_ms = clock, at_ms

    def wait(self, timeout_ms: float | None = None) -> None:
        """Return when it has happened; raises TimedOut once ``timeout_ms`` are over before it."""
        if timeout_ms is not None:
            limit_ms = self.clock.now_ms() + timeout_ms
            if limit_ms < self.at_ms:
                self.clock.sleep_until(limit_ms)
                raise TimedOut(f"not done within {timeout_ms:g} ms", place="null")
        self.clock.sleep_until(self.at_ms)

    def done(self) -> bool:
        """Whether it has happened."""
        return self.clock.now_ms() >= self.at_ms
