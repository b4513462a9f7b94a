"""A timetable that list schedulers fill block by block: lanes with their gaps, and memories."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.gaps import Gap, Gaps
from dioe.planning.schedulers.room import Room
from dioe.planning.tables import Tables

Undo = tuple[int, int, float, Gap | None]
"""What ``Timetable.place`` did: the block, its lane, until when the lane was taken before, and the
gap that was filled, if any."""


class Timetable:
    """Blocks on lanes, each from a start to an end; times in ms.

    ``ends(i)`` looks, and ``place(i, t)`` acts on what was looked up last. ``targets[i]`` is -1
    until block i is placed; values of such blocks count for nothing. With ``insertion`` a block may
    take a gap on a lane if it ends before the next block there starts. After ``ends``, ``ready[t]``
    says when all that the block reads is there on target t, and ``starts[t]`` when it would start.
    """

    def __init__(self, tables: Tables, edges: EdgeCosts, *, insertion: bool = True) -> None:
        self.tables = tables
        self.edges = edges
        self.targets = [-1] * tables.n
        self.start = [0.0] * tables.n
        self.finish = [0.0] * tables.n
        self.ready = [0.0] * tables.m
        self.starts = [0.0] * tables.m
        # the lane and the gap that were looked up, by target
        self._slots: list[tuple[int, Gap | None]] = [(-1, None)] * tables.m
        self._room = Room(tables) if Room.matters(tables) else None
        self._insertion = insertion
        numbers = iter(range(sum(tables.lanes)))
        by_device = [[next(numbers) for _ in range(count)] for count in tables.lanes]
        self._lanes = [by_device[device] for device in tables.device_of]
        lanes = range(sum(tables.lanes))
        self._free = [0.0 for _ in lanes]
        self._gaps = [Gaps(least) for least in self._shortest_blocks()]

    def _shortest_blocks(self) -> list[float]:
        """By lane, the least time of any block there, if it takes any."""
        times = self.tables.durations
        least = np.where(times > 0, times, math.inf).min(axis=0)
        found = [math.inf for _ in self._free]
        for target, lanes in enumerate(self._lanes):
            for lane in lanes:
                found[lane] = min(found[lane], float(least[target]))
        return found

    def ends(self, i: int) -> list[float]:
        """When block i would end on each target, inf where it can't run or finds no room."""
        ready = self.ready = self._ready(i)
        starts, slots, free, gaps = self.starts, self._slots, self._free, self._gaps
        ends = []
        for t, (ms, lanes) in enumerate(zip(self.tables.ms[i], self._lanes, strict=True)):
            at = ready[t]
            if len(lanes) == 1:
                lane = lanes[0]
                gap: Gap | None = None
                if at < free[lane]:
                    if gaps[lane].last_end < at + ms:
                        at = free[lane]
                    else:
                        at, gap = self._fit(lane, at, ms)
                slots[t] = lane, gap
            elif lanes and ms < math.inf:
                at, slots[t] = self._fit_any(lanes, at, ms)
            starts[t] = at
            ends.append(at + ms)
        if self._room is not None:
            self._room.leave_out(i, ends)
        return ends

    def _ready(self, i: int) -> list[float]:
        """When all that block i reads is there, by target."""
        tables, edges = self.tables, self.edges
        preds, finish, targets = tables.preds[i], self.finish, self.targets
        ready = [0.0] * tables.m if preds else edges.first.copy()
        lines, own, nbytes = edges.lines, edges.own, tables.nbytes
        own_lines = edges.own_lines or lines
        if own and edges.own_lines is None:
            for block, value in preds:
                if targets[block] >= 0:
                    _wait(ready, edges.row(value, targets[block]), finish[block])
        else:  # the same without a call for each value
            for block, value in preds:
                made = finish[block]
                if value in own:
                    row, size = own_lines[targets[block]], own[value]
                else:
                    row, size = lines[targets[block]], nbytes[value]
                for t, (ms, per_size) in enumerate(row):
                    there = made + (ms + per_size * size)
                    if there > ready[t]:  # noqa: PLR1730 - max takes three times as long
                        ready[t] = there
        for value in tables.inputs[i]:
            _wait(ready, edges.from_home(value), 0.0)
        return ready

    def _fit(self, lane: int, ready: float, ms: float) -> tuple[float, Gap | None]:
        """The earliest start on a lane, and its gap; None behind all blocks."""
        at, gap = self._gaps[lane].find(ready, ms)
        return (max(ready, self._free[lane]), None) if gap is None else (at, gap)

    def _fit_any(
        self, lanes: list[int], ready: float, ms: float
    ) -> tuple[float, tuple[int, Gap | None]]:
        """The earliest start on any of the lanes, on the one that idles least before it."""
        best, idle = math.inf, math.inf
        slot: tuple[int, Gap | None] = (lanes[0], None)
        for lane in lanes:
            at, gap = self._fit(lane, ready, ms)
            before = at - (self._free[lane] if gap is None else gap[0])
            if at < best or (at == best and before < idle):
                best, slot, idle = at, (lane, gap), before
        return best, slot

    def place(self, i: int, t: int) -> Undo:
        """Put block i on target t where the last ``ends(i)`` found it a place."""
        at = self.starts[t]
        lane, gap = self._slots[t]
        end = at + self.tables.ms[i][t]
        self.targets[i], self.start[i], self.finish[i] = t, at, end
        if self._room is not None:
            self._room.take(i, t)
        free = 0.0
        if lane >= 0:
            free = self._free[lane]
            if gap is not None:
                self._gaps[lane].fill(gap, at, end)
            else:
                if self._insertion:
                    self._gaps[lane].add(free, at)
                self._free[lane] = end
        return i, lane, free, gap

    def place_best(
        self, i: int, ends: Sequence[float], scores: Sequence[float] | None = None
    ) -> bool:
        """Place block i, after ``ends(i)``, on the target with the least score, of equal ones where
        it ends first; ``ends`` are the scores where there are none. False where all are inf."""
        least = min(ends if scores is None else scores)
        if least == math.inf:
            return False
        if scores is None:
            t = ends.index(least)
        else:
            t = min(
                (score, end, t) for t, (score, end) in enumerate(zip(scores, ends, strict=True))
            )[2]
        self.place(i, t)
        return True

    def ends_with_results(self, i: int) -> list[float]:
        """``ends(i)``, and what of the block is a model output at home by then."""
        ends, more = self.ends(i), self.edges.results.get(i)
        return ends if more is None else [a + b for a, b in zip(ends, more, strict=True)]

    def free(self, t: int) -> float:
        """When a lane of target t is free behind all blocks."""
        return min((self._free[lane] for lane in self._lanes[t]), default=0.0)

    def undo(self, what: Undo) -> None:
        """Take the block off again that was placed last, and so on backwards."""
        i, lane, free, gap = what
        if self._room is not None:
            self._room.give_back(i, self.targets[i])
        if lane >= 0:
            if gap is not None:
                self._gaps[lane].clear(gap, self.start[i], self.finish[i])
            else:
                if self._insertion:
                    self._gaps[lane].remove(free, self.start[i])
                self._free[lane] = free
        self.targets[i], self.start[i], self.finish[i] = -1, 0.0, 0.0

    def result_ms(self, i: int) -> float:
        """When the results of a placed block are there; what of it is a model output, at home."""
        row = self.edges.results.get(i)
        return self.finish[i] + (row[self.targets[i]] if row else 0.0)

    @property
    def total_ms(self) -> float:
        """When the last result is there."""
        return max(map(self.result_ms, range(self.tables.n)))

    def assigned(self) -> Assigned:
        """The targets, and the order in which blocks start: of those that start together the one
        that ends first, and then the one that is first in the problem, so it is topological."""
        order = np.lexsort((np.array(self.finish), np.array(self.start)))
        return Assigned(self.targets, order.tolist())


def _wait(ready: list[float], row: list[float], made: float) -> None:
    """Put off what is ready to when a value is there."""
    for t, ms in enumerate(row):
        ready[t] = max(ready[t], made + ms)
