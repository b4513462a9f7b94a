"""How large a cluster may become, and which nodes may share one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dioe.planning.coarsening.graph import Floats, Graph
from dioe.planning.tables import Tables

MEMORY_SHARE = 1 / 8
"""Of a device's memory: a cluster's weights at most, so that devices can be filled."""


@dataclass(frozen=True)
class Caps:
    """``ms`` is the most a cluster may take at its fastest, ``weights`` its most bytes by target.

    ``even_ms`` is what one would take if all were alike. ``relaxed`` lets nodes share a cluster
    that don't run on the same targets, as long as there is one that runs them all.
    """

    ms: float
    even_ms: float
    weights: Floats
    relaxed: bool = False

    @classmethod
    def of(cls, tables: Tables, graph: Graph, count: int, *, slack: float = 4.0) -> Caps:
        """For about ``count`` clusters: none takes over ``slack`` times its share of all work."""
        memory = np.array([tables.memory[d] for d in tables.device_of])
        even_ms = float(graph.least_ms.sum()) / count
        return cls(slack * even_ms, even_ms, memory * MEMORY_SHARE)

    @property
    def limited(self) -> bool:
        """Whether any memory is."""
        return bool(np.isfinite(self.weights).any())


class Sizes:
    """Clusters as they grow: whether two may become one, and what is then known of it.

    A colocation group stays on devices that run all of it: where targets differ (``Caps.relaxed``)
    or memory is limited, only members of the group join it.
    """

    def __init__(self, graph: Graph, caps: Caps) -> None:
        self._caps = caps
        self._limit = caps.weights.tolist() if caps.limited else []
        self._ms: list[float] = graph.least_ms.tolist()
        self._rows: list[list[float]] = graph.weights.tolist() if caps.limited else []
        self._able: list[int] = graph.able.tolist()
        self._group: list[int] = graph.group.tolist()
        self._closed = caps.relaxed or caps.limited

    def fit(self, a: int, b: int, most: float = math.inf) -> bool:
        """Whether a cluster of both is allowed; ``most`` is a smaller cap in ms."""
        if self._ms[a] + self._ms[b] > min(self._caps.ms, most):
            return False
        able = self._able[a] & self._able[b]
        if not able or (not self._caps.relaxed and self._able[a] != self._able[b]):
            return False
        one, other = self._group[a], self._group[b]
        if one != other and (self._closed or (one >= 0 and other >= 0)):
            return False
        if not self._limit:
            return True
        # weights count only where the cluster can run: one that is too large may stay alone
        return all(
            x + y <= limit or not able >> t & 1
            for t, (x, y, limit) in enumerate(
                zip(self._rows[a], self._rows[b], self._limit, strict=True)
            )
        )

    def join(self, a: int, b: int) -> None:
        """What ``a`` is together with ``b``."""
        self._ms[a] += self._ms[b]
        self._able[a] &= self._able[b]
        self._group[a] = max(self._group[a], self._group[b])
        if self._limit:
            self._rows[a] = [x + y for x, y in zip(self._rows[a], self._rows[b], strict=True)]
