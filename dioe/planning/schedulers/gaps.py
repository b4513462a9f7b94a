"""The gaps between the blocks on a lane, for the insertion policy."""

from __future__ import annotations

import math
from bisect import bisect_left

Gap = tuple[float, float]
"""From when to when, in ms."""


class Gaps:
    """Gaps by size: class k has those of ``least`` times 2^(k-1) to 2^k, in order of their ends.

    A block looks into its own class and those above it, where every gap is long enough, so that it
    doesn't pass over all the short ones that nothing fits into. Gaps below ``least`` are none.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._per_ms = 1 / least
        self._begins: list[list[float]] = []
        self._ends: list[list[float]] = []
        self.last_end = -math.inf
        """No gap ends later."""

    def find(self, ready: float, ms: float) -> tuple[float, Gap | None]:
        """The earliest start of a block that is ready at a time and takes ``ms``, and its gap; inf
        and None where it fits into none."""
        best, found, end = math.inf, None, ready + ms
        for k in range(int(ms * self._per_ms).bit_length(), len(self._ends)):
            ends = self._ends[k]
            if not ends or ends[-1] < end:
                continue
            begins = self._begins[k]
            for number in range(bisect_left(ends, end), len(ends)):
                begin = begins[number]
                at = begin if begin > ready else ready
                if at >= best:
                    break
                if at + ms <= ends[number]:
                    best, found = at, (begin, ends[number])
                    break
        return best, found

    def add(self, begin: float, end: float) -> None:
        """A gap, if it is long enough to be one."""
        if end - begin < self._least:
            return
        k = int((end - begin) * self._per_ms).bit_length()
        while len(self._ends) <= k:
            self._begins.append([])
            self._ends.append([])
        number = bisect_left(self._ends[k], end)
        self._begins[k].insert(number, begin)
        self._ends[k].insert(number, end)
        self.last_end = max(self.last_end, end)

    def remove(self, begin: float, end: float) -> None:
        """Undo ``add``."""
        if end - begin < self._least:
            return
        k = int((end - begin) * self._per_ms).bit_length()
        number = bisect_left(self._ends[k], end)
        del self._begins[k][number], self._ends[k][number]

    def fill(self, gap: Gap, begin: float, end: float) -> None:
        """Put a block into a gap: what is left on both sides are gaps of their own."""
        self.remove(*gap)
        self.add(gap[0], begin)
        self.add(end, gap[1])

    def clear(self, gap: Gap, begin: float, end: float) -> None:
        """Undo ``fill``."""
        self.remove(end, gap[1])
        self.remove(gap[0], begin)
        self.add(*gap)
