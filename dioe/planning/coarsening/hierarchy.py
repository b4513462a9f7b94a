"""Coarsening: from a problem's blocks to some hundred clusters, one level at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dioe.planning.coarsening.caps import Caps
from dioe.planning.coarsening.chains import chains
from dioe.planning.coarsening.clusters import clusters
from dioe.planning.coarsening.graph import Graph, Ints
from dioe.planning.coarsening.intervals import intervals
from dioe.planning.tables import Tables

CLUSTERS = 200
"""How many are wanted: a search looks at each in a few ms, and they are small enough to balance."""

_WORTH = 0.95
"""A pass that leaves a larger share of the nodes than this has found nothing."""

Pass = Callable[[Graph, Caps], Ints]


@dataclass(frozen=True)
class Hierarchy:
    """``graphs[0]`` are the blocks; ``labels[k]`` gives each node of ``graphs[k]`` its cluster in
    ``graphs[k + 1]``."""

    graphs: tuple[Graph, ...]
    labels: tuple[Ints, ...]

    @property
    def clusters(self) -> Ints:
        """The cluster of each block at the last level."""
        found = np.arange(self.graphs[0].n)
        for labels in self.labels:
            found = labels[found]
        return found


def hierarchy(tables: Tables, count: int = CLUSTERS) -> Hierarchy:
    """Merge blocks until there are about ``count`` clusters, or no merge is allowed any more.

    Clusters keep the order of the blocks acyclic, the caps of ``Caps`` and colocation groups.
    """
    graph = Graph.of(tables)
    caps = Caps.of(tables, graph, count)
    graphs, all_labels = [graph], []
    for labels in _passes(graphs, caps, count):
        graph, number = graphs[-1].contracted(labels)
        graphs.append(graph)
        all_labels.append(number)
    return Hierarchy(tuple(graphs), tuple(all_labels))


def _passes(graphs: list[Graph], caps: Caps, count: int) -> Iterator[Ints]:
    """Labels of the last graph, pass by pass; the caller adds the contracted one."""
    ways: list[Pass] = [chains, clusters, partial(clusters, upwards=True)]
    for allowed in (caps, replace(caps, relaxed=True)):
        for group in (ways, [intervals]):
            found = True
            while found:
                found = False
                for each in group:
                    graph = graphs[-1]
                    if graph.n <= count:
                        return
                    labels = each(graph, allowed)
                    if len(np.unique(labels)) <= _WORTH * graph.n:
                        found = True
                        yield labels
