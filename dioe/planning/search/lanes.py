"""Blocks as sequences on lanes: what a move of one of them does to the longest path.

The graph of a job shop with the blocks' own edges and one from each block to the next on its lane
(the disjunctive graph). A block's head is the longest path to it, its tail the longest path behind
it; the latency is the longest path there is. With both known, what a path through a block would
take at any other place costs only a few operations, whatever the number of blocks
(M. Mastrolilli and L. M. Gambardella, "Effective neighbourhood functions for the flexible job shop
problem", Journal of Scheduling 3, 2000). Exact where no transfer waits for another; elsewhere an
estimate.
"""

# ruff: noqa: PLR1730 - these loops are what a search spends its time in, and max() costs a call

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from dioe.planning.assigned import Assigned
from dioe.planning.tables import Tables


class Move(NamedTuple):
    """A block to another place: ``lane`` and behind how many of those that are there without it
    (-1 on a device with any number of lanes). ``ms`` is the longest path through it then."""

    ms: float
    block: int
    device: int
    lane: int
    place: int


class Lanes:
    """An assignment of a ``flat`` problem as sequences, with heads and tails.

    Each block runs on the fastest target of its device. By block and device are ``ms`` (its time
    there), ``begin`` (when the model inputs that it reads are there) and ``leave`` (what its model
    outputs take home); ``fastest`` is the target, -1 where there is none. By block are ``device``,
    ``lane`` (-1: none), ``p`` (its time), its head's end ``finish`` and its ``tail``, itself
    included. ``order`` is topological in all edges, ``at`` the place of a block in it, and
    ``sequence`` has the blocks by lane.
    """

    def __init__(self, tables: Tables, assigned: Assigned | None = None) -> None:
        self.tables = tables
        count = tables.n
        devices = len(tables.devices)
        cross = tables.cross
        self._sources = [[(p, cross[v]) for p, v in row] for row in tables.preds]
        self._sinks = [[(s, cross[v]) for s, v in row] for row in tables.succs]
        self.fastest = [self._fastest(row, devices) for row in tables.ms]
        self.ms = [
            [math.inf if t < 0 else tables.ms[i][t] for t in row]
            for i, row in enumerate(self.fastest)
        ]
        home = tables.home
        self.begin = [
            [
                max((cross[v][home][d] for v in row), default=0.0) if home >= 0 else 0.0
                for d in range(devices)
            ]
            for row in tables.inputs
        ]
        self.leave = [[0.0] * devices for _ in range(count)]
        for v in tables.outputs if home >= 0 else ():
            maker = tables.maker[v]
            if maker >= 0:
                row = self.leave[maker]
                for d in range(devices):
                    row[d] = max(row[d], cross[v][d][home])
        self.lanes_of: list[list[int]] = []
        self._lane_count = 0
        for number in tables.lanes:
            self.lanes_of.append(list(range(self._lane_count, self._lane_count + number)))
            self._lane_count += number
        self._able = [[d for d in range(devices) if row[d] < math.inf] for row in self.ms]
        # what a group shares can't be changed one block at a time
        self._fixed = [len(row) > 1 for row in tables.peers]
        if assigned is not None:
            self.load(assigned)

    def _fastest(self, row: Sequence[float], devices: int) -> list[int]:
        found = [-1] * devices
        for t, ms in enumerate(row):
            d = self.tables.device_of[t]
            if ms < math.inf and (found[d] < 0 or ms < row[found[d]]):
                found[d] = t
        return found

    def load(self, assigned: Assigned) -> None:
        """Take over an assignment: each block on the lane of its device that is free first."""
        tables, count = self.tables, self.tables.n
        self.device = [tables.device_of[t] for t in assigned.targets]
        self.order = list(assigned.order)
        self.at = [0] * count
        for k, i in enumerate(self.order):
            self.at[i] = k
        self.lane = [-1] * count
        self.sequence: list[list[int]] = [[] for _ in range(self._lane_count)]
        self._before = [-1] * count
        self._behind = [-1] * count
        self.p = [row[d] for row, d in zip(self.ms, self.device, strict=True)]
        self.ready = [0.0] * count
        self.finish = [0.0] * count
        self.rest = [0.0] * count
        self.tail = [0.0] * count
        free = [0.0] * self._lane_count
        for i in self.order:
            d = self.device[i]
            ready = self.begin[i][d]
            for p, cross in self._sources[i]:
                ready = max(ready, self.finish[p] + cross[self.device[p]][d])
            lanes = self.lanes_of[d]
            if lanes:
                lane = min(lanes, key=free.__getitem__)
                ready = max(ready, free[lane])
                free[lane] = ready + self.p[i]
                row = self.sequence[lane]
                if row:
                    self._before[i] = row[-1]
                    self._behind[row[-1]] = i
                row.append(i)
                self.lane[i] = lane
            self.finish[i] = ready + self.p[i]
        self._heads(0)
        self._tails(count - 1)

    def assigned(self) -> Assigned:
        """The same as targets and an order, in which each block starts."""
        start = [f - p for f, p in zip(self.finish, self.p, strict=True)]
        order = sorted(self.order, key=start.__getitem__)  # stable: what takes no time stays
        if not self._topological(order):
            order = list(self.order)
        return Assigned(
            [row[d] for row, d in zip(self.fastest, self.device, strict=True)], order
        )  # fmt: skip

    def _topological(self, order: Sequence[int]) -> bool:
        at = [0] * len(order)
        for k, i in enumerate(order):
            at[i] = k
        return all(at[p] < at[i] for i, row in enumerate(self._sources) for p, _ in row)

    def _heads(self, since: int) -> None:
        device, finish, ready, p = self.device, self.finish, self.ready, self.p
        sources, begin, before = self._sources, self.begin, self._before
        for i in self.order[since:] if since else self.order:
            d = device[i]
            now = begin[i][d]
            for s, cross in sources[i]:
                there = finish[s] + cross[device[s]][d]
                if there > now:
                    now = there
            ready[i] = now
            a = before[i]
            if a >= 0 and finish[a] > now:
                now = finish[a]
            finish[i] = now + p[i]

    def _tails(self, since: int) -> None:
        device, tail, rest, p = self.device, self.tail, self.rest, self.p
        sinks, leave, behind = self._sinks, self.leave, self._behind
        for i in self.order[since::-1]:
            d = device[i]
            now = leave[i][d]
            for s, cross in sinks[i]:
                there = tail[s] + cross[d][device[s]]
                if there > now:
                    now = there
            rest[i] = now
            b = behind[i]
            if b >= 0 and tail[b] > now:
                now = tail[b]
            tail[i] = now + p[i]

    def latency(self) -> float:
        """The longest path, in ms."""
        if self.tables.home < 0:
            return max(self.finish)
        return max(
            f + row[d] for f, row, d in zip(self.finish, self.leave, self.device, strict=True)
        )

    def critical(self, latency: float) -> list[int]:
        """The blocks on longest paths."""
        least = latency - 1e-9 * latency
        return [
            i
            for i, (f, t, p) in enumerate(zip(self.finish, self.tail, self.p, strict=True))
            if f + t - p >= least
        ]

    def moves(self, blocks: Sequence[int]) -> list[Move]:
        """For each of these blocks the best place on each lane, except where it is."""
        finish, tail, sequence = self.finish, self.tail, self.sequence
        ends = [[finish[x] for x in row] for row in sequence]
        falls = [[-tail[x] for x in row] for row in sequence]
        found: list[Move] = []
        for v in blocks:
            own = self.lane[v]
            devices = (self.device[v],) if self._fixed[v] else self._able[v]
            for d in devices:
                ready, rest = self._around(v, d)
                ms = self.ms[v][d]
                least = ready + ms + rest
                if not self.lanes_of[d]:
                    if d != self.device[v]:
                        found.append(Move(least, v, d, -1, -1))
                    continue
                for lane in self.lanes_of[d]:
                    if lane == own:
                        row, end, fall = self._without(v)
                        stays = sequence[lane].index(v)
                    else:
                        row, end, fall, stays = sequence[lane], ends[lane], falls[lane], -1
                    lo, hi = bisect_right(end, ready), bisect_left(fall, -rest)
                    if lo > hi:
                        place, at, mine = hi, self.at, self.at[v]
                        while place < lo and at[row[place]] < mine:
                            place += 1
                        if place != stays:
                            found.append(Move(least, v, d, lane, place))
                        continue
                    best, where = math.inf, -1
                    size = len(row)
                    for place in range(lo, hi + 1):
                        if place == stays:
                            continue
                        head = end[place - 1] if place and end[place - 1] > ready else ready
                        behind = -fall[place] if place < size and -fall[place] > rest else rest
                        if head + behind < best:
                            best, where = head + behind, place
                    if where >= 0:
                        found.append(Move(best + ms, v, d, lane, where))
        return found

    def _around(self, v: int, d: int) -> tuple[float, float]:
        """When what a block reads would be on a device, and what lies behind it from there."""
        device, finish, tail = self.device, self.finish, self.tail
        ready = self.begin[v][d]
        for s, cross in self._sources[v]:
            there = finish[s] + cross[device[s]][d]
            if there > ready:
                ready = there
        rest = self.leave[v][d]
        for s, cross in self._sinks[v]:
            there = tail[s] + cross[d][device[s]]
            if there > rest:
                rest = there
        return ready, rest

    def _without(self, v: int) -> tuple[list[int], list[float], list[float]]:
        """A block's lane without it: the others, their ends, and their tails (negative)."""
        row = self.sequence[self.lane[v]]
        k = row.index(v)
        finish, tail, ready, rest, p = self.finish, self.tail, self.ready, self.rest, self.p
        end = [finish[x] for x in row[:k]]
        now = end[-1] if end else 0.0
        for x in row[k + 1 :]:
            now = max(now, ready[x]) + p[x]
            end.append(now)
        falls = [-tail[x] for x in reversed(row[k + 1 :])]
        now = -falls[-1] if falls else 0.0
        for x in reversed(row[:k]):
            now = max(now, rest[x]) + p[x]
            falls.append(-now)
        falls.reverse()
        return row[:k] + row[k + 1 :], end, falls

    def apply(self, move: Move) -> bool:
        """Make a move; False, and nothing changed, if blocks would wait for each other."""
        v = move.block
        lane, device = self.lane[v], self.device[v]
        place = self.sequence[lane].index(v) if lane >= 0 else -1
        self._unlink(v)
        self._link(v, move.device, move.lane, move.place)
        window = self._reorder(v)
        if window is None:
            self._unlink(v)
            self._link(v, device, lane, place)
            return False
        self._heads(window[0])
        self._tails(window[1])
        return True

    def _unlink(self, v: int) -> None:
        if self.lane[v] < 0:
            return
        a, b = self._before[v], self._behind[v]
        if a >= 0:
            self._behind[a] = b
        if b >= 0:
            self._before[b] = a
        self.sequence[self.lane[v]].remove(v)
        self._before[v] = self._behind[v] = self.lane[v] = -1

    def _link(self, v: int, device: int, lane: int, place: int) -> None:
        self.device[v], self.lane[v] = device, lane
        self.p[v] = self.ms[v][device]
        if lane < 0:
            return
        row = self.sequence[lane]
        row.insert(place, v)
        if place:
            self._before[v] = row[place - 1]
            self._behind[row[place - 1]] = v
        if place + 1 < len(row):
            self._behind[v] = row[place + 1]
            self._before[row[place + 1]] = v

    def _reorder(self, v: int) -> tuple[int, int] | None:
        """Keep ``order`` topological; the first and the last place that something changed at."""
        at, order = self.at, self.order
        a, b = self._before[v], self._behind[v]
        last = max((at[p] for p, _ in self._sources[v]), default=-1)
        if a >= 0 and at[a] > last:
            last = at[a]
        first = min((at[s] for s, _ in self._sinks[v]), default=len(order))
        if b >= 0 and at[b] < first:
            first = at[b]
        old = at[v]
        if last < old < first:
            return old, old
        if last < first:
            new = last if last > old else first
            order.pop(old)
            order.insert(new, v)
        else:
            # those of the window that come behind v go there, the others before it
            late = {s for s, _ in self._sinks[v]}
            if b >= 0:
                late.add(b)
            early: list[int] = []
            behind: list[int] = []
            before, sources = self._before, self._sources
            for i in order[first : last + 1]:
                if i == v:
                    continue
                if i in late or before[i] in late or any(p in late for p, _ in sources[i]):
                    late.add(i)
                    behind.append(i)
                else:
                    early.append(i)
            if a in late or any(p in late for p, _ in sources[v]):
                return None
            if not first <= old <= last:
                order.pop(old)
                if old < first:
                    first, last = first - 1, last - 1
                order[first : last + 1] = [*early, v, *behind]
                last += 1
            else:
                order[first : last + 1] = [*early, v, *behind]
            low, high = min(first, old), min(max(last, old), len(order) - 1)
            for k in range(low, high + 1):
                at[order[k]] = k
            return low, high
        low, high = min(old, new), max(old, new)
        for k in range(low, high + 1):
            at[order[k]] = k
        return low, high
