"""What a search makes small, and what it follows on the way."""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

from dioe.planning.splits.state import State

ObjectiveName: TypeAlias = Literal["latency", "throughput"]


class Objective(Protocol):
    """A number to make small."""

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        """The number, and what the search follows: the number with something small that tells
        equals apart. None if that is above ``most``, and for a state that may not be written:
        where a set isn't convex, or accelerators wait for each other."""


class Latency:
    """When all is done; of equals those with the least load, which is the least traffic."""

    _LOADS = 1e-3

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        loads = self._LOADS * sum(state.load[: state.accelerators])
        latency = state.latency(most - loads)
        return None if latency is None else (latency, latency + loads)


class MaxLoad:
    """The largest load of any device; of equals those with small loads on the others."""

    _OTHERS = 0.2

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        largest = max(state.load)
        if largest > most:
            return None
        squares = sum(load * load for load in state.load)
        guide = largest + self._OTHERS * math.sqrt(squares / len(state.load))
        return None if guide > most or state.latency() is None else (largest, guide)


class Overflow:
    """Memory that accelerators lack: 0 is a split that fits."""

    def __init__(self, memory_bytes: float):
        self.memory_bytes = memory_bytes

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        sizes = state.size[: state.accelerators]
        lacking = sum(max(0.0, size - self.memory_bytes) for size in sizes)
        return None if lacking > most or state.latency() is None else (lacking, lacking)
