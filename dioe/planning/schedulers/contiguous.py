"""A contiguous split for the throughput of a pipeline: each device gets one run of blocks.

D. Narayanan et al., "PipeDream: generalized pipeline parallelism for DNN training", SOSP 2019, and
J. Tarnawski et al., "Efficient algorithms for device placement of DNN graph operators", NeurIPS
2020: a dynamic programme over the prefixes of an order that minimises the largest load. Unlike
devices are kept apart by their kind: a state is how many of each kind are used. With too many
states for that the devices have an order, which a local search improves.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dioe.planning.assigned import Assigned
from dioe.planning.orders import Order, block_orders, depth_first
from dioe.planning.schedulers.segment_loads import Floats, SegmentLoads
from dioe.planning.tables import Tables

MOST_CUTS = 256
MOST_STATES = 4096
MOST_ROWS = 1000
"""Orders of devices that are looked at, where there are too many states."""

_WORK = 3e7
"""Comparisons of one order; with many states there are fewer cuts."""

_ALL_ORDERS = 300
"""Up to this many blocks several orders are tried that are worth cutting."""


def contiguous(tables: Tables) -> Assigned | None:
    """The split with the smallest largest load: that of a device's stage, shared by its lanes, or
    of what comes in over its links' queues.

    Each device is used once at the most. Exact for each order it tries as long as that has no more
    than ``MOST_CUTS`` cuts and transfers take the same from all devices; memory counts by weights.
    None where there is one device alone, or no split fits.
    """
    if len(set(tables.device_of)) < 2:
        return None
    kinds = _kinds(tables)
    states = math.prod(len(kind.devices) + 1 for kind in kinds)
    best: tuple[float, Assigned] | None = None
    for order in _orders(tables):
        if states <= MOST_STATES:
            cuts = int((_WORK / (states * len(kinds))) ** 0.5)
            loads = SegmentLoads(tables, order, min(MOST_CUTS, max(cuts, 16)))
            found = _by_state(kinds, [_load(tables, loads, kind) for kind in kinds])
        else:
            loads = SegmentLoads(tables, order, 64)
            found = _by_order(kinds, [_load(tables, loads, kind) for kind in kinds])
        if found is not None and (best is None or found[0] < best[0]):
            best = found[0], _assigned(tables, order, loads, found[1])
    return None if best is None else best[1]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Devices that are alike, and what a run of blocks may be placed on there: by block one of the
    device's targets."""

    devices: tuple[int, ...]
    choices: tuple[tuple[tuple[int, ...], ...], ...]  # by device


@dataclass(frozen=True, slots=True)
class _Load:
    """Loads of a kind's segments by start and end, and which of its choices gives each."""

    ms: Floats
    choice: np.ndarray[tuple[int, int], np.dtype[np.int64]]


_Piece = tuple[int, int, tuple[int, ...]]
"""Cuts at the start and at the end, and targets by block."""


def _orders(tables: Tables) -> Iterator[Order]:
    if tables.n <= _ALL_ORDERS:
        yield from block_orders(tables.problem)
        return
    yield tuple(range(tables.n))
    after = [sorted({j for j, _ in row}) for row in tables.succs]
    before = [sorted({j for j, _ in row}) for row in tables.preds]
    yield depth_first(after, before, backwards=False)


def _kinds(tables: Tables) -> list[_Kind]:
    problem = tables.problem
    net = problem.network
    found: dict[object, list[int]] = {}
    for d in range(len(tables.devices)):
        own = [t for t in range(tables.m) if tables.device_of[t] == d]
        if not own:
            continue
        others = [e for e in range(len(tables.devices)) if e != d]
        ways = sorted(
            (way.fixed_ms, way.ms_per_byte, way.queue < 0)
            for way in (net.ways.get((e, d)) for e in others)
            if way is not None
        )
        costs = [problem.targets[t] for t in own]
        key = (
            tables.lanes[d],
            tables.memory[d],
            d == tables.home,
            tuple(ways),
            tuple(
                (c.dispatch_ms, c.entry, c.exit, c.copy_in, c.copy_out, c.precision) for c in costs
            ),
            tables.durations[:, own].tobytes(),
            tuple(tuple(row[t] for t in own) for row in tables.weights),
        )
        found.setdefault(key, []).append(d)
    return [
        _Kind(tuple(devices), tuple(_choices(tables, d) for d in devices))
        for devices in found.values()
    ]


def _choices(tables: Tables, device: int) -> tuple[tuple[int, ...], ...]:
    """All blocks on one target; where stages cost nothing each on its fastest."""
    own = [t for t in range(tables.m) if tables.device_of[t] == device]
    if tables.flat:
        rows = tables.durations[:, own].argmin(axis=1)
        return (tuple(own[k] for k in rows.tolist()),)
    return tuple((t,) * tables.n for t in own)


