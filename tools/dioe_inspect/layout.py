"""A layered drawing of an acyclic graph: layers, orders within them, coordinates.

The steps of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (1981): longest-path layers; long edges cut by bends, one a layer, which edges of
one source share; orders by
barycentres, swept down and up; then coordinates, where each layer takes the places nearest to its
neighbours that keep its order and distances, which is an isotonic regression.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP_X = 24.0
"""Smallest distance between two boxes of a layer, in pixels."""
BEND_GAP = 9.0
"""Smallest distance of an edge that passes through a layer from its neighbours."""

_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 9  # odd: the last goes down
_MAX_BENDS = 20_000
"""Above this, long edges are drawn straight through: a drawing so dense isn't read edge by edge."""


@dataclass(frozen=True, slots=True)
class Layout:
    """``x`` and ``layer`` of each node (x of its centre, in pixels, from 0), and the x of the bends
    of each edge, one for each layer it passes through. ``width`` is that of the drawing."""

    layer: Mapping[int, int]
    x: Mapping[int, float]
    bends: Mapping[tuple[int, int], tuple[float, ...]]
    width: float
    layers: int


def layered(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out nodes ``0 … n-1`` of the given widths; ``edges`` have to be acyclic.

    Raises ValueError for a cycle.
    """
    edges = sorted(set(edges))
    layer = _layers(len(widths), edges)
    layers = max(layer, default=-1) + 1
    drawing = _Drawing(list(widths), layer, layers, edges)
    for sweep in range(_ORDER_SWEEPS):
        drawing.order(down=sweep % 2 == 0)
    for sweep in range(_PLACE_SWEEPS):
        drawing.place(down=sweep % 2 == 0)
    x = drawing.x
    n = len(widths)
    left = min((x[i] - w / 2 for i, w in enumerate(drawing.widths)), default=0.0)
    right = max((x[i] + w / 2 for i, w in enumerate(drawing.widths)), default=0.0)
    return Layout(
        layer=dict(enumerate(layer)),
        x={i: x[i] - left for i in range(n)},
        bends={e: tuple(x[b] - left for b in chain) for e, chain in drawing.chains.items()},
        width=right - left,
        layers=layers,
    )


def _layers(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest-path layers from the top; what nothing leads to is drawn just above its first use."""
    before, after = _neighbours(n, edges)
    waiting = [len(x) for x in before]
    ready = [i for i in range(n) if not waiting[i]]
    layer = [0] * n
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for successor in after[node]:
            layer[successor] = max(layer[successor], layer[node] + 1)
            waiting[successor] -= 1
            if not waiting[successor]:
                ready.append(successor)
    if done < n:
        raise ValueError("the graph has a cycle")
    for node in range(n):
        if not before[node] and after[node]:
            layer[node] = min(layer[successor] for successor in after[node]) - 1
    return layer


def _neighbours(
    n: int, edges: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], list[list[int]]]:
    before: list[list[int]] = [[] for _ in range(n)]
    after: list[list[int]] = [[] for _ in range(n)]
    for source, destination in edges:
        after[source].append(destination)
        before[destination].append(source)
    return before, after


class _Drawing:
    """Nodes and bends of a drawing in progress; bends are numbered after the nodes."""

    def __init__(
        self,
        widths: list[float],
        layer: Sequence[int],
        layers: int,
        edges: Sequence[tuple[int, int]],
    ) -> None:
        self.widths = widths
        self._nodes = len(layer)
        self.rows: list[list[int]] = [[] for _ in range(layers)]
        for node, row in enumerate(layer):
            self.rows[row].append(node)
        self.chains: dict[tuple[int, int], list[int]] = {}
        pieces: set[tuple[int, int]] = set()
        self._trunks: dict[int, list[int]] = {}
        for source, destination in edges:
            between = range(layer[source] + 1, layer[destination])
            path = [source, *self._trunk(source, between), destination]
            self.chains[source, destination] = path[1:-1]
            pieces.update(itertools.pairwise(path))
        self.before, self.after = _neighbours(len(widths), sorted(pieces))
        self.x = [0.0] * len(widths)
        for members in self.rows:
            self._pack(members)

    def _trunk(self, source: int, rows: range) -> list[int]:
        """Bends in the given rows; long edges of one source share them, and branch off."""
        trunk = self._trunks.setdefault(source, [])
        if len(self.widths) - self._nodes + len(rows) - len(trunk) > _MAX_BENDS:
            return []
        for row in rows[len(trunk) :]:
            trunk.append(len(self.widths))
            self.rows[row].append(len(self.widths))
            self.widths.append(0.0)
        return trunk[: len(rows)]

    def _distances(self, members: Sequence[int]) -> list[float]:
        """Smallest distance of each member's centre from the one's before it."""
        distances = [0.0] * len(members)
        for i, (left, right) in enumerate(itertools.pairwise(members), start=1):
            beside_bend = left >= self._nodes or right >= self._nodes
            gap = BEND_GAP if beside_bend else GAP_X
            distances[i] = (self.widths[left] + self.widths[right]) / 2 + gap
        return distances

    def _pack(self, members: Sequence[int]) -> None:
        """Put a row's members beside each other, in order, about the middle."""
        offsets = list(itertools.accumulate(self._distances(members)))
        for node, offset in zip(members, offsets, strict=True):
            self.x[node] = offset - offsets[-1] / 2

    def order(self, *, down: bool) -> None:
        """Order each row by where the neighbours in the row before it stand."""
        neighbours = self.before if down else self.after
        for members in self.rows if down else reversed(self.rows):
            wanted = {node: self._mean(neighbours[node], self.x[node]) for node in members}
            members.sort(key=lambda node: wanted[node])
            self._pack(members)

    def place(self, *, down: bool) -> None:
        """Move each row's members to those before them, as far as order and distances allow.

        Looking to one side only keeps chains straight; both sides at once would smooth bends out
        over many layers.
        """
        neighbours, others = (self.before, self.after) if down else (self.after, self.before)
        for members in self.rows if down else reversed(self.rows):
            offsets = list(itertools.accumulate(self._distances(members)))
            wanted = [
                self._mean(neighbours[node] or others[node], self.x[node]) - offset
                for node, offset in zip(members, offsets, strict=True)
            ]
            weights = [
                4.0 if node >= self._nodes else 1.0 for node in members
            ]  # long edges straight
            places = isotonic(wanted, weights)
            for node, place, offset in zip(members, places, offsets, strict=True):
                self.x[node] = place + offset

    def _mean(self, nodes: Sequence[int], otherwise: float) -> float:
        return sum(self.x[node] for node in nodes) / len(nodes) if nodes else otherwise


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to ``values`` (weighted least squares).

    Pool adjacent violators: Barlow et al., "Statistical Inference under Order Restrictions" (1972).
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while pools and pools[-1][0] > mean:
            before, before_weight, before_count = pools.pop()
            mean = (before * before_weight + mean * total) / (before_weight + total)
            total, count = total + before_weight, count + before_count
        pools.append((mean, total, count))
    return [mean for mean, _, count in pools for _ in range(count)]
