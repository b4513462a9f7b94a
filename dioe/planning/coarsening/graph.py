"""What is coarsened: nodes with times and weights by target, and edges, as numpy arrays.

A node is a block of the problem, later a cluster of them. Nodes are numbered in a topological order
at every level, so an edge always goes from a smaller to a larger number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.tables import Tables

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Hashes: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Graph:
    """Nodes and edges, each pair of nodes at most once.

    ``ms`` and ``weights`` are nodes by targets, inf where a node can't run; ``group`` is the number
    of a node's colocation group, -1 for none; edges go from ``source`` to ``destination`` with
    ``nbytes`` and ``transfer_ms``, what a border between two devices costs there on average:
    leaving one stage, crossing, and coming into another.
    """

    ms: Floats
    weights: Floats
    group: Ints
    source: Ints
    destination: Ints
    nbytes: Floats
    transfer_ms: Floats

    @property
    def n(self) -> int:
        """The number of nodes."""
        return len(self.ms)

    @cached_property
    def least_ms(self) -> Floats:
        """Each node at its fastest."""
        least: Floats = self.ms.min(axis=1)
        return least

    @cached_property
    def able(self) -> Ints:
        """The targets that run each node, as bits."""
        bits = np.int64(1) << np.arange(self.ms.shape[1], dtype=np.int64)
        found: Ints = (np.isfinite(self.ms) * bits).sum(axis=1)
        return found

    @cached_property
    def succs(self) -> list[list[int]]:
        """Nodes after each one, ascending."""
        return _lists(self.n, self.source, self.destination)

    @cached_property
    def preds(self) -> list[list[int]]:
        """Nodes before each one, ascending."""
        return _lists(self.n, self.destination, self.source)

    @classmethod
    def of(cls, tables: Tables) -> Graph:
        """The blocks of a problem."""
        ends = [(source, i, value) for i, row in enumerate(tables.preds) for source, value in row]
        found = np.array(ends, dtype=np.int64).reshape(-1, 3)
        nbytes = np.array(tables.nbytes, dtype=np.float64)[found[:, 2]]
        border = np.array(EdgeCosts(tables).mean(), dtype=np.float64)
        group = np.array([row[0] if row else -1 for row in tables.peers], dtype=np.int64)
        return cls(
            tables.durations,
            np.array(tables.weights, dtype=np.float64).reshape(tables.n, tables.m),
            group,
            *_merged(found[:, 0], found[:, 1], nbytes, border[found[:, 2]]),
        )

    def contracted(self, labels: Ints) -> tuple[Graph, Ints]:
        """The graph of clusters, ``labels`` being each node's; and each node's number in it.

        Raises ValueError if clusters wait for each other in a circle.
        """
        _, labels = np.unique(labels, return_inverse=True)
        count = int(labels.max()) + 1
        a, b = labels[self.source], labels[self.destination]
        kept = a != b
        edges = _merged(a[kept], b[kept], self.nbytes[kept], self.transfer_ms[kept])
        first = np.full(count, self.n, dtype=np.int64)
        np.minimum.at(first, labels, np.arange(self.n))
        number = topological(count, edges[0], edges[1], first)
        labels = number[labels]
        group = np.full(count, -1, dtype=np.int64)
        np.maximum.at(group, labels, self.group)
        source, destination = number[edges[0]], number[edges[1]]
        order = np.lexsort((destination, source))
        return (
            Graph(
                _summed(self.ms, labels, count),
                _summed(self.weights, labels, count),
                group,
                source[order],
                destination[order],
                edges[2][order],
                edges[3][order],
            ),
            labels,
        )


def topological(count: int, source: Ints, destination: Ints, wish: Ints) -> Ints:
    """A number for each node, smaller before larger along edges; nodes of one level (the longest
    path to them) in the order of ``wish``. Raises ValueError for a circle."""
    level = levels(count, source, destination)
    number = np.empty(count, dtype=np.int64)
    number[np.lexsort((wish, level))] = np.arange(count)
    return number


def levels(count: int, source: Ints, destination: Ints) -> Ints:
    """The edges on the longest path to each node. Raises ValueError for a circle."""
    after = _lists(count, source, destination)
    missing = np.bincount(destination, minlength=count).tolist()
    level = [0] * count
    ready = [i for i in range(count) if not missing[i]]
    for i in ready:
        above = level[i] + 1
        for j in after[i]:
            missing[j] -= 1
            level[j] = max(level[j], above)
            if not missing[j]:
                ready.append(j)
    if len(ready) < count:
        raise ValueError("clusters wait for each other in a circle")
    return np.array(level, dtype=np.int64)


def _merged(source: Ints, destination: Ints, *sums: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Edges in order, each pair once, with what its parallels carry added up."""
    if not len(source):
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0), np.zeros(0)
    base = int(max(source.max(), destination.max())) + 1
    keys, where = np.unique(source * base + destination, return_inverse=True)
    nbytes, ms = (np.bincount(where, row, minlength=len(keys)).astype(np.float64) for row in sums)
    heads: Ints = keys // base
    ends: Ints = keys % base
    return heads, ends, nbytes, ms


def _summed(rows: Floats, labels: Ints, count: int) -> Floats:
    return np.stack(
        [np.bincount(labels, column, minlength=count) for column in rows.T], axis=1
    ).astype(np.float64)


def _lists(count: int, source: Ints, destination: Ints) -> list[list[int]]:
    """``destination`` by ``source``, as lists."""
    order = np.argsort(source, kind="stable")
    ends = np.cumsum(np.bincount(source, minlength=count)).tolist()
    flat = destination[order].tolist()
    return [flat[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
