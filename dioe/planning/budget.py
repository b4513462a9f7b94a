"""How much searching may be done: a time, or a number of evaluations that doesn't depend on one."""

from __future__ import annotations

import time

from dioe.types import InputError


class Budget:
    """Spent one evaluation at a time. With a ``work_limit`` alone the same search always stops at
    the same place; ``time_limit_s`` counts from when the budget is made. Without either nothing is
    left from the start. Raises InputError for limits below 0."""

    def __init__(self, time_limit_s: float | None = None, work_limit: int | None = None) -> None:
        for name, limit in (("time_limit_s", time_limit_s), ("work_limit", work_limit)):
            if limit is not None and not limit >= 0:
                raise InputError(f"{limit} is no limit", place=name, fix="give 0 or more")
        self._end = None if time_limit_s is None else time.perf_counter() + time_limit_s
        self._limit = work_limit
        self.work = 0

    def spend(self, work: int = 1) -> bool:
        """Count some work; False if there is nothing left."""
        self.work += work
        return self.left

    @property
    def left(self) -> bool:
        """Whether anything is left."""
        if self._limit is not None and self.work >= self._limit:
            return False
        if self._end is not None:
            return time.perf_counter() < self._end
        return self._limit is not None

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None where no time was given."""
        return None if self._end is None else max(0.0, self._end - time.perf_counter())

    @property
    def left_work(self) -> int | None:
        """Evaluations that are left; None where no number was given."""
        return None if self._limit is None else max(0, self._limit - self.work)

    def part(self, share: float, most: int | None = None) -> Budget:
        """A budget with a share of what is left of this one, and at most so many evaluations; the
        work done in it isn't counted here, so ``spend`` it."""
        work = None if self._limit is None else int((self._limit - self.work) * share)
        if most is not None:
            work = most if work is None else min(work, most)
        return Budget(None if self.left_s is None else self.left_s * share, work)
