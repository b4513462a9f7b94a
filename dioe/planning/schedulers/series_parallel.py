"""Dynamic programming over chains and series-parallel graphs, for latency.

J. Valdes, R. E. Tarjan, E. L. Lawler, "The recognition of series parallel digraphs", SIAM J.
Comput. 11(2), 1982: a block between two others becomes one edge, edges with the same ends become
one. Here an edge knows what lies between its ends, by their targets; a chain is the case of one
edge at a time. (The programme for chains is that of S. H. Bokhari, "Partitioning problems in
parallel, pipelined, and distributed computing", IEEE Trans. Comput. 37(1), 1988.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.ranks import by_rank, upward
from dioe.planning.tables import Tables

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def series_parallel(tables: Tables) -> Assigned | None:
    """The earliest end of a series-parallel graph; None for other graphs, for colocation groups,
    and where the answer doesn't fit into the memories.

    Exact where blocks wait for nothing but values: on chains, and on other graphs if lanes are
    unbounded and links without queues. Besides, model inputs that come from ``home`` should belong
    to the first block, and outputs that go there to the last; and of a stage's costs only those
    between neighbours are known.
    """
    if any(tables.peers):
        return None
    parts = _parts(tables)
    targets = None if parts is None else _chosen(tables, parts)
    if targets is None:
        return None
    held = [0.0] * len(tables.devices)
    for i, t in enumerate(targets):
        held[tables.device_of[t]] += tables.weights[i][t]
    if any(need > limit for need, limit in zip(held, tables.memory, strict=True)):
        return None
    return Assigned(targets, by_rank(upward(tables, EdgeCosts(tables))))


class _Part(NamedTuple):
    """An edge: with a ``middle`` that block and the two edges around it, else edges side by side
    (by their numbers), and without any ``parts`` an edge of the graph itself, with its ends."""

    parts: tuple[int, ...] = ()
    middle: int = -1
    before: int = -1
    after: int = -1


def _parts(tables: Tables) -> list[_Part] | None:
    """What the graph is made of, every edge behind its parts, the whole graph last; None if it
    isn't series-parallel.

    The graph has a start and an end of its own, numbered behind the blocks.
    """
    start, end = tables.n, tables.n + 1
    parts: list[_Part] = []
    succs: list[dict[int, int]] = [{} for _ in range(tables.n + 2)]
    preds: list[set[int]] = [set() for _ in range(tables.n + 2)]

    def add(before: int, after: int, part: _Part) -> None:
        parts.append(part)
        known = succs[before].get(after)
        if known is not None:
            parts.append(_Part((known, len(parts) - 1)))
        succs[before][after] = len(parts) - 1
        preds[after].add(before)

    for before, after in _edges(tables):
        add(before, after, _Part((), -1, before, after))
    ready = list(range(tables.n))
    left = tables.n
    while ready:
        i = ready.pop()
        if len(preds[i]) != 1 or len(succs[i]) != 1:
            continue
        (before,) = preds[i]
        ((after, second),) = succs[i].items()
        first = succs[before].pop(i)
        preds[after].discard(i)
        succs[i], preds[i] = {}, set()
        add(before, after, _Part((first, second), i))
        left -= 1
        ready += [j for j in (before, after) if j < tables.n]
    return None if left or end not in succs[start] else parts


def _edges(tables: Tables) -> Iterator[tuple[int, int]]:
    """Between blocks; from the start to those that read nothing or inputs from home, and to the end
    from those that nothing reads, or whose values go home."""
    start, end, home = tables.n, tables.n + 1, tables.home >= 0
    last = {tables.maker[value] for value in tables.outputs} if home else set()
    for i, pairs in enumerate(tables.preds):
        if not pairs or (home and tables.inputs[i]):
            yield start, i
        for source in dict.fromkeys(source for source, _ in pairs):
            yield source, i
        if not tables.succs[i] or i in last:
            yield i, end


def _chosen(tables: Tables, parts: Sequence[_Part]) -> list[int] | None:
    """The targets with which the last block ends first; None if a block has none."""
    leaf_ms = _Leaves(tables)
    times: list[Floats] = []
    """By edge and the targets of its ends: from the end of one to the start of the other."""
    choices: dict[int, Ints] = {}
    for number, part in enumerate(parts):
        if part.middle >= 0:
            first, second = (times[each] for each in part.parts)
            ways = (first + leaf_ms.own(part.middle))[:, :, None] + second[None, :, :]
            times.append(ways.min(axis=1))
            choices[number] = ways.argmin(axis=1)
        elif part.parts:
            times.append(np.maximum(*(times[each] for each in part.parts)))
        else:
            times.append(leaf_ms.between(part.before, part.after))
    if times[-1][0, 0] == math.inf:
        return None
    targets = [-1] * tables.n
    stack = [(len(parts) - 1, 0, 0)]
    while stack:
        number, a, b = stack.pop()
        part = parts[number]
        if part.middle < 0:
            stack += [(each, a, b) for each in part.parts]
            continue
        t = targets[part.middle] = int(choices[number][a, b])
        stack += [(part.parts[0], a, t), (part.parts[1], t, b)]
    return targets


class _Leaves:
    """What blocks and the edges of the graph itself cost."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lasting: dict[int, list[int]] = {}
        for value in tables.outputs:
            self._lasting.setdefault(tables.maker[value], []).append(value)
        self._dispatch = np.array([[costs.dispatch_ms for costs in tables.problem.targets]])

    def own(self, i: int) -> Floats:
        """A block's time with what its model inputs and outputs cost its stage, by target."""
        tables = self._tables
        rows = np.array(tables.ms[i])
        if tables.flat:
            return rows
        for t, costs in enumerate(tables.problem.targets):
            entry, leave = costs.entry + costs.copy_in, costs.exit + costs.copy_out
            rows[t] += sum(entry.ms(int(tables.nbytes[v])) for v in tables.inputs[i])
            rows[t] += sum(leave.ms(int(tables.nbytes[v])) for v in self._lasting.get(i, ()))
        return rows

    def between(self, before: int, after: int) -> Floats:
        """What an edge takes, by the targets of its ends."""
        tables = self._tables
        targets = range(tables.m)
        if before == tables.n:
            inputs = tables.inputs[after] if tables.home >= 0 else []
            row = [self._home_ms(inputs, t, into=True) for t in targets]
            return np.array([row]) + (0.0 if tables.preds[after] else self._dispatch)
        if after == tables.n + 1:
            outputs = self._lasting.get(before, []) if tables.home >= 0 else []
            return np.array([[self._home_ms(outputs, t, into=False)] for t in targets])
        return _between(tables, [v for source, v in tables.preds[after] if source == before])

    def _home_ms(self, values: list[int], target: int, *, into: bool) -> float:
        tables = self._tables
        device, home = tables.device_of[target], tables.home
        ends = (home, device) if into else (device, home)
        times = [tables.transfer_ms(value, *ends) for value in values]
        return sum(times) if tables.queued else max(times, default=0.0)


def _between(tables: Tables, values: list[int]) -> Floats:
    """What values take from one block to the next, by their targets."""
    problem = tables.problem
    lasting = set(tables.outputs)  # their exit is the block's own
    found = np.zeros((tables.m, tables.m))
    for a, source in enumerate(problem.targets):
        for b, target in enumerate(problem.targets):
            there = tables.device_of[a], tables.device_of[b]
            if there[0] == there[1] and tables.group_of[a] == tables.group_of[b]:
                if a != b:
                    sizes = [int(tables.nbytes[value]) for value in values]
                    found[a, b] = sum(problem.switch.ms(size) for size in sizes)
                continue
            leave, entry = source.exit, target.entry
            if source.context != target.context:
                leave, entry = leave + source.copy_out, entry + target.copy_in
            ms = target.dispatch_ms
            if there[0] == there[1]:
                ms += problem.handover_ms(a, b)
            for value in values:
                size = int(tables.nbytes[value])
                ms += entry.ms(size) + (0.0 if value in lasting else leave.ms(size))
            times = [tables.transfer_ms(value, *there) for value in values]
            found[a, b] = ms + (sum(times) if tables.queued else max(times))
    return found
