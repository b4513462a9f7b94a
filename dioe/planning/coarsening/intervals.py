"""Pairs of nodes next to each other in the topological order: where nothing else can be merged."""

from __future__ import annotations

import numpy as np

from dioe.planning.coarsening.caps import Caps, Sizes
from dioe.planning.coarsening.graph import Graph, Ints


def intervals(graph: Graph, caps: Caps) -> Ints:
    """A label for each node: the first of its pair.

    Intervals of a topological order never wait for each other in a circle.
    """
    sizes = Sizes(graph, caps)
    label = list(range(graph.n))
    i = 0
    while i + 1 < graph.n:
        if sizes.fit(i, i + 1):
            label[i + 1] = i
            i += 1
        i += 1
    return np.array(label, dtype=np.int64)
