"""What a policy makes of a simulated placement, and which limits it doesn't keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dioe.planning.lifetimes import peak_bytes
from dioe.planning.memory import sizes
from dioe.planning.problem import Problem
from dioe.planning.schedule import SCHEDULE_POLICIES
from dioe.planning.simulator import Placement, Simulation, simulate
from dioe.types import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that isn't kept: ``what`` (memory, stages, latency, devices), where, what is needed
    and what there is; bytes, ms or a number."""

    what: str
    place: str
    needed: float
    limit: float

    @property
    def share(self) -> float:
        """By how much it is passed, as a share of the limit."""
        return (self.needed - self.limit) / self.limit if self.limit else self.needed


@dataclass(frozen=True, slots=True)
class Judged:
    """A placement's value under a policy (``SCHEDULE_POLICIES``: less is better), and what is
    beyond the limits."""

    value: float
    over: tuple[Excess, ...]
    simulation: Simulation

    @property
    def key(self) -> tuple[float, float, float]:
        """What to compare by: what keeps all limits first, and of equal values the earliest."""
        return (sum(each.share for each in self.over), self.value, self.simulation.total_ms)


def judged(problem: Problem, placement: Placement, policy: str) -> Judged:
    """Simulate a placement and judge it.

    Raises InputError for an unknown policy, UnsupportedError for efficiency where a device's power
    isn't known, and as ``simulate`` does.
    """
    simulation = simulate(problem, placement)
    limits = sizes(problem)
    peaks: Mapping[str, float] = {}
    if limits or policy == "memory":
        peaks = peak_bytes(problem, placement, simulation)
    over = [
        Excess("memory", device, peaks[device], limit)
        for device, limit in limits.items()
        if peaks.get(device, 0.0) > limit
    ]
    over += _over(problem, placement, simulation)
    if policy == "latency":
        value = simulation.total_ms
    elif policy == "throughput":
        value = simulation.period_ms
    elif policy == "efficiency":
        value = energy_j(problem, simulation)
    elif policy == "memory":
        value = max(peaks.values(), default=0.0)
    else:
        raise InputError(
            f"no policy {policy!r}", place="policy", fix=f"one of {', '.join(SCHEDULE_POLICIES)}"
        )
    return Judged(value, tuple(over), simulation)


def _over(problem: Problem, placement: Placement, simulation: Simulation) -> list[Excess]:
    """Limits beside memory."""
    found = []
    allowed = problem.allowed
    stages = len(placement.stages)
    if allowed.max_stages is not None and stages > allowed.max_stages:
        found.append(Excess("stages", "", stages, allowed.max_stages))
    if allowed.latency_ms is not None and simulation.total_ms > allowed.latency_ms:
        found.append(Excess("latency", "", simulation.total_ms, allowed.latency_ms))
    if allowed.together is not None:
        used = {problem.targets[stage.targets[0]].target.device for stage in placement.stages}
        most = max((len(used & each) for each in allowed.together), default=0)
        if most < len(used):
            found.append(Excess("devices", " and ".join(sorted(used)), len(used), most))
    return found


def busy_ms(problem: Problem, simulation: Simulation) -> Mapping[str, float]:
    """How long each device computes for one request, lanes added up; devices without stages are
    left out."""
    found: dict[str, float] = {}
    for stage in simulation.stages:
        found[stage.device] = found.get(stage.device, 0.0) + stage.end_ms - stage.start_ms
    return found


def energies_j(problem: Problem, simulation: Simulation) -> Mapping[str, float | None]:
    """What each device with a stage draws during one request, in joules: ``busy_w`` in proportion
    to the lanes that compute, ``idle_w`` for the rest of the time. None where ``busy_w`` isn't
    known."""
    found: dict[str, float | None] = {}
    nodes = {device.id: device for device in problem.devices}
    for device, busy in busy_ms(problem, simulation).items():
        node = nodes.get(device)
        if node is None or node.busy_w is None:
            found[device] = None
            continue
        share = min(busy / (node.lanes or 1), simulation.total_ms)
        idle_ms = simulation.total_ms - share
        found[device] = (node.busy_w * share + node.idle_w * idle_ms) / 1e3
    return found


def energy_j(problem: Problem, simulation: Simulation) -> float:
    """What the devices of a placement draw during one request, in joules (``energies_j``). Devices
    without a stage count for nothing. Raises UnsupportedError where ``busy_w`` of one isn't
    known."""
    total = 0.0
    for device, energy in energies_j(problem, simulation).items():
        if energy is None:
            raise UnsupportedError(
                f"no figure says what {device or 'the device'} draws",
                place="efficiency",
                fix="give its power in the pool file (figures: power), or forbid the device",
            )
        total += energy
    return total
