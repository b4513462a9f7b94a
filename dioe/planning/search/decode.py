"""Priorities as a schedule: each block, the most urgent first, where it ends first.

The frame of list scheduling with insertion (H. Topcuoglu, S. Hariri and M.-Y. Wu,
"Performance-effective and low-complexity task scheduling for heterogeneous computing", IEEE TPDS
13, 2002), as what turns priorities that a search changes into schedules.
"""

# ruff: noqa: PLR1730 - these loops are what a search spends its time in, and max() costs a call

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

from dioe.planning.assigned import Assigned
from dioe.planning.tables import Tables


def upward_ranks(tables: Tables) -> list[float]:
    """The longest path from each block on, itself included, with mean times of blocks and
    transfers."""
    devices = range(len(tables.devices))
    mean = []
    for row in tables.ms:
        known = [ms for ms in row if ms < math.inf]
        mean.append(sum(known) / len(known))
    pairs = [(a, b) for a in devices for b in devices]
    across = [sum(cross[a][b] for a, b in pairs) / len(pairs) for cross in tables.cross]
    rank = [0.0] * tables.n
    for i in reversed(range(tables.n)):
        rank[i] = mean[i] + max((across[v] + rank[s] for s, v in tables.succs[i]), default=0.0)
    return rank


def decode(
    tables: Tables, priority: Sequence[float], bias: Sequence[Sequence[float]] | None = None
) -> Assigned | None:
    """Blocks that are ready by descending ``priority``, each on the device where it ends first
    (plus ``bias`` ms by block and target), in a gap if one is long enough.

    Memory is kept as far as weights fill it; None if that leaves no place for a block.
    """
    n = tables.n
    missing = [len(row) for row in tables.preds]
    ready = sorted((-priority[i], i) for i, count in enumerate(missing) if not count)
    partial = _Partial(tables)
    while ready:
        i = ready.pop(0)[1]
        if not partial.put(i, None if bias is None else bias[i]):
            return None
        for s, _ in tables.succs[i]:
            missing[s] -= 1
            if not missing[s]:
                insort(ready, (-priority[s], s))
    level = [0] * n
    for i in range(n):
        level[i] = max((level[p] + 1 for p, _ in tables.preds[i]), default=0)
    start = partial.start
    return Assigned(partial.targets, sorted(range(n), key=lambda i: (start[i], level[i])))


class _Partial:
    """A schedule of the blocks so far."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.start = [0.0] * tables.n
        self.targets = [-1] * tables.n
        self._finish = [0.0] * tables.n
        self._where = [-1] * tables.n
        self._busy: list[list[list[tuple[float, float]]]] = [
            [[] for _ in range(count)] for count in tables.lanes
        ]
        self._room = list(tables.memory)
        self._tied: dict[int, int] = {}  # the device of a group, by its first block

    def put(self, i: int, bias: Sequence[float] | None) -> bool:
        """A block where it ends first; False if there is no place for it."""
        tables, row, weights = self._tables, self._tables.ms[i], self._tables.weights[i]
        group = tables.peers[i]
        only = self._tied.get(group[0]) if group else None
        arrive: dict[int, float] = {}
        best: tuple[float, float, int, int] | None = None
        for t, d in enumerate(tables.device_of):
            ms = row[t]
            if ms == math.inf or weights[t] > self._room[d] or (only is not None and d != only):
                continue
            if d not in arrive:
                arrive[d] = self._arrival(i, d)
            begin, lane = arrive[d], -1
            if tables.lanes[d]:
                begin, lane = min(
                    (_gap(spans, arrive[d], ms), k) for k, spans in enumerate(self._busy[d])
                )
            cost = begin + ms if bias is None else begin + ms + bias[t]
            if best is None or cost < best[0]:
                best = cost, begin, t, lane
        if best is None:
            return False
        _, begin, t, lane = best
        d = tables.device_of[t]
        if lane >= 0:
            insort(self._busy[d][lane], (begin, begin + row[t]))
        self.targets[i], self._where[i] = t, d
        self.start[i], self._finish[i] = begin, begin + row[t]
        self._room[d] -= weights[t]
        if group:
            self._tied[group[0]] = d
        return True

    def _arrival(self, i: int, d: int) -> float:
        """When all that a block reads is on a device."""
        tables, finish, where, cross = self._tables, self._finish, self._where, self._tables.cross
        now = 0.0
        for p, v in tables.preds[i]:
            there = finish[p] + cross[v][where[p]][d]
            if there > now:
                now = there
        for v in tables.inputs[i] if tables.home >= 0 else ():
            now = max(now, cross[v][tables.home][d])
        return now


def _gap(spans: Sequence[tuple[float, float]], since: float, ms: float) -> float:
    """The first instant that a lane is free for so long."""
    if not spans or spans[-1][1] <= since:
        return since
    now = since
    for k in range(len(spans) - 1, -1, -1):  # the last one that ends before: gaps begin there
        if spans[k][1] <= since:
            break
    else:
        k = -1
    for begin, end in spans[k + 1 :]:
        if begin - now >= ms:
            return now
        if end > now:
            now = end
    return now
