"""Linear chains: a node whose only successor has no other predecessor."""

from __future__ import annotations

import numpy as np

from dioe.planning.coarsening.caps import Caps, Sizes
from dioe.planning.coarsening.graph import Graph, Ints


def chains(graph: Graph, caps: Caps) -> Ints:
    """A label for each node: the first node of its piece of a chain, as long as the caps allow.

    Any number of chains contracted at once keeps the graph acyclic: nothing enters or leaves one
    but at its ends.
    """
    sizes = Sizes(graph, caps)
    leaves = np.bincount(graph.source, minlength=graph.n)
    enters = np.bincount(graph.destination, minlength=graph.n)
    links = (leaves[graph.source] == 1) & (enters[graph.destination] == 1)
    label = list(range(graph.n))
    # edges are in the order of their sources, so a chain is walked from its start
    for a, b in zip(graph.source[links].tolist(), graph.destination[links].tolist(), strict=True):
        head = label[a]
        if sizes.fit(head, b, caps.even_ms):
            sizes.join(head, b)
            label[b] = head
    return np.array(label, dtype=np.int64)
