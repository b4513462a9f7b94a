"""The answer of the planner: a placement, its timeline, and how far from the best it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dioe.planning.lifetimes import BlockTime, block_times, peak_bytes
from dioe.planning.problem import Problem
from dioe.planning.simulator import Placement, Simulation, Transfer

SCHEDULE_POLICIES = ("latency", "throughput", "efficiency", "memory")
"""What a schedule may optimise: ms of one request, ms between two results, joules of one request,
the largest peak of any device in bytes."""


@dataclass(frozen=True)
class Schedule:
    """Where and when each block of a problem runs.

    ``value`` is what the policy minimises, in its unit (``SCHEDULE_POLICIES``), and ``bound`` what
    no schedule of the problem can be below; ``proved`` says that nothing better exists.
    ``found_by`` names the scheduler whose answer it is, ``tried`` the values of all that gave one.
    """

    problem: Problem = field(repr=False)
    placement: Placement
    simulation: Simulation = field(repr=False)
    policy: str
    value: float
    bound: float
    proved: bool = False
    found_by: str = ""
    tried: Mapping[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """How much of ``value`` might be saved at most: 0 where the bound is reached."""
        if self.proved or self.value <= self.bound or not self.value:
            return 0.0
        return (self.value - self.bound) / self.value

    @property
    def latency_ms(self) -> float:
        """From the start of a request to its last result."""
        return self.simulation.total_ms

    @property
    def period_ms(self) -> float:
        """Between two results, where requests follow each other without a gap."""
        return self.simulation.period_ms

    @cached_property
    def assignment(self) -> Mapping[str, str]:
        """The target of each block, by block id."""
        names = [str(costs.target) for costs in self.problem.targets]
        return {block: names[target] for block, target in self.placement.targets.items()}

    @cached_property
    def blocks(self) -> tuple[BlockTime, ...]:
        """When each block runs, in the order of the stages."""
        pairs = zip(self.placement.stages, self.simulation.stages, strict=True)
        return tuple(run for stage, simulated in pairs for run in block_times(stage, simulated))

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """All values that cross links, in the order they start."""
        return self.simulation.transfers

    @cached_property
    def peak_bytes(self) -> Mapping[str, float]:
        """The most memory that each device needs at an instant, weights included."""
        return peak_bytes(self.problem, self.placement, self.simulation)
