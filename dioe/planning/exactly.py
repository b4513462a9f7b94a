"""A part of a problem as machines and tasks, for exact solvers: everything else is a number.

The whole problem, or a window of an order: what comes before the window is done at a known time,
and what comes behind it takes a known time from there (the longest path through what stays as it
is), so a solver that knows only the window still knows the latency of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dioe.planning.search.lanes import Lanes
from dioe.planning.tables import Tables


@dataclass(frozen=True, slots=True)
class Part:
    """Blocks of a problem on machines (devices, or single lanes of them). Times in ms.

    ``ms``, ``release`` and ``tail`` are by block (its place in ``blocks``) and machine: how long it
    takes, when what it reads from outside is there, and what follows it outside; inf where it can't
    run. ``target`` is what it runs as. ``device`` and ``capacity`` (0: any number at a time) are by
    machine, so are ``free`` (from when) and ``behind`` (what follows whatever runs there last).
    ``edges`` are two places and a value. ``room`` is what each device has left for ``weights``.
    ``rest_ms`` is the longest path that leaves the part out.
    """

    blocks: list[int]
    ms: list[list[float]]
    target: list[list[int]]
    release: list[list[float]]
    tail: list[list[float]]
    device: list[int]
    capacity: list[int]
    free: list[float]
    behind: list[float]
    edges: list[tuple[int, int, int]]
    groups: list[list[int]]
    weights: list[list[float]]
    room: list[float]
    rest_ms: float = 0.0


def whole(tables: Tables) -> Part:
    """All of a ``flat`` problem, devices as machines."""
    lanes = Lanes(tables)
    count, devices = range(tables.n), range(len(tables.devices))
    return Part(
        list(count),
        [list(row) for row in lanes.ms],
        [list(row) for row in lanes.fastest],
        [list(row) for row in lanes.begin],
        [list(row) for row in lanes.leave],
        list(devices),
        list(tables.lanes),
        [0.0] * len(devices),
        [0.0] * len(devices),
        [(p, i, v) for i in count for p, v in tables.preds[i]],
        [list(group) for group in sorted({g for g in tables.peers if len(g) > 1})],
        _weights(tables, lanes, list(count)),
        list(tables.memory),
    )


def window(lanes: Lanes, first: int, last: int) -> Part:
    """The blocks at the places ``first`` to ``last`` (excluded) of the order of ``lanes``, single
    lanes as machines; what they share a group with, or is held by the others, stays."""
    tables, cross = lanes.tables, lanes.tables.cross
    blocks = lanes.order[first:last]
    place = {i: k for k, i in enumerate(blocks)}
    machines: list[tuple[int, int]] = []
    for d, own in enumerate(lanes.lanes_of):
        machines += [(d, lane) for lane in own] or [(d, -1)]
    after = lanes.order[last:]
    tail, through = _tails_without(lanes, after, place)
    free, behind = [0.0] * len(machines), [0.0] * len(machines)
    for k, (_, lane) in enumerate(machines):
        for i in lanes.sequence[lane] if lane >= 0 else ():
            if i in place:
                continue
            if lanes.at[i] < first:
                free[k] = lanes.finish[i]
            else:
                behind[k] = tail[i]
                break
    ms, target, release, tails = [], [], [], []
    fixed = {i for i in blocks for peer in tables.peers[i] if peer not in place}
    for i in blocks:
        row, come, go = [], [], []
        for d, _ in machines:
            allowed = i not in fixed or d == lanes.device[i]
            row.append(lanes.ms[i][d] if allowed else math.inf)
            now = lanes.begin[i][d]
            for p, v in tables.preds[i]:
                if p not in place:
                    now = max(now, lanes.finish[p] + cross[v][lanes.device[p]][d])
            come.append(now)
            left = lanes.leave[i][d]
            for s, v in tables.succs[i]:
                if s not in place:
                    left = max(left, tail[s] + cross[v][d][lanes.device[s]])
            go.append(left)
        ms.append(row)
        release.append(come)
        tails.append(go)
        target.append([lanes.fastest[i][d] for d, _ in machines])
    room = list(tables.memory)
    for i, d in enumerate(lanes.device):
        if i not in place:
            room[d] -= tables.weights[i][lanes.fastest[i][d]]
    weights = _weights(tables, lanes, blocks)
    groups = {tables.peers[i] for i in blocks if len(tables.peers[i]) > 1 and i not in fixed}
    return Part(
        blocks, ms, target, release, tails,
        [d for d, _ in machines], [int(lane >= 0) for _, lane in machines], free, behind,
        [(place[p], place[i], v) for i in blocks for p, v in tables.preds[i] if p in place],
        [[place[i] for i in group] for group in sorted(groups)],
        [[row[d] for d, _ in machines] for row in weights], room, through,
    )  # fmt: skip


def _weights(tables: Tables, lanes: Lanes, blocks: Sequence[int]) -> list[list[float]]:
    return [[tables.weights[i][t] if t >= 0 else 0.0 for t in lanes.fastest[i]] for i in blocks]


def _tails_without(
    lanes: Lanes, after: Sequence[int], place: dict[int, int]
) -> tuple[list[float], float]:
    """Tails of the blocks behind a window, and the longest path that doesn't touch it."""
    tables, cross = lanes.tables, lanes.tables.cross
    tail = [0.0] * tables.n
    follows: dict[int, int] = {}
    for row in lanes.sequence:
        outside = [i for i in row if i not in place]
        follows.update(pairwise(outside))
    late = set(after)
    longest = 0.0
    for i in reversed(after):
        d = lanes.device[i]
        now = lanes.leave[i][d]
        for s, v in tables.succs[i]:
            now = max(now, tail[s] + cross[v][d][lanes.device[s]])
        if i in follows:
            now = max(now, tail[follows[i]])
        tail[i] = now + lanes.p[i]
        ready = lanes.begin[i][d]
        for p, v in tables.preds[i]:
            if p not in place and p not in late:
                ready = max(ready, lanes.finish[p] + cross[v][lanes.device[p]][d])
        longest = max(longest, ready + tail[i])
    for i in range(tables.n):
        if i in place or i in late:
            continue
        longest = max(longest, lanes.finish[i] + lanes.leave[i][lanes.device[i]])
        if i in follows and follows[i] in late:
            longest = max(longest, lanes.finish[i] + tail[follows[i]])
    return tail, longest
