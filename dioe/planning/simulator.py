"""The simulator: what a placement of blocks is predicted to cost. The only objective of planning.

Stages run on the lanes of their devices, values cross links between them meanwhile
(:mod:`dioe.planning.timeline`); a problem without devices has one lane, and one stage runs after
the other. A stage costs its dispatch, the entry of each value it reads
from outside (once), the exit of each value that others or the caller need (once), its blocks, and
the switches of precision inside it; between two stages lies the handover. Dispatch is that of the
stage's first block's target, entry that of the first block that reads the value, exit that of the
block that gives it. Entry and exit include a copy into the memory of the stage's context and out of
it; but a value that is there already comes in without one, and one that nobody outside that memory
reads never leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dioe.planning.problem import Cost, Problem, TargetCosts
from dioe.planning.timeline import Crossing, Jobs, Timeline, run
from dioe.types import UnsupportedError


@dataclass(frozen=True, slots=True)
class PlacedStage:
    """Ids of blocks in the order they run, and the index of each one's target."""

    blocks: tuple[str, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Stages in the order they run. ``predicted_ms`` is the simulator's figure where known."""

    stages: tuple[PlacedStage, ...]
    predicted_ms: float | None = field(default=None, compare=False)

    @property
    def targets(self) -> dict[str, int]:
        """The index of each block's target, by block id."""
        return {
            block: target
            for stage in self.stages
            for block, target in zip(stage.blocks, stage.targets, strict=True)
        }


@dataclass(frozen=True, slots=True)
class StageTimes:
    """The parts of a stage's time. ``entries`` and ``exits`` by value, ``blocks`` by block id;
    ``switches`` counts the changes of precision that ``switch_ms`` pays."""

    dispatch_ms: float
    entries: Mapping[str, float]
    exits: Mapping[str, float]
    blocks: Mapping[str, float]
    switches: int
    switch_ms: float

    @property
    def boundary_ms(self) -> float:
        """All but the blocks and what happens between them."""
        return self.dispatch_ms + sum(self.entries.values()) + sum(self.exits.values())

    @property
    def total_ms(self) -> float:
        """From the stage's start to its end."""
        return self.boundary_ms + sum(self.blocks.values()) + self.switch_ms


@dataclass(frozen=True, slots=True)
class SimulatedStage:
    """A stage on the predicted timeline, on a lane of its device; ``handover_ms`` lies before
    ``start_ms``."""

    start_ms: float
    end_ms: float
    handover_ms: float
    times: StageTimes
    device: str = ""
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Transfer:
    """A value on its way from one device's memory to another's, in ``queue`` (empty: no queue)."""

    value: str
    source: str
    destination: str
    start_ms: float
    end_ms: float
    queue: str = ""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The predicted timeline of a placement.

    ``total_ms`` is when the last result is there, ``period_ms`` the time between two results where
    requests follow each other without a gap (the load of the busiest lane or queue). ``spared_ms``
    are the copies that its stages, looked at one by one, would make and needn't.
    """

    total_ms: float
    stages: tuple[SimulatedStage, ...]
    spared_ms: float = 0.0
    transfers: tuple[Transfer, ...] = ()
    period_ms: float = 0.0


def simulate(problem: Problem, placement: Placement) -> Simulation:
    """The predicted timeline of ``placement``.

    Raises UnsupportedError for a block on a target that can't run it, ValueError for a placement
    that leaves out or repeats a block, runs one before what it reads, or puts targets into one
    stage that can't share it.
    """
    _check(problem, placement)
    prices = _Prices(problem)
    ways = _Ways(problem, placement) if prices.copies else None
    all_times = []
    for stage in placement.stages:
        all_times.append(_stage_times(prices, stage, ways))
        if ways is not None:
            ways.note(stage)
    timed = run_stages(problem, placement, [times.total_ms for times in all_times])
    devices = [problem.targets[stage.targets[0]].target.device for stage in placement.stages]
    stages = tuple(
        SimulatedStage(*row)
        for row in zip(
            timed.start, timed.end, timed.handover, all_times, devices, timed.lane, strict=True
        )
    )
    spared_ms = 0.0
    if prices.copies:
        alone = (_stage_times(prices, stage, None).boundary_ms for stage in placement.stages)
        spared_ms = sum(ms - times.boundary_ms for ms, times in zip(alone, all_times, strict=True))
    return Simulation(
        timed.total_ms,
        stages,
        spared_ms,
        _transfers(problem, timed.crossings),
        _period_ms(problem, placement, stages, timed.crossings),
    )


def run_stages(problem: Problem, placement: Placement, ms: Sequence[float]) -> Timeline:
    """The timeline of stages that take ``ms`` each, whatever these are made of."""
    net = problem.network
    job_of = {block: job for job, stage in enumerate(placement.stages) for block in stage.blocks}
    values = net.values
    source = [-1 if maker < 0 else job_of[problem.blocks[maker].id] for maker in net.makers]
    reads = []
    for job, stage in enumerate(placement.stages):
        blocks = (problem.blocks[problem.positions[name]] for name in stage.blocks)
        read = dict.fromkeys(values[value] for block in blocks for value in block.reads)
        reads.append([value for value in read if source[value] != job])
    first = [stage.targets[0] for stage in placement.stages]
    return run(
        Jobs(
            ms,
            [net.device_of[target] for target in first],
            [net.context_of[target] for target in first],
            reads,
            source,
            net.nbytes,
            net.lanes,
            net.ways,
            net.handover,
            net.fixed,
            net.home,
            net.lasting,
        )
    )


def _transfers(problem: Problem, crossings: Iterable[Crossing]) -> tuple[Transfer, ...]:
    net = problem.network
    names, devices, queues = list(net.values), net.devices, net.queues
    return tuple(
        Transfer(
            names[c.value], devices[c.source], devices[c.destination], c.start_ms, c.end_ms,
            queues[c.queue] if c.queue >= 0 else "",
        )
        for c in crossings
    )  # fmt: skip


def _period_ms(
    problem: Problem,
    placement: Placement,
    stages: Sequence[SimulatedStage],
    crossings: Iterable[Crossing],
) -> float:
    """The load of the busiest resource; lanes of a device share its load evenly at best.

    Requests can follow each other in that time: as stages don't wait for those of later requests,
    every stage may work on an earlier request than those before it, until nothing waits any more.
    Then the first stage of a device follows its last one, of another request: the handover of these
    two belongs to the load as well.
    """
    net = problem.network
    load: dict[object, float] = {}
    ends: dict[int, tuple[int, int]] = {}  # by device: its first and last context
    for stage, placed in zip(stages, placement.stages, strict=True):
        at = net.device_of[placed.targets[0]]
        context = net.context_of[placed.targets[0]]
        if net.lanes[at]:
            ms = (stage.handover_ms + stage.end_ms - stage.start_ms) / net.lanes[at]
            load[at] = load.get(at, 0.0) + ms
            ends[at] = ends.get(at, (context, context))[0], context
    for at, (first, last) in ends.items():
        load[at] += net.handover.get((last, first), 0.0) / net.lanes[at]
    for c in crossings:
        if c.queue >= 0:
            key = ("queue", c.queue)
            load[key] = load.get(key, 0.0) + c.end_ms - c.start_ms
    return max(load.values(), default=0.0)


class _Price(NamedTuple):
    """What a stage pays on a target; lines as their fixed part and their part by byte."""

    dispatch_ms: float
    entry: tuple[float, float]
    copied_in: tuple[float, float]
    exit: tuple[float, float]
    copied_out: tuple[float, float]
    blocks: Mapping[str, Cost]


class _Prices:
    """A problem's prices by target, and what else the times of stages need, at hand."""

    def __init__(self, problem: Problem) -> None:
        self.by_target = [_price(costs) for costs in problem.targets]
        self.copies = any(
            price.entry != price.copied_in or price.exit != price.copied_out
            for price in self.by_target
        )
        self.switch = problem.switch
        self.blocks = problem.blocks
        self.positions = problem.positions
        self.readers = problem.readers
        self.outputs = frozenset(problem.outputs)


def _price(costs: TargetCosts) -> _Price:
    copied_in, copied_out = costs.entry + costs.copy_in, costs.exit + costs.copy_out
    return _Price(
        costs.dispatch_ms,
        (costs.entry.fixed_ms, costs.entry.ms_per_byte),
        (copied_in.fixed_ms, copied_in.ms_per_byte),
        (costs.exit.fixed_ms, costs.exit.ms_per_byte),
        (copied_out.fixed_ms, copied_out.ms_per_byte),
        costs.blocks,
    )


class _Ways:
    """Which values are in which memories (by number) while the stages of a placement run."""

    def __init__(self, problem: Problem, placement: Placement) -> None:
        self._problem = problem
        self._context_of = problem.network.context_of
        self._memory_of = {
            problem.positions[block]: self._context_of[target]
            for stage in placement.stages
            for block, target in zip(stage.blocks, stage.targets, strict=True)
        }
        self._outputs = frozenset(problem.outputs)
        self._held: set[tuple[str, int]] = set()

    def note(self, stage: PlacedStage) -> None:
        """The stage has run: what it read and made is in its memory."""
        for name in stage.blocks:
            position = self._problem.positions[name]
            block, memory = self._problem.blocks[position], self._memory_of[position]
            self._held.update((value, memory) for value in block.reads)
            self._held.update((value, memory) for value in block.gives)

    def comes_in(self, value: str, target: int) -> bool:
        """Whether the value has to be copied into that target's memory."""
        return (value, self._context_of[target]) not in self._held

    def goes_out(self, value: str, target: int) -> bool:
        """Whether it has to be copied out of it, where it was made."""
        memory = self._context_of[target]
        return value in self._outputs or any(
            self._memory_of[user] != memory for user in self._problem.readers.get(value, ())
        )


def stage_times(problem: Problem, stage: PlacedStage) -> StageTimes:
    """The parts of one stage's time; the stage is taken to be a possible one.

    Looked at alone it copies whatever it reads and gives.
    """
    return _stage_times(_Prices(problem), stage, None)


def _stage_times(prices: _Prices, stage: PlacedStage, ways: _Ways | None) -> StageTimes:
    given: dict[str, tuple[int, int]] = {}  # by value: the target that makes it, bytes
    entries: dict[str, float] = {}
    blocks: dict[str, float] = {}
    switches, switch_ms = 0, 0.0
    for name, target in zip(stage.blocks, stage.targets, strict=True):
        price, block = prices.by_target[target], prices.blocks[prices.positions[name]]
        for value, nbytes in block.reads.items():
            if value not in given:
                if value not in entries:
                    copied = ways is None or ways.comes_in(value, target)
                    fixed_ms, ms_per_byte = price.copied_in if copied else price.entry
                    entries[value] = fixed_ms + ms_per_byte * nbytes
            elif given[value][0] != target:
                switches += 1
                switch_ms += prices.switch.ms(nbytes)
        blocks[name] = price.blocks[name].ms
        for value, nbytes in block.gives.items():
            given[value] = target, nbytes
    return StageTimes(
        dispatch_ms=prices.by_target[stage.targets[0]].dispatch_ms,
        entries=entries,
        exits=_exits(prices, stage, given, ways),
        blocks=blocks,
        switches=switches,
        switch_ms=switch_ms,
    )


def _exits(
    prices: _Prices,
    stage: PlacedStage,
    given: Mapping[str, tuple[int, int]],
    ways: _Ways | None,
) -> dict[str, float]:
    inside = {prices.positions[name] for name in stage.blocks}
    exits = {}
    for value, (target, nbytes) in given.items():
        if value in prices.outputs or not inside.issuperset(prices.readers.get(value, ())):
            price = prices.by_target[target]
            copied = ways is None or ways.goes_out(value, target)
            fixed_ms, ms_per_byte = price.copied_out if copied else price.exit
            exits[value] = fixed_ms + ms_per_byte * nbytes
    return exits


def _check(problem: Problem, placement: Placement) -> None:
    done: set[str] = set()
    known = set(problem.inputs)
    for stage in placement.stages:
        if not stage.blocks or len(stage.blocks) != len(stage.targets):
            raise ValueError("a stage has no blocks, or not one target for each")
        if len({problem.group_of[target] for target in stage.targets}) != 1:
            names = ", ".join(str(problem.targets[t].target) for t in dict.fromkeys(stage.targets))
            raise ValueError(f"targets that can't share a stage: {names}")
        for name, target in zip(stage.blocks, stage.targets, strict=True):
            if name not in problem.positions or name in done:
                raise ValueError(f"block {name!r} is unknown or placed twice")
            block, costs = problem.blocks[problem.positions[name]], problem.targets[target]
            if name not in costs.blocks:
                raise UnsupportedError(
                    f"{costs.target} can't run it",
                    place=f"block {name} ({block.kind})",
                    fix="place it on a target that has a cost for it",
                )
            missing = [value for value in block.reads if value not in known]
            if missing:
                raise ValueError(f"block {name!r} reads {missing[0]!r} before it is made")
            done.add(name)
            known.update(block.gives)
    if len(done) != len(problem.blocks):
        left = next(block.id for block in problem.blocks if block.id not in done)
        raise ValueError(f"block {left!r} is in no stage")
