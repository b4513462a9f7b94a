"""Dynamic programming over chains and series-parallel graphs, for latency.

J. Valdes, R. E. Tarjan, E. L. Lawler, "The recognition of series parallel digraphs", SIAM J.
Comput. 11(2), 1982: a block between two others becomes one edge, edges with the same ends become
one. Here an edge knows what lies between its ends, by their targets; a chain is the case of one
edge at a time. (The programme for chains is that of S. H. Bokhari, "Partitioning problems in
parallel, pipelined, and distributed computing", IEEE Trans. Comput. 37(1), 1988.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

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
    graph = _Reduction(tables)
    targets = graph.targets()
    if targets is None:
        return None
    held = [0.0] * len(tables.devices)
    for i, t in enumerate(targets):
        held[tables.device_of[t]] += tables.weights[i][t]
    if any(need > limit for need, limit in zip(held, tables.memory, strict=True)):
        return None
    return Assigned(targets, by_rank(upward(tables, EdgeCosts(tables))))


@dataclass(frozen=True, eq=False)
class _Edge:
    """What lies between two blocks: ``ms`` by their targets, from the end of one to the start of
    the other. ``middle`` is a block that was there, on the targets of ``choice``, between the edges
    of ``parts``; without one they lie side by side."""

    ms: Floats
    parts: tuple[_Edge, ...] = ()
    middle: int = -1
    choice: Ints | None = None


class _Reduction:
    """The graph with a start and an end of its own, reduced as far as it goes."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._start, self._end = tables.n, tables.n + 1
        self._own = np.array([_own_ms(tables, i) for i in range(tables.n)])
        self._succs: list[dict[int, _Edge]] = [{} for _ in range(tables.n + 2)]
        self._preds: list[set[int]] = [set() for _ in range(tables.n + 2)]
        self._add_all()

    def targets(self) -> list[int] | None:
        """The best target of each block; None if the graph isn't series-parallel, or none runs."""
        tables = self._tables
        ready = [i for i in range(tables.n) if self._between_two(i)]
        left = tables.n
        while ready:
            i = ready.pop()
            if not self._between_two(i):
                continue
            (before,) = self._preds[i]
            ((after, second),) = self._succs[i].items()
            first = self._succs[before].pop(i)
            self._preds[after].discard(i)
            self._succs[i], self._preds[i] = {}, set()
            self._add(before, after, _series(first, i, self._own[i], second))
            left -= 1
            ready += [j for j in (before, after) if j < tables.n and self._between_two(j)]
        whole = self._succs[self._start].get(self._end)
        if left or whole is None or whole.ms[0, 0] == math.inf:
            return None
        return _chosen(whole, tables.n)

    def _between_two(self, i: int) -> bool:
        return len(self._preds[i]) == 1 and len(self._succs[i]) == 1

    def _add(self, before: int, after: int, edge: _Edge) -> None:
        """Add an edge; beside one that is there both have to be through."""
        known = self._succs[before].get(after)
        if known is not None:
            edge = _Edge(np.maximum(known.ms, edge.ms), (known, edge))
        self._succs[before][after] = edge
        self._preds[after].add(before)

    def _add_all(self) -> None:
        tables = self._tables
        dispatch = np.array([[costs.dispatch_ms for costs in tables.problem.targets]])
        values: dict[tuple[int, int], list[int]] = {}
        for i, pairs in enumerate(tables.preds):
            for source, value in pairs:
                values.setdefault((source, i), []).append(value)
            if not pairs:
                self._add(self._start, i, _Edge(dispatch))
            if tables.home >= 0 and tables.inputs[i]:
                row = [self._home_ms(tables.inputs[i], t, into=True) for t in range(tables.m)]
                self._add(self._start, i, _Edge(np.array([row]) + (0.0 if pairs else dispatch)))
        for (source, i), carried in values.items():
            self._add(source, i, _Edge(_between(tables, carried)))
        last: dict[int, list[int]] = {}
        for value in tables.outputs:
            if tables.maker[value] >= 0 and tables.home >= 0:
                last.setdefault(tables.maker[value], []).append(value)
        for i in range(tables.n):
            if i in last:
                row = [self._home_ms(last[i], t, into=False) for t in range(tables.m)]
                self._add(i, self._end, _Edge(np.array(row)[:, None]))
            elif not tables.succs[i]:
                self._add(i, self._end, _Edge(np.zeros((tables.m, 1))))

    def _home_ms(self, values: list[int], target: int, *, into: bool) -> float:
        tables = self._tables
        device, home = tables.device_of[target], tables.home
        ends = (home, device) if into else (device, home)
        times = [tables.transfer_ms(value, *ends) for value in values]
        return sum(times) if tables.queued else max(times)


def _own_ms(tables: Tables, i: int) -> list[float]:
    """A block's time with what its model inputs and outputs cost its stage, by target."""
    block, rows = tables.problem.blocks[i], list(tables.ms[i])
    inputs = [tables.nbytes[value] for value in tables.inputs[i]]
    lasting = set(tables.problem.outputs) & block.gives.keys() if not tables.flat else ()
    for t, costs in enumerate(tables.problem.targets):
        entry, leave = costs.entry + costs.copy_in, costs.exit + costs.copy_out
        rows[t] += sum(entry.fixed_ms + entry.ms_per_byte * nbytes for nbytes in inputs)
        rows[t] += sum(leave.ms(block.gives[value]) for value in lasting)
    return rows


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


def _series(first: _Edge, middle: int, own: Floats, second: _Edge) -> _Edge:
    ways = (first.ms + own)[:, :, None] + second.ms[None, :, :]
    return _Edge(ways.min(axis=1), (first, second), middle, ways.argmin(axis=1))


def _chosen(whole: _Edge, count: int) -> list[int]:
    """The targets that the least time of an edge from the start to the end stands for."""
    targets = [-1] * count
    stack = [(whole, 0, 0)]
    while stack:
        edge, a, b = stack.pop()
        if edge.choice is None:
            stack += [(part, a, b) for part in edge.parts]
            continue
        t = targets[edge.middle] = int(edge.choice[a, b])
        first, second = edge.parts
        stack += [(first, a, t), (second, t, b)]
    return targets
