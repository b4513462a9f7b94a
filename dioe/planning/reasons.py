"""Why each block of a schedule is where it is: its runner-up, and what decided between the two.

``explain`` does the same for plans on one lane, where only the stages around a block change; here
each move is simulated as a whole, with its transfers and the lanes it waits for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from dioe.planning.assigned import Assigned, assigned_of, placed
from dioe.planning.explain import cost_reason, described
from dioe.planning.names import ms_text, target_names
from dioe.planning.objective import Excess, Judged, busy_ms, judged
from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import Placement, Simulation
from dioe.planning.tables import Tables
from dioe.types import BlockReport, UnsupportedError

ALIKE = 1e-6
"""Values that differ by less than this share of the schedule's are alike."""

MOST_SIMULATED = 100_000
"""How many blocks all simulations of one call run at most: some seconds."""


def block_reasons(
    schedule: Schedule, *, most_simulated: int = MOST_SIMULATED
) -> tuple[BlockReport, ...]:
    """A report for each block, in the order they run.

    The runner-up is the target with which the schedule is best under its policy if this block alone
    moves there and all others stay where they are, in their order: the block gets a stage of its
    own or joins one, whichever is better. A target where that would be better still but passes a
    limit comes before all others, as the limit decided. ``difference_ms`` is the change of the
    policy's value for latency and throughput, for other policies that of the latency.

    Moves are simulated one by one. Where all together would run more than ``most_simulated``
    blocks, those that take longest come first; the others have no runner-up, and their reason says
    so. Raises as ``judged`` does.
    """
    moves = _Moves(schedule)
    compared = moves.affordable(most_simulated)
    numbers = {
        block: number
        for number, stage in enumerate(schedule.placement.stages)
        for block in stage.blocks
    }
    reports = []
    for block, number in numbers.items():
        i = schedule.problem.positions[block]
        report = described(schedule.problem, number, block, moves.assigned.targets[i])
        if i in compared:
            best = moves.runner_up(i)
            report = replace(
                report,
                runner_up="" if best is None else moves.names[best.target],
                difference_ms=None if best is None else best.loss_ms(schedule),
                reason=_reason(moves, i, best),
            )
        else:
            many = f"the {len(compared)} blocks that take longest"
            report = replace(report, reason=f"not compared: only {many} were")
        reports.append(report)
    return tuple(reports)


def gap_text(schedule: Schedule) -> str:
    """How far a schedule is from what none can be below, in one phrase."""
    value, bound = _value_text(schedule.policy, schedule.value), schedule.bound
    if schedule.proved:
        return f"{value}: nothing better exists"
    if not bound:
        return f"{value}: no lower bound is known"
    return (
        f"{value}, and no schedule can be below {_value_text(schedule.policy, bound)} "
        f"(gap {schedule.gap:.1%})"
    )


@dataclass(frozen=True)
class _Move:
    """A block on another target, and what that makes of the schedule; not judged where its policy
    can't (``unknown`` says why)."""

    target: int
    judged: Judged | None
    unknown: str = ""

    def key(self) -> tuple[float, ...]:
        """What to compare moves by: the policy's value, then latency."""
        return (math.inf,) if self.judged is None else self.judged.key[1:]

    def loss_ms(self, schedule: Schedule) -> float | None:
        """What the schedule loses by it, as reports have it."""
        if self.judged is None:
            return None
        if schedule.policy in ("latency", "throughput"):
            return self.judged.value - schedule.value
        return self.judged.simulation.total_ms - schedule.simulation.total_ms


