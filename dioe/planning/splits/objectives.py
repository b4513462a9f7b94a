"""What a search makes small, and what it follows on the way."""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

from dioe.planning.splits.instance import Instance
from dioe.planning.splits.state import State

ObjectiveName: TypeAlias = Literal["latency", "throughput"]


class Objective(Protocol):
    """A number to make small."""

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        """The number, and what the search follows: the number with something small that tells
        equals apart. None if that is above ``most``, and for a state that may not be written:
        where a set isn't convex, or accelerators wait for each other."""

    def decisive(self, state: State) -> list[int]:
        """The nodes that the number depends on, of a state that may be written."""


class Latency:
    """When all is done; of equals those with the least load, which is the least traffic."""

    _LOADS = 1e-3

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        loads = self._LOADS * sum(state.load[: state.accelerators])
        latency = state.latency(most - loads)
        return None if latency is None else (latency, latency + loads)

    def decisive(self, state: State) -> list[int]:
        return state.critical()


class MaxLoad:
    """The largest load of any device; of equals those with small loads on the others."""

    _OTHERS = 0.2

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        loads = self.loads(state)
        largest = max(loads)
        if largest > most:
            return None
        squares = sum(load * load for load in loads)
        guide = largest + self._OTHERS * math.sqrt(squares / len(loads))
        return None if guide > most or state.latency() is None else (largest, guide)

    def decisive(self, state: State) -> list[int]:
        loads = self.loads(state)
        largest = loads.index(max(loads))
        return [node for node, device in enumerate(state.place) if device == largest]

    def loads(self, state: State) -> list[float]:
        """The load of each device."""
        return state.load


class PooledLoad(MaxLoad):
    """As ``MaxLoad``, of a state in which one CPU stands for all: they are taken to share what is
    there evenly, but for what can't be shared. That is a bound, and mostly nearly reached."""

    def __init__(self, instance: Instance):
        self.cpus = instance.max_cpus
        times = [
            (math.fsum(instance.nodes[node].cpu_time for node in group), group)
            for group in instance.groups
        ]
        self._longest_first = [(time, group[0]) for time, group in sorted(times, reverse=True)]

    def loads(self, state: State) -> list[float]:
        if not state.cpus:
            return state.load
        *loads, pooled = state.load
        each = pooled / self.cpus
        for time, node in self._longest_first:
            if time <= each:
                break
            if state.place[node] >= state.accelerators:
                each = time
                break
        return [*loads, each]


class Overflow:
    """Memory that accelerators lack: 0 is a split that fits."""

    def __init__(self, memory_bytes: float):
        self.memory_bytes = memory_bytes

    def weigh(self, state: State, most: float) -> tuple[float, float] | None:
        sizes = state.size[: state.accelerators]
        lacking = sum(max(0.0, size - self.memory_bytes) for size in sizes)
        return None if lacking > most or state.latency() is None else (lacking, lacking)

    def decisive(self, state: State) -> list[int]:
        full = [size > self.memory_bytes for size in state.size]
        return [node for node, device in enumerate(state.place) if full[device]]
