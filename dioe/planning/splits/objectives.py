"""What a search makes small, and what it follows on the way."""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

from dioe.planning.splits.state import State

ObjectiveName: TypeAlias = Literal["latency", "throughput"]


class Objective(Protocol):
    """A number to make small. ``walks`` says whether finding it finds states that may not be
    written, too: where not, the search asks ``State.latency`` of those that it takes."""

    walks: bool

    def value(self, state: State) -> float | None:
        """The number; None for a state that may not be written."""

    def guide(self, state: State, value: float) -> float:
        """What the search follows: the number, and something small that tells equals apart."""


class Latency:
    """When all is done; of equals those with the least load, which is the least traffic."""

    walks = True
    _LOADS = 1e-3

    def value(self, state: State) -> float | None:
        return state.latency()

    def guide(self, state: State, value: float) -> float:
        return value + self._LOADS * sum(state.load[: state.accelerators])


class MaxLoad:
    """The largest load of any device; of equals those with small loads on the others."""

    walks = False
    _OTHERS = 0.2

    def value(self, state: State) -> float | None:
        return max(state.load)

    def guide(self, state: State, value: float) -> float:
        squares = sum(load * load for load in state.load)
        return value + self._OTHERS * math.sqrt(squares / len(state.load))


class Overflow:
    """Memory that accelerators lack: 0 is a split that fits."""

    walks = False

    def __init__(self, memory_bytes: float):
        self.memory_bytes = memory_bytes

    def value(self, state: State) -> float | None:
        sizes = state.size[: state.accelerators]
        return math.fsum(max(0.0, size - self.memory_bytes) for size in sizes)

    def guide(self, state: State, value: float) -> float:
        return value