class _Moves:
    """What becomes of a schedule if single blocks move."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.problem = schedule.problem
        self.tables = Tables(schedule.problem)
        self.names = target_names(schedule.problem.targets)
        self.assigned = assigned_of(self.tables, schedule.placement)
        self._next = list(_next_in_stage(self.problem, schedule.placement))

    @cached_property
    def around_ms(self) -> float:
        """What all boundaries and transfers of the schedule take."""
        return around_ms(self.schedule.simulation)

    def others(self, i: int) -> list[int]:
        """The targets that block i alone may move to: those that run it, where its group is."""
        tables, own = self.tables, self.assigned.targets[i]
        home = tables.device_of[own]
        free = len(tables.peers[i]) < 2
        return [
            t
            for t, ms in enumerate(tables.ms[i])
            if t != own and ms < math.inf and (free or tables.device_of[t] == home)
        ]

    def affordable(self, most_simulated: int) -> set[int]:
        """The blocks whose moves can be simulated, those that take longest first; all whose one
        target leaves nothing to simulate."""
        ways = 1 if self.tables.flat else _WAYS
        left = most_simulated // self.tables.n
        found = set()
        times = [row[t] for row, t in zip(self.tables.ms, self.assigned.targets, strict=True)]
        for i in sorted(range(self.tables.n), key=times.__getitem__, reverse=True):
            moves = len(self.others(i)) * ways
            if moves <= left:
                left -= moves
                found.add(i)
        return found

    def runner_up(self, i: int) -> _Move | None:
        """The best of all moves of block i."""
        moves = [self._moved(i, t) for t in self.others(i)]
        own = self.schedule.value - _alike(self.schedule)
        fine, barred = [], []
        for move in moves:
            if move.judged is not None and not move.judged.over:
                fine.append(move)
            elif move.key()[0] < own:
                barred.append(move)
        return min(barred or fine or moves, key=_Move.key, default=None)

    def _moved(self, i: int, t: int) -> _Move:
        """The best schedule with block i on target t."""
        found = None
        for assigned in self._ways(i, t):
            try:
                each = judged(self.problem, placed(self.tables, assigned), self.schedule.policy)
            except UnsupportedError as error:  # nobody knows the value there
                return _Move(t, None, error.cause)
            if found is None or each.key < found.key:
                found = each
        return _Move(t, found)

    def _ways(self, i: int, t: int) -> Iterator[Assigned]:
        """Block i on target t in a stage of its own, or with its neighbours there."""
        targets, order, cuts = self.assigned
        targets = [*targets[:i], t, *targets[i + 1 :]]
        if self.tables.flat:
            yield Assigned(targets, order)
            return
        after = self._next[i]
        cuts = cuts - {i} | ({after} if i in cuts and after is not None else set())
        follows = self._first_stage_behind(i, t, cuts)
        seen = set()
        for alone, apart in itertools.product((False, True), repeat=2):
            tried = cuts | ({i} if alone else set())
            if follows is not None and not apart:
                tried = tried - {follows}
            if tried not in seen:
                seen.add(tried)
                yield Assigned(targets, order, frozenset(tried))

    def _first_stage_behind(self, i: int, t: int, cuts: frozenset[int]) -> int | None:
        """The block that starts the next stage behind block i on the device of target t."""
        order, targets, device_of = (
            self.assigned.order,
            self.assigned.targets,
            self.tables.device_of,
        )
        for block in itertools.islice(order, order.index(i) + 1, None):
            if device_of[targets[block]] == device_of[t]:
                return block if block in cuts else None
        return None


_WAYS = 4
"""Of a move where stages cost something, at most."""


def _next_in_stage(problem: Problem, placement: Placement) -> Iterator[int | None]:
    """By block, the one behind it in its stage."""
    following: dict[int, int] = {}
    for stage in placement.stages:
        members = [problem.positions[name] for name in stage.blocks]
        following.update(itertools.pairwise(members))
    return (following.get(i) for i in range(len(problem.blocks)))


def _alike(schedule: Schedule) -> float:
    """A difference of the policy's value that is none."""
    return ALIKE * abs(schedule.value)


