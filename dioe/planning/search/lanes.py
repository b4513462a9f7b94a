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
from itertools import pairwise
from typing import NamedTuple

from dioe.planning.assigned import Assigned
from dioe.planning.search.shop import Shop
from dioe.planning.tables import Tables


class Move(NamedTuple):
    """A block to another place: ``lane`` and behind how many of those that are there without it
    (-1 on a device with any number of lanes). ``ms`` is the longest path through it then."""

    ms: float
    block: int
    device: int
    lane: int
    place: int


class Sequences(NamedTuple):
    """A state of ``Lanes`` that may be loaded again."""

    device: list[int]
    order: list[int]
    lane: list[int]


class Lanes:
    """The blocks of a shop on devices, in sequences, with heads and tails.

    By block are ``device``, ``lane`` (-1: none), ``p`` (its time there), ``finish`` (its head's
    end), ``tail`` (itself included). ``order`` is topological in all edges, ``at`` is the place of
    a block in it, ``sequence`` has the blocks by lane.
    """

    def __init__(self, shop: Shop, device: Sequence[int], order: Sequence[int]) -> None:
        self.shop = shop
        self.count = len(shop.blocks)
        self._plain = not (shop.rest_ms or any(shop.behind) or any(any(row) for row in shop.leave))
        self.load(device, order)

    def load(
        self, device: Sequence[int], order: Sequence[int], lane: Sequence[int] | None = None
    ) -> None:
        """Take over a device for each block, and an order; without ``lane`` each block is on the
        lane of its device that is free first."""
        shop, count = self.shop, self.count
        self.device, self.order = list(device), list(order)
        self.at = [0] * count
        for k, i in enumerate(self.order):
            self.at[i] = k
        self.lane = [-1] * count
        self.sequence: list[list[int]] = [[] for _ in range(shop.lanes)]
        self.p = [row[d] for row, d in zip(shop.ms, self.device, strict=True)]
        # behind the blocks come the lanes, as if each were a block that ends when it is free
        self.finish = [0.0] * count + shop.free
        self.tail = [0.0] * count + shop.behind
        self.ready = [0.0] * count
        self.rest = [0.0] * count
        nothing = count + shop.lanes
        self._before = [nothing] * count
        self._behind = [nothing] * count
        if lane is None:
            self._fill()
        else:
            for i in self.order:
                if lane[i] >= 0:
                    self._append(i, lane[i])
            self._heads(0)
        self._tails(count - 1)

    def _append(self, i: int, lane: int) -> None:
        row = self.sequence[lane]
        self._before[i] = row[-1] if row else self.count + lane
        if row:
            self._behind[row[-1]] = i
        self._behind[i] = self.count + lane
        row.append(i)
        self.lane[i] = lane

    def _fill(self) -> None:
        shop, finish, device = self.shop, self.finish, self.device
        free = list(shop.free)
        for i in self.order:
            d = device[i]
            now = shop.begin[i][d]
            for s, cross in shop.sources[i]:
                there = finish[s] + cross[device[s]][d]
                if there > now:
                    now = there
            self.ready[i] = now
            lanes = shop.lanes_of[d]
            if lanes:
                lane = lanes[0] if len(lanes) == 1 else min(lanes, key=free.__getitem__)
                if free[lane] > now:
                    now = free[lane]
                free[lane] = now + self.p[i]
                self._append(i, lane)
            finish[i] = now + self.p[i]

    def state(self) -> Sequences:
        """As it is now, with the blocks in the order in which they start."""
        start = [f - p for f, p in zip(self.finish, self.p, strict=False)]
        order = sorted(self.order, key=start.__getitem__)  # stable: what takes no time stays
        at = [0] * self.count
        for k, i in enumerate(order):
            at[i] = k
        if any(at[s] > at[i] for i, row in enumerate(self.shop.sources) for s, _ in row):
            order = list(self.order)
        return Sequences(list(self.device), order, list(self.lane))

    def replace(self, first: int, last: int, inner: Sequences) -> None:
        """The blocks at these places (``last`` excluded) as a window of them has it. Heads behind
        the window and tails before it stay what they were until ``settle``."""
        chosen, count, at = self.order[first:last], self.count, self.at
        device, order, lane = inner
        rows: list[list[int]] = [[] for _ in self.sequence]
        nothing = count + self.shop.lanes
        for k in order:
            i = chosen[k]
            self.device[i], self.lane[i] = device[k], lane[k]
            self.p[i] = self.shop.ms[i][device[k]]
            self._before[i] = self._behind[i] = nothing
            if lane[k] >= 0:
                rows[lane[k]].append(i)
        for number, row in enumerate(self.sequence):
            low = bisect_left(row, first, key=at.__getitem__)
            high = bisect_left(row, last, key=at.__getitem__)
            row[low:high] = rows[number]
            high = low + len(rows[number])
            end = count + number
            around = [row[low - 1] if low else end, *rows[number]]
            around.append(row[high] if high < len(row) else end)
            for a, b in pairwise(around):
                if a < count:
                    self._behind[a] = b
                if b < count:
                    self._before[b] = a
        self.order[first:last] = [chosen[k] for k in order]
        for k in range(first, last):
            at[self.order[k]] = k
        self._heads(first, last)
        self._tails(last - 1, first)

    def settle(self) -> None:
        """All heads and tails anew."""
        self._heads(0)
        self._tails(self.count - 1)

    def _heads(self, since: int, until: int | None = None) -> None:
        shop = self.shop
        device, finish, ready, p = self.device, self.finish, self.ready, self.p
        sources, begin, before = shop.sources, shop.begin, self._before
        for i in self.order[since:until]:
            d = device[i]
            now = begin[i][d]
            for s, cross in sources[i]:
                there = finish[s] + cross[device[s]][d]
                if there > now:
                    now = there
            ready[i] = now
            there = finish[before[i]]
            if there > now:
                now = there
            finish[i] = now + p[i]

    def _tails(self, since: int, until: int = 0) -> None:
        shop = self.shop
        device, tail, rest, p = self.device, self.tail, self.rest, self.p
        sinks, leave, behind = shop.sinks, shop.leave, self._behind
        for i in reversed(self.order[until : since + 1]):
            d = device[i]
            now = leave[i][d]
            for s, cross in sinks[i]:
                there = tail[s] + cross[d][device[s]]
                if there > now:
                    now = there
            rest[i] = now
            there = tail[behind[i]]
            if there > now:
                now = there
            tail[i] = now + p[i]

    def latency(self) -> float:
        """The longest path, in ms."""
        if self._plain:
            return max(self.finish)
        rows = zip(self.finish, self.tail, self.p, strict=False)
        longest = max(f + t - p for f, t, p in rows)
        return max(longest, self.shop.rest_ms)

    def critical(self, latency: float) -> list[int]:
        """The blocks on longest paths."""
        least = latency - 1e-9 * latency
        return [
            i
            for i, (f, t, p) in enumerate(zip(self.finish, self.tail, self.p, strict=False))
            if f + t - p >= least
        ]

    def moves(self, blocks: Sequence[int]) -> list[Move]:
        """For each of these blocks the best place on each lane, except where it is."""
        finish, tail, shop = self.finish, self.tail, self.shop
        # before and behind each place of each lane
        ends = [[shop.free[k], *[finish[x] for x in row]] for k, row in enumerate(self.sequence)]
        falls = [[*[-tail[x] for x in row], -shop.behind[k]] for k, row in enumerate(self.sequence)]
        found: list[Move] = []
        for v in blocks:
            own = self.lane[v]
            for d in shop.able[v] or (self.device[v],):
                ready, rest = self._around(v, d)
                ms = shop.ms[v][d]
                if not shop.lanes_of[d]:
                    if d != self.device[v]:
                        found.append(Move(ready + ms + rest, v, d, -1, -1))
                    continue
                for lane in shop.lanes_of[d]:
                    row, end, fall, stays = self.sequence[lane], ends[lane], falls[lane], -1
                    if lane == own:
                        stays = row.index(v)
                        row, end, fall = self._without(row, stays)
                    lo = bisect_right(end, ready, 1) - 1
                    hi = bisect_left(fall, -rest, 0, len(row))
                    if lo > hi:  # anywhere between is the best; as the order has it is possible
                        at, mine = self.at, self.at[v]
                        while hi < lo and at[row[hi]] < mine:
                            hi += 1
                        lo = hi
                    best, where = math.inf, -1
                    for place in range(lo, hi + 1):
                        head, behind = end[place], -fall[place]
                        if ready > head:
                            head = ready
                        if rest > behind:
                            behind = rest
                        if head + behind < best and place != stays:
                            best, where = head + behind, place
                    if where >= 0:
                        found.append(Move(best + ms, v, d, lane, where))
        return found

    def _around(self, v: int, d: int) -> tuple[float, float]:
        """When what a block reads would be on a device, and what lies behind it from there."""
        shop, device, finish, tail = self.shop, self.device, self.finish, self.tail
        ready = shop.begin[v][d]
        for s, cross in shop.sources[v]:
            there = finish[s] + cross[device[s]][d]
            if there > ready:
                ready = there
        rest = shop.leave[v][d]
        for s, cross in shop.sinks[v]:
            there = tail[s] + cross[d][device[s]]
            if there > rest:
                rest = there
        return ready, rest

    def _without(self, row: list[int], k: int) -> tuple[list[int], list[float], list[float]]:
        """A lane without its k-th block: the others, their ends, and their tails (negative)."""
        finish, tail, ready, rest, p = self.finish, self.tail, self.ready, self.rest, self.p
        lane = self.lane[row[k]]
        end = [self.shop.free[lane], *[finish[x] for x in row[:k]]]
        now = end[-1]
        for x in row[k + 1 :]:
            if ready[x] > now:
                now = ready[x]
            now += p[x]
            end.append(now)
        falls = [-self.shop.behind[lane], *[-tail[x] for x in reversed(row[k + 1 :])]]
        now = -falls[-1]
        for x in reversed(row[:k]):
            if rest[x] > now:
                now = rest[x]
            now += p[x]
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
        a, b, nothing = self._before[v], self._behind[v], self.count + self.shop.lanes
        if a < self.count:
            self._behind[a] = b
        if b < self.count:
            self._before[b] = a
        self.sequence[self.lane[v]].remove(v)
        self._before[v] = self._behind[v] = nothing
        self.lane[v] = -1

    def _link(self, v: int, device: int, lane: int, place: int) -> None:
        self.device[v], self.lane[v] = device, lane
        self.p[v] = self.shop.ms[v][device]
        if lane < 0:
            return
        row = self.sequence[lane]
        row.insert(place, v)
        self._before[v] = self._behind[v] = self.count + lane
        if place:
            self._before[v] = row[place - 1]
            self._behind[row[place - 1]] = v
        if place + 1 < len(row):
            self._behind[v] = row[place + 1]
            self._before[row[place + 1]] = v

    def _reorder(self, v: int) -> tuple[int, int] | None:
        """Keep ``order`` topological; the first and the last place that something changed at."""
        at, order, count = self.at, self.order, self.count
        a, b = self._before[v], self._behind[v]
        last = max((at[p] for p, _ in self.shop.sources[v]), default=-1)
        if a < count and at[a] > last:
            last = at[a]
        first = min((at[s] for s, _ in self.shop.sinks[v]), default=count)
        if b < count and at[b] < first:
            first = at[b]
        old = at[v]
        if last < old < first:
            return old, old
        if last < first:
            new = last if last > old else first
            order.pop(old)
            order.insert(new, v)
            low, high = min(old, new), max(old, new)
        else:
            parts = self._parted(v, first, last)
            if parts is None:
                return None
            if not first <= old <= last:
                order.pop(old)
                if old < first:
                    first, last = first - 1, last - 1
                last += 1
                order[first:last] = parts
            else:
                order[first : last + 1] = parts
            low, high = min(first, old), min(max(last, old), count - 1)
        for k in range(low, high + 1):
            at[order[k]] = k
        return low, high

    def _parted(self, v: int, first: int, last: int) -> list[int] | None:
        """The blocks at these places in another order: those that have to come behind v there,
        the others before it; None if that is impossible."""
        before, sources = self._before, self.shop.sources
        late = {s for s, _ in self.shop.sinks[v]}
        if self._behind[v] < self.count:
            late.add(self._behind[v])
        early: list[int] = []
        behind: list[int] = []
        for i in self.order[first : last + 1]:
            if i == v:
                continue
            if i in late or before[i] in late or any(p in late for p, _ in sources[i]):
                late.add(i)
                behind.append(i)
            else:
                early.append(i)
        if before[v] in late or any(p in late for p, _ in sources[v]):
            return None
        return [*early, v, *behind]


def lanes_of(shop: Shop, tables: Tables, assigned: Assigned) -> Lanes:
    """The sequences of an assignment."""
    return Lanes(shop, [tables.device_of[t] for t in assigned.targets], assigned.order)


def assigned_of(lanes: Lanes) -> Assigned:
    """The assignment of sequences of a whole problem."""
    device, order, _ = lanes.state()
    return Assigned([row[d] for row, d in zip(lanes.shop.fastest, device, strict=True)], order)
