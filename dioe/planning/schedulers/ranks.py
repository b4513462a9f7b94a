"""How far blocks are from the last and from the first one: what list schedulers order them by.

The ranks of Topcuoglu, Hariri and Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE TPDS 13(3), 2002: the mean time of a block over the targets that run
it, and the mean cost of a value over pairs of targets.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.tables import Tables


def mean_ms(tables: Tables) -> list[float]:
    """The mean time of each block over the targets that run it."""
    runs = np.isfinite(tables.durations)
    total = np.where(runs, tables.durations, 0.0).sum(axis=1)
    found: list[float] = (total / np.maximum(runs.sum(axis=1), 1)).tolist()
    return found


def upward(tables: Tables, edges: EdgeCosts) -> list[float]:
    """The longest way from the start of each block to the last result."""
    rank, values = mean_ms(tables), edges.mean()
    home = {i: sum(row) / len(row) for i, row in edges.results.items()}
    for i in range(tables.n - 1, -1, -1):
        longest = home.get(i, 0.0)
        for block, value in tables.succs[i]:
            ms = values[value] + rank[block]
            if ms > longest:  # noqa: PLR1730 - a call of max takes three times as long
                longest = ms
        rank[i] += longest
    return rank


def downward(tables: Tables, edges: EdgeCosts) -> list[float]:
    """The longest way from the beginning to the start of each block."""
    times, values = mean_ms(tables), edges.mean()
    rank = [0.0] * tables.n
    for i in range(tables.n):
        for block, value in tables.preds[i]:
            rank[i] = max(rank[i], rank[block] + times[block] + values[value])
    return rank


def by_rank(rank: Sequence[float]) -> list[int]:
    """Blocks by decreasing rank, of equal ones the first in the problem. Topological for ranks that
    don't rise from a block to those that read it."""
    order: list[int] = np.argsort(-np.array(rank), kind="stable").tolist()
    return order


def ready_by_rank(tables: Tables, rank: Sequence[float]) -> Iterator[int]:
    """Blocks in a topological order: of those that only read what is made, the highest rank."""
    missing = [len(preds) for preds in tables.preds]
    heap = [(-rank[i], i) for i, count in enumerate(missing) if not count]
    heapq.heapify(heap)
    while heap:
        _, i = heapq.heappop(heap)
        yield i
        for block, _ in tables.succs[i]:
            missing[block] -= 1
            if not missing[block]:
                heapq.heappush(heap, (-rank[block], block))
