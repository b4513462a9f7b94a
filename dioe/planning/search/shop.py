"""What a search over sequences works on: blocks, lanes, and what lies around them, by number.

All of a problem, or a window of an order: a run of blocks that get new places while the others keep
theirs. What comes before a window is done at a known time, and what comes behind it takes a known
time from there (the longest path through what stays as it is); so a search that knows only the
window still knows the latency of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dioe.planning.tables import Tables

Cross = list[list[float]]
"""What a value takes, by source and destination device."""


@dataclass(frozen=True, slots=True)
class Shop:
    """Blocks by their place in ``blocks``, which has their numbers in the problem. Times in ms.

    ``sources`` and ``sinks`` are pairs of a block and what the value between the two takes. By
    block and device are ``ms``, inf where it can't run, ``fastest`` (the target it runs as, -1 for
    none), ``begin`` (when what it reads from outside is there), ``leave`` (what follows it outside)
    and ``weights`` in bytes. ``able`` are the devices that a block may be moved to by itself;
    ``groups`` are blocks that may move only together. ``lanes_of`` has the lanes of each device,
    none where there is any number; by lane, and after the last of them for blocks without one, are
    ``free`` (from when) and ``behind`` (what follows whatever runs there last). ``room`` is what
    each device has left, in bytes; ``rest_ms`` the longest path that touches no block.
    """

    blocks: list[int]
    sources: list[list[tuple[int, Cross]]]
    sinks: list[list[tuple[int, Cross]]]
    ms: list[list[float]]
    fastest: list[list[int]]
    begin: list[list[float]]
    leave: list[list[float]]
    weights: list[list[float]]
    able: list[list[int]]
    groups: list[list[int]]
    lanes_of: list[list[int]]
    free: list[float]
    behind: list[float]
    room: list[float]
    rest_ms: float = 0.0

    @property
    def lanes(self) -> int:
        """How many lanes there are."""
        return len(self.free) - 1


def whole(tables: Tables, *, slower: float = 1.0) -> Shop:
    """All of a ``flat`` problem; each block runs on the fastest target of its device. Transfers
    that wait in queues take ``slower`` times as long, to stand for that."""
    count, devices, home = tables.n, len(tables.devices), tables.home
    cross = tables.cross if slower == 1.0 else _slowed(tables, slower)
    fastest = [fastest_targets(tables, row, devices) for row in tables.ms]
    ms = [
        [math.inf if t < 0 else row[t] for t in own]
        for row, own in zip(tables.ms, fastest, strict=True)
    ]
    begin = [[0.0] * devices for _ in range(count)]
    leave = [[0.0] * devices for _ in range(count)]
    if home >= 0:
        for i, values in enumerate(tables.inputs):
            if values:
                begin[i] = [max(cross[v][home][d] for v in values) for d in range(devices)]
        for v in tables.outputs:
            maker = tables.maker[v]
            if maker >= 0:
                leave[maker] = [max(leave[maker][d], cross[v][d][home]) for d in range(devices)]
    lanes_of: list[list[int]] = []
    lanes = 0
    for number in tables.lanes:
        lanes_of.append(list(range(lanes, lanes + number)))
        lanes += number
    alone = [len(group) <= 1 for group in tables.peers]
    return Shop(
        list(range(count)),
        [[(p, cross[v]) for p, v in row] for row in tables.preds],
        [[(s, cross[v]) for s, v in row] for row in tables.succs],
        ms,
        fastest,
        begin,
        leave,
        [
            [tables.weights[i][t] if t >= 0 else 0.0 for t in row]
            for i, row in enumerate(fastest)
        ],
        [
            [d for d, each in enumerate(row) if each < math.inf] if alone[i] else []
            for i, row in enumerate(ms)
        ],
        [list(group) for group in sorted({g for g in tables.peers if len(g) > 1})],
        lanes_of,
        [0.0] * (lanes + 1),
        [0.0] * (lanes + 1),
        list(tables.memory),
    )  # fmt: skip


def _slowed(tables: Tables, factor: float) -> list[Cross]:
    factors = [[factor if queue >= 0 else 1.0 for queue in row] for row in tables.queue_of]
    known: dict[int, Cross] = {}
    for cross in tables.cross:
        if id(cross) not in known:
            known[id(cross)] = [
                [ms * by for ms, by in zip(*rows, strict=True)]
                for rows in zip(cross, factors, strict=True)
            ]
    return [known[id(cross)] for cross in tables.cross]


def fastest_targets(tables: Tables, row: Sequence[float], devices: int) -> list[int]:
    """The target of each device with the least time in a block's row of times; -1 for none."""
    found = [-1] * devices
    for t, ms in enumerate(row):
        d = tables.device_of[t]
        if ms < math.inf and (found[d] < 0 or ms < row[found[d]]):
            found[d] = t
    return found