def _reason(moves: _Moves, i: int, best: _Move | None) -> str:
    """In one sentence, what decided for the block's target and against the runner-up."""
    schedule = moves.schedule
    if best is None:
        target = moves.assigned.targets[i]
        if len(moves.tables.peers[i]) > 1:
            device = moves.tables.devices[moves.tables.device_of[target]]
            return f"its group {moves.problem.blocks[i].group!r} is on {device}"
        return f"only {moves.names[target]} runs it"
    if best.judged is None:
        return f"limits: {best.unknown}"
    if best.judged.over:
        return over_text(best.judged.over[0])
    loss, alike = best.judged.value - schedule.value, _alike(schedule)
    name = moves.names[best.target]
    if loss < -alike:
        gain = _value_text(schedule.policy, -loss)
        return f"the end of the search: {name} is predicted {gain} better"
    if loss <= alike:
        return f"nothing: {name} is as good"
    if schedule.policy == "latency":
        return _latency_reason(moves, i, best.target, best.judged)
    if schedule.policy == "throughput":
        return _load_reason(moves.problem, best.judged.simulation)
    if schedule.policy == "memory":
        return f"memory: the largest peak would be {_value_text('memory', best.judged.value)}"
    return f"its own energy: {_value_text(schedule.policy, loss)} more on {name}"


def over_text(over: Excess) -> str:
    """Which limit is passed, and by how much."""
    if over.what == "memory":
        return f"memory: {over.place} has {over.limit:.0f} bytes, and {over.needed:.0f} are needed"
    if over.what == "stages":
        number = f"{over.needed:.0f} stages"
        return f"limits: it would take {number}, more than the {over.limit:.0f} allowed"
    if over.what == "latency":
        return f"limits: it would take {ms_text(over.needed)}, more than {ms_text(over.limit)}"
    return f"limits: {over.place} may not be used together"


def _latency_reason(moves: _Moves, i: int, target: int, other: Judged) -> str:
    """What makes a move slower: the block itself, what lies around it, or lanes that are taken."""
    row, name = moves.tables.ms[i], moves.names[target]
    loss = other.value - moves.schedule.value
    alone = row[target] - row[moves.assigned.targets[i]]
    around = around_ms(other.simulation) - moves.around_ms
    waiting = loss - alone - around
    if waiting > max(alone, around):
        device = moves.tables.devices[moves.tables.device_of[target]]
        return f"waiting for a lane: {device} is taken, and all would end {ms_text(loss)} later"
    sent = _sent_ms(other.simulation) - _sent_ms(moves.schedule.simulation)
    return cost_reason(name, alone, around, "transfers" if sent > around / 2 else "boundaries")


def _load_reason(problem: Problem, simulation: Simulation) -> str:
    """What would be busy for longest."""
    loads = _loads(problem, simulation)
    if not loads:
        return "load: nothing is busy"
    busiest = max(loads, key=loads.__getitem__)
    return f"load: {busiest} would be busy for {ms_text(loads[busiest])} of each request"


def _loads(problem: Problem, simulation: Simulation) -> Mapping[str, float]:
    """How long lanes of devices, and queues of links, are busy for one request."""
    lanes = {device.id: device.lanes for device in problem.devices}
    loads = {
        device: ms / (lanes.get(device, 1) or math.inf)
        for device, ms in busy_ms(problem, simulation).items()
    }
    for sent in simulation.transfers:
        if sent.queue:
            loads[sent.queue] = loads.get(sent.queue, 0.0) + sent.end_ms - sent.start_ms
    return loads


def around_ms(simulation: Simulation) -> float:
    """What boundaries, handovers, switches and transfers of a timeline take together."""
    stages = sum(
        stage.handover_ms + stage.times.boundary_ms + stage.times.switch_ms
        for stage in simulation.stages
    )
    return stages + _sent_ms(simulation)


def _sent_ms(simulation: Simulation) -> float:
    return sum(sent.end_ms - sent.start_ms for sent in simulation.transfers)


def _value_text(policy: str, value: float) -> str:
    if policy == "efficiency":
        return f"{value:.4g} J"
    if policy == "memory":
        return f"{value:.0f} bytes"
    return ms_text(value)
