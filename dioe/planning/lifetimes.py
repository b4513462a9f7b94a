"""How much memory each device needs at each instant of a predicted timeline.

Weights are there all the time. A value takes room where it is made from the start of its block
until nobody there needs it and no transfer reads it any more, and on each other device that reads
it from the start of its transfer (without links: of the stage) to the end of its last reader there;
a model output to the end of the timeline, a block's workspace while it runs. Values take their
share of 32 bits by the precision of the target that makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dioe.planning.memory import PRECISION_SHARE, weight_bytes
from dioe.planning.problem import Problem
from dioe.planning.simulator import PlacedStage, Placement, SimulatedStage, Simulation


class BlockTime(NamedTuple):
    """When a block runs inside its stage. Times in ms."""

    block: str
    target: int
    start_ms: float
    end_ms: float
    stage_start_ms: float


class Held(NamedTuple):
    """Bytes that a device holds for some time; times in ms."""

    device: str
    what: str
    nbytes: float
    start_ms: float
    end_ms: float


def block_times(stage: PlacedStage, simulated: SimulatedStage) -> Iterator[BlockTime]:
    """The blocks of a stage one after the other, behind its dispatch and what it reads."""
    times = simulated.times
    clock = simulated.start_ms + times.dispatch_ms + sum(times.entries.values())
    for block, target in zip(stage.blocks, stage.targets, strict=True):
        start, clock = clock, clock + times.blocks[block]
        yield BlockTime(block, target, start, clock, simulated.start_ms)


def lifetimes(problem: Problem, placement: Placement, simulation: Simulation) -> Iterator[Held]:
    """All that devices hold for a part of the timeline: values and workspaces, not weights."""
    runs = {
        run.block: run
        for stage, simulated in zip(placement.stages, simulation.stages, strict=True)
        for run in block_times(stage, simulated)
    }
    crossings = _Crossings(simulation)
    lasting = set(problem.outputs)
    for block in problem.blocks:
        run = runs[block.id]
        costs = problem.targets[run.target]
        device = costs.target.device
        workspace = costs.workspace_bytes.get(block.id, 0)
        if workspace:
            yield Held(device, block.id, workspace, run.start_ms, run.end_ms)
        for value, size in block.gives.items():
            spans = _spans(problem, runs, value, crossings)
            _widen(spans, device, run.start_ms, max(run.end_ms, crossings.left(value, device)))
            if value in lasting:
                last = problem.home or device
                start = crossings.arriving(value, last, run.end_ms)
                _widen(spans, last, start, simulation.total_ms)
            nbytes = size * PRECISION_SHARE[costs.precision]
            for where, (start, end) in spans.items():
                yield Held(where, value, nbytes, start, end)
    for value in problem.inputs:
        readers = problem.readers.get(value, ())
        nbytes = max((problem.blocks[i].reads[value] for i in readers), default=0)
        spans = _spans(problem, runs, value, crossings)
        if problem.home:
            _widen(spans, problem.home, 0.0, crossings.left(value, problem.home))
        for where, (start, end) in spans.items():
            yield Held(where, value, nbytes, start, end)


def peak_bytes(
    problem: Problem, placement: Placement, simulation: Simulation
) -> Mapping[str, float]:
    """The most that each device holds at an instant, weights included; devices that hold nothing
    are left out. What ends at an instant makes room for what starts then."""
    weights: dict[str, float] = {}
    for block, target in placement.targets.items():
        costs = problem.targets[target]
        device = costs.target.device
        node = problem.blocks[problem.positions[block]]
        weights[device] = weights.get(device, 0.0) + weight_bytes(costs, node)
    changes: dict[str, list[tuple[float, bool, float]]] = {}
    for held in lifetimes(problem, placement, simulation):
        if held.nbytes:
            row = changes.setdefault(held.device, [])
            row.append((held.start_ms, True, held.nbytes))
            # what takes no time takes room all the same, at its instant
            row.append((held.end_ms, held.end_ms <= held.start_ms, -held.nbytes))
    peaks = dict(weights)
    for device, row in changes.items():
        now = most = weights.get(device, 0.0)
        for _, _, nbytes in sorted(row, key=lambda change: (change[0], change[1], -change[2])):
            now += nbytes
            most = max(most, now)
        peaks[device] = most
    return peaks


def _spans(
    problem: Problem, runs: Mapping[str, BlockTime], value: str, crossings: _Crossings
) -> dict[str, tuple[float, float]]:
    """Where a value is read, from when it is there to the end of its last reader."""
    spans: dict[str, tuple[float, float]] = {}
    for user in problem.readers.get(value, ()):
        run = runs[problem.blocks[user].id]
        device = problem.targets[run.target].target.device
        start = crossings.arriving(value, device, run.stage_start_ms)
        _widen(spans, device, start, run.end_ms)
    return spans


def _widen(spans: dict[str, tuple[float, float]], device: str, start: float, end: float) -> None:
    known = spans.get(device, (start, end))
    spans[device] = (min(start, known[0]), max(end, known[1]))


class _Crossings:
    """When values set out for and left devices' memories."""

    def __init__(self, simulation: Simulation) -> None:
        self._arriving = {(t.value, t.destination): t.start_ms for t in simulation.transfers}
        self._left: dict[tuple[str, str], float] = {}
        for t in simulation.transfers:
            key = (t.value, t.source)
            self._left[key] = max(self._left.get(key, 0.0), t.end_ms)

    def arriving(self, value: str, device: str, otherwise: float) -> float:
        """The start of its transfer there; ``otherwise`` where there was none."""
        return self._arriving.get((value, device), otherwise)

    def left(self, value: str, device: str) -> float:
        """The end of the last transfer that reads it there, 0 where there is none."""
        return self._left.get((value, device), 0.0)
