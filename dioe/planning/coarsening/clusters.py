"""Clusters of neighbours, level by level: merges that keep the graph acyclic.

After J. Herrmann, M. Y. Özkaya, B. Uçar, K. Kaya, Ü. V. Çatalyürek: "Multilevel algorithms for
acyclic partitioning of directed acyclic graphs", SIAM J. Sci. Comput. 41(4), 2019. Let the level
of a node be the longest path to it. A cluster has nodes of two neighbouring levels at most. A
circle of clusters then has to enter each one at its upper level and to leave it from its lower one,
along edges of one level, so all its clusters have the same two levels. There, a cluster may not
have both edges of that kind from others and to others when it grows: no circle can go through it
then, and the one that grew last would be on it. (The paper's condition forbids either; this one
forbids both.)

Edges are taken in the order of what they save, of equal ones those of one kind (the colours of
their ends) together: copies of a subgraph are so treated alike, and get the same clusters.
"""

from __future__ import annotations

import numpy as np

from dioe.planning.coarsening.caps import Caps, Sizes
from dioe.planning.coarsening.colours import colours
from dioe.planning.coarsening.graph import Floats, Graph, Hashes, Ints, levels

MOST_NODES = 3
"""That a cluster takes in one pass: larger ones would leave none for their neighbours."""


def clusters(graph: Graph, caps: Caps, *, upwards: bool = False) -> Ints:
    """A label for each node. ``upwards`` takes levels from the end, which finds other merges."""
    if upwards:
        level = -levels(graph.n, graph.destination, graph.source)
    else:
        level = levels(graph.n, graph.source, graph.destination)
    near = level[graph.destination] - level[graph.source] == 1
    order = _order(graph)
    chosen = order[near[order]]
    grown = _Growth(graph, caps, level.tolist())
    # mean size: a pass that makes clusters of all sizes leaves some that nothing may join
    most = max(4.0 * float(graph.least_ms.mean()), 0.0)
    for a, b in zip(graph.source[chosen].tolist(), graph.destination[chosen].tolist(), strict=True):
        grown.take(a, b, most)
    return np.array(grown.label, dtype=np.int64)


def _order(graph: Graph) -> Ints:
    """Edges by what merging them saves: the time of the transfer against that of the nodes."""
    work = graph.least_ms[graph.source] + graph.least_ms[graph.destination]
    saved: Floats = graph.transfer_ms / np.maximum(work, 1e-9)
    _, coarse = np.unique(np.round(np.log2(saved + 1e-9), 3), return_inverse=True)
    colour = colours(graph)
    kind: Hashes = colour[graph.source] * np.uint64(31) + colour[graph.destination]
    found: Ints = np.lexsort((graph.source, kind, -coarse))
    return found


class _Growth:
    """Clusters while edges are taken one by one."""

    def __init__(self, graph: Graph, caps: Caps, level: list[int]) -> None:
        self._succs, self._preds = graph.succs, graph.preds
        self._level = level
        self._sizes = Sizes(graph, caps)
        self.label = list(range(graph.n))
        self._members: dict[int, list[int]] = {}
        self._low: dict[int, int] = {}

    def take(self, a: int, b: int, most: float) -> None:
        """Merge the ends of an edge from one level to the next, if that is safe and allowed."""
        one, other = self.label[a], self.label[b]
        if one == other:
            return
        grown, member = (one, b) if one in self._members else (other, a)
        if self.label[member] in self._members or (len(self._members.get(grown, ())) >= MOST_NODES):
            return  # both are clusters, or it is full
        members = self._members.get(grown, [grown])
        low = self._level[a]
        if any(not low <= self._level[i] <= low + 1 for i in members):
            return
        if not self._sizes.fit(grown, member, most):
            return
        new = [*members, member]
        if self._on_a_way(new, low):
            return
        self._members[grown], self._low[grown] = new, low
        self.label[member] = grown
        self._sizes.join(grown, member)

    def _on_a_way(self, members: list[int], low: int) -> bool:
        """Whether clusters of the same two levels have edges to the upper one of these nodes, and
        others from the lower one."""
        enters = leaves = False
        for i in members:
            lower = self._level[i] == low
            if leaves if lower else enters:
                continue
            for j in self._succs[i] if lower else self._preds[i]:
                if j in members or self._low.get(self.label[j]) != low:
                    continue
                if self._level[j] != (low + 1 if lower else low):
                    continue
                if lower:
                    leaves = True
                else:
                    enters = True
                break
        return enters and leaves