def _load(tables: Tables, loads: SegmentLoads, kind: _Kind) -> _Load:
    device = kind.devices[0]
    lanes = tables.lanes[device]
    arriving = loads.transfers(device)
    rows = []
    for targets in kind.choices[0]:
        ms = loads.compute(targets)
        if not tables.flat:
            ms = ms + loads.stage(targets[0])
        ms = np.maximum(ms / lanes, arriving) if lanes else np.where(ms < math.inf, arriving, ms)
        rows.append(np.where(loads.weights(targets) <= tables.memory[device], ms, math.inf))
    stacked = np.stack(rows)
    least = stacked.min(axis=0)
    np.fill_diagonal(least, math.inf)  # an empty piece is no piece
    return _Load(least, stacked.argmin(axis=0))


def _by_state(kinds: Sequence[_Kind], loads: Sequence[_Load]) -> tuple[float, list[_Piece]] | None:
    """By how many devices of each kind are used: the least largest load of every prefix."""
    size = len(loads[0].ms)
    counts = [range(len(kind.devices) + 1) for kind in kinds]
    start = (0,) * len(kinds)
    reached: dict[tuple[int, ...], Floats] = {}
    came: dict[tuple[int, ...], tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]] = {}
    first = np.full(size, math.inf)
    first[0] = 0.0
    reached[start] = first
    for state in sorted(itertools.product(*counts), key=sum)[1:]:
        best = np.full(size, math.inf)
        cut, last = np.zeros(size, dtype=np.int64), np.full(size, -1, dtype=np.int64)
        for k, used in enumerate(state):
            if not used:
                continue
            before = reached[(*state[:k], used - 1, *state[k + 1 :])]
            largest = np.maximum(before[:, None], loads[k].ms)
            at = largest.argmin(axis=0)
            value = largest[at, np.arange(size)]
            better = value < best
            best = np.where(better, value, best)
            cut, last = np.where(better, at, cut), np.where(better, k, last)
        reached[state], came[state] = best, (cut, last)
    state = min(reached, key=lambda each: float(reached[each][-1]))
    value = float(reached[state][-1])
    if value == math.inf:
        return None
    pieces: list[_Piece] = []
    end = size - 1
    while end:
        cut, last = came[state]
        begin, k = int(cut[end]), int(last[end])
        used = state[k] - 1  # the devices of a kind are alike: any of those that are left
        pieces.append((begin, end, kinds[k].choices[used][int(loads[k].choice[begin, end])]))
        state = (*state[:k], used, *state[k + 1 :])
        end = begin
    return value, pieces[::-1]


def _by_order(kinds: Sequence[_Kind], loads: Sequence[_Load]) -> tuple[float, list[_Piece]] | None:
    """The same for devices in an order, the fastest first, changed as long as that helps; then for
    others."""
    row = [k for k, kind in enumerate(kinds) for _ in kind.devices]
    row.sort(key=lambda k: float(loads[k].ms[0, -1]))
    best = _along(kinds, loads, row)
    rng, tries = random.Random(0), MOST_ROWS
    while tries > 0:
        found = _along(kinds, loads, row)
        improved = found is not None
        while improved and tries > 0:
            improved = False
            for changed in _neighbours(row):
                tries -= 1
                other = _along(kinds, loads, changed)
                if other is not None and (found is None or other[0] < found[0] * (1 - 1e-9)):
                    found, row, improved = other, changed, True
                    break
        if found is not None and (best is None or found[0] < best[0]):
            best = found
        row = rng.sample(row, len(row))
        tries -= 1
    return best


def _neighbours(row: list[int]) -> Iterator[list[int]]:
    """The row with two swapped, or with one at another place."""
    for a, b in itertools.permutations(range(len(row)), 2):
        if row[a] == row[b]:
            continue
        if a < b:
            swapped = list(row)
            swapped[a], swapped[b] = row[b], row[a]
            yield swapped
        rest = row[:a] + row[a + 1 :]
        yield [*rest[:b], row[a], *rest[b:]]


def _along(
    kinds: Sequence[_Kind], loads: Sequence[_Load], row: Sequence[int]
) -> tuple[float, list[_Piece]] | None:
    size = len(loads[0].ms)
    value = np.full(size, math.inf)
    value[0] = 0.0
    cuts = []
    for k in row:
        largest = np.maximum(value[:, None], loads[k].ms)
        at = largest.argmin(axis=0)
        found = largest[at, np.arange(size)]
        at = np.where(found < value, at, -1)  # -1: this device is left out
        value = np.minimum(found, value)
        cuts.append(at)
    if value[-1] == math.inf:
        return None
    pieces: list[_Piece] = []
    end = size - 1
    used = [0] * len(kinds)
    for k, at in zip(reversed(row), reversed(cuts), strict=True):
        begin = int(at[end])
        if begin < 0:
            continue
        targets = kinds[k].choices[used[k]][int(loads[k].choice[begin, end])]
        used[k] += 1
        pieces.append((begin, end, targets))
        end = begin
    return float(value[-1]), pieces[::-1]


def _assigned(
    tables: Tables, order: Order, loads: SegmentLoads, pieces: Sequence[_Piece]
) -> Assigned:
    targets = [-1] * tables.n
    cuts = set()
    for start, end, chosen in pieces:
        members = order[int(loads.cuts[start]) : int(loads.cuts[end])]
        cuts.add(members[0])
        for i in members:
            targets[i] = chosen[i]
    return Assigned(targets, list(order), frozenset(cuts))
