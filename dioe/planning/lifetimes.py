"""How much memory each device needs at each instant of a predicted timeline.

Weights are there all the time. A value takes room where it is made from the start of its block
until nobody there needs it and no transfer reads it any more, and on each other device that reads
it from the start of its transfer (without links: of the stage) to the end of its last reader there;
a model output to the end of the timeline, a block's workspace while it runs. Values take their
share of 32 bits by the precision of the target that makes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from operator import itemgetter
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
    return itertools.starmap(Held, _Runs(problem, placement, simulation).held())


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
    for device, _, nbytes, start, end in _Runs(problem, placement, simulation).held():
        if nbytes:
            row = changes.setdefault(device, [])
            row.append((start, True, nbytes))
            # what takes no time takes room all the same, at its instant
            row.append((end, end <= start, -nbytes))
    peaks = dict(weights)
    for device, row in changes.items():
        now = most = weights.get(device, 0.0)
        row.sort(key=itemgetter(2), reverse=True)
        row.sort(key=itemgetter(0, 1))
        for _, _, nbytes in row:
            now += nbytes
            most = max(most, now)
        peaks[device] = most
    return peaks


_Span = tuple[str, str, float, float, float]
"""What ``Held`` has."""


class _Runs:
    """When and where blocks run, by position, and when values set out for and leave devices."""

    def __init__(self, problem: Problem, placement: Placement, simulation: Simulation) -> None:
        count = len(problem.blocks)
        self._problem = problem
        self._total_ms = simulation.total_ms
        self._target = [0] * count
        self._device = [""] * count
        self._start, self._end, self._outer = [0.0] * count, [0.0] * count, [0.0] * count
        names = [costs.target.device for costs in problem.targets]
        positions = problem.positions
        for stage, simulated in zip(placement.stages, simulation.stages, strict=True):
            for block, target, start, end, outer in block_times(stage, simulated):
                at = positions[block]
                self._target[at], self._device[at] = target, names[target]
                self._start[at], self._end[at], self._outer[at] = start, end, outer
        self._arriving = {(t.value, t.destination): t.start_ms for t in simulation.transfers}
        self._left: dict[tuple[str, str], float] = {}
        for t in simulation.transfers:
            key = (t.value, t.source)
            self._left[key] = max(self._left.get(key, 0.0), t.end_ms)

    def held(self) -> Iterator[_Span]:
        """What devices hold, and for how long."""
        problem, left = self._problem, self._left
        lasting = frozenset(problem.outputs)
        shares = [PRECISION_SHARE[costs.precision] for costs in problem.targets]
        for at, block in enumerate(problem.blocks):
            target, device = self._target[at], self._device[at]
            begin, done = self._start[at], self._end[at]
            workspace = problem.targets[target].workspace_bytes.get(block.id, 0)
            if workspace:
                yield device, block.id, workspace, begin, done
            for value, size in block.gives.items():
                spans = self._spans(value)
                _widen(spans, device, begin, max(done, left.get((value, device), 0.0)))
                if value in lasting:
                    last = problem.home or device
                    start = self._arriving.get((value, last), done)
                    _widen(spans, last, start, self._total_ms)
                nbytes = size * shares[target]
                for where, (start, end) in spans.items():
                    yield where, value, nbytes, start, end
        for value in problem.inputs:
            readers = problem.readers.get(value, ())
            nbytes = max((problem.blocks[i].reads[value] for i in readers), default=0)
            spans = self._spans(value)
            if problem.home:
                _widen(spans, problem.home, 0.0, left.get((value, problem.home), 0.0))
            for where, (start, end) in spans.items():
                yield where, value, nbytes, start, end

    def _spans(self, value: str) -> dict[str, tuple[float, float]]:
        """Where a value is read, from when it is there to the end of its last reader: from the
        start of its transfer, or of the stage where there was none."""
        spans: dict[str, tuple[float, float]] = {}
        for user in self._problem.readers.get(value, ()):
            device = self._device[user]
            start = self._arriving.get((value, device), self._outer[user])
            _widen(spans, device, start, self._end[user])
        return spans


def _widen(spans: dict[str, tuple[float, float]], device: str, start: float, end: float) -> None:
    known = spans.get(device)
    if known is None:
        spans[device] = start, end
    else:
        spans[device] = min(start, known[0]), max(end, known[1])
