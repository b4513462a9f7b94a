"""Where the seconds of tuning go, and how many are left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from dioe.types import InputError


class Stopwatch:
    """Seconds spent per part. Parts may nest; the inner one's time isn't the outer one's too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._nested_s = [0.0]

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block as ``name``'s."""
        start = time.perf_counter()
        self._nested_s.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            inner = self._nested_s.pop()
            self._nested_s[-1] += elapsed
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - inner


MAX_S = 1e6

OVERRUN = 0.1
"""Share of a budget by which it may be overrun."""


def check_seconds(name: str, value: float) -> float:
    """``value`` if it is a number of seconds one could wait for; raises InputError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= MAX_S:
        raise InputError(f"{name} is {value!r}", fix=f"give seconds, from 0 to {MAX_S:.0f}")
    return value


class Budget:
    """A number of seconds that runs out."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.perf_counter() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, negative when overrun."""
        return self._end - time.perf_counter()

    def allows(self, seconds: float) -> bool:
        """Whether what takes so long may begin: a budget is overrun by a tenth at most."""
        left_s = self.left_s
        return left_s > 0 and seconds <= left_s + OVERRUN * self.seconds
