"""Colours: nodes that look alike with their neighbourhood have one, so that repeated blocks (the
layers of a transformer) are found and coarsened alike.

Weisfeiler-Lehman colour refinement (B. Weisfeiler, A. Lehman: "The reduction of a graph to
canonical form and the algebra which appears therein", 1968), in both directions of the edges, with
hashes in place of names: two rounds see two edges far.
"""

from __future__ import annotations

import numpy as np

from dioe.planning.coarsening.graph import Floats, Graph, Hashes

ROUNDS = 2
_PLACES = 9
"""Digits that count: sums of the same times in another order differ in the last ones."""


def colours(graph: Graph, rounds: int = ROUNDS) -> Hashes:
    """A colour for each node: of its times, weights and group, and its neighbourhood's."""
    colour = np.zeros(graph.n, dtype=np.uint64)
    for rows in (graph.ms, graph.weights):
        for column in rows.T:
            colour = _mixed(colour * np.uint64(3) + _digits(column))
    colour = _mixed(colour + (graph.group >= 0).astype(np.uint64))
    size = _digits(graph.nbytes)
    for _ in range(rounds):
        seen = _mixed(colour)
        for near, far, salt in (
            (graph.destination, graph.source, np.uint64(0x9E37)),
            (graph.source, graph.destination, np.uint64(0xC2B2)),
        ):
            # a sum doesn't depend on the order of neighbours
            around = np.zeros(graph.n, dtype=np.uint64)
            np.add.at(around, near, _mixed(colour[far] * np.uint64(5) + size + salt))
            seen = _mixed(seen * np.uint64(7) + around)
        colour = seen
    return colour


def _digits(numbers: Floats) -> Hashes:
    """Hashes of numbers that agree in their first digits."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(numbers), numbers, -1.0))
    found: Hashes = np.round(mantissa * 10**_PLACES).astype(np.int64).view(np.uint64)
    return _mixed(found * np.uint64(1009) + exponent.astype(np.int64).view(np.uint64))


def _mixed(hashes: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (G. L. Steele et al., OOPSLA 2014)."""
    x: Hashes = hashes + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = x ^ (x >> np.uint64(31))
    return mixed
