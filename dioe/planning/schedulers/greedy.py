"""Schedulers that choose the next block among all that are ready, by what it would cost now."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables

Cost = Callable[[float, int, int], tuple[float, ...]]
"""``cost(start, i, t)`` of a block on a target: what the next block has least of. It may not fall
with ``start``, and two blocks that start together have the same order whenever they start."""


def least_first(timetable: Timetable, cost: Cost) -> bool:
    """Place the block and the target with the least cost, until none is left; False where a block
    finds no room. Nothing goes into gaps."""
    return _Greedy(timetable, cost).run()


class _Greedy:
    """Ready blocks by target: those that could start before a lane is free, by their order, and
    those whose values come later, by what they would cost. So no step looks at all of them."""

    def __init__(self, timetable: Timetable, cost: Cost) -> None:
        self._timetable = timetable
        self._tables = timetable.tables
        self._cost = cost
        count = range(self._tables.m)
        self._waiting: list[list[tuple[tuple[float, ...], int]]] = [[] for _ in count]
        self._coming: list[list[tuple[tuple[float, ...], int, float]]] = [[] for _ in count]
        self._choices = [0] * self._tables.n  # how many targets each ready block has

    def run(self) -> bool:
        tables = self._tables
        missing = [len(preds) for preds in tables.preds]
        made = [i for i, count in enumerate(missing) if not count]
        for _ in range(tables.n):
            if not all(map(self._add, made)):
                return False
            i = self._place_next()
            if i is None:
                return False
            made = []
            for block, _ in tables.succs[i]:
                missing[block] -= 1
                if not missing[block]:
                    made.append(block)
        return True

    def _add(self, i: int) -> bool:
        """Block i is ready; False where no target has room for it."""
        for t, end in enumerate(self._timetable.ends(i)):
            if end < math.inf:
                ready = self._timetable.ready[t]
                heapq.heappush(self._coming[t], (self._cost(ready, i, t), i, ready))
                self._choices[i] += 1
        return self._choices[i] > 0

    def _place_next(self) -> int | None:
        """Place the block that costs least and return it; None where one has no room any more."""
        while True:
            _, i, t = min(filter(None, map(self._first, range(self._tables.m))))
            if self._timetable.ends(i)[t] < math.inf:
                self._timetable.place(i, t)
                return i
            self._drop_first(i, t)
            self._choices[i] -= 1
            if not self._choices[i]:
                return None

    def _first(self, t: int) -> tuple[tuple[float, ...], int, int] | None:
        """The block that costs least on a target."""
        waiting, coming, placed = self._waiting[t], self._coming[t], self._timetable.targets
        free = self._timetable.free(t)
        while coming and (coming[0][2] <= free or placed[coming[0][1]] >= 0):
            _, i, _ = heapq.heappop(coming)
            if placed[i] < 0:
                heapq.heappush(waiting, (self._cost(0.0, i, t), i))
        while waiting and placed[waiting[0][1]] >= 0:
            heapq.heappop(waiting)
        found = []
        if waiting:
            found.append((self._cost(free, waiting[0][1], t), waiting[0][1], t))
        if coming:
            found.append((coming[0][0], coming[0][1], t))
        return min(found, default=None)

    def _drop_first(self, i: int, t: int) -> None:
        """Block i, the first of one of the heaps of a target, doesn't fit there any more."""
        waiting = self._waiting[t]
        if waiting and waiting[0][1] == i:
            heapq.heappop(waiting)
        else:
            heapq.heappop(self._coming[t])


def without_gaps(tables: Tables) -> Timetable:
    """An empty timetable to fill from the front."""
    return Timetable(tables, EdgeCosts(tables), insertion=False)
