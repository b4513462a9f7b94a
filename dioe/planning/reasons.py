"""Why each block of a schedule is where it is: its runner-up, and what decided between the two.

``explain`` does the same for plans on one lane, where only the stages around a block change; here
each move is simulated as a whole, with its transfers and the lanes it waits for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from dioe.planning.assigned import Assigned, assigned_of, placed
from dioe.planning.explain import cost_reason, described
from dioe.planning.fast import Fast, Key, Spent
from dioe.planning.names import ms_text, target_names
from dioe.planning.objective import Excess, judged
from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import Placement
from dioe.planning.tables import Tables
from dioe.types import BlockReport, UnsupportedError

ALIKE = 1e-6
"""Values that differ by less than this share of the schedule's are alike."""

MOST_SIMULATED = 500_000
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
    compared = dict(_compared(moves, most_simulated))
    reports = []
    for number, stage in enumerate(schedule.placement.stages):
        for block, target in zip(stage.blocks, stage.targets, strict=True):
            report = described(schedule.problem, number, block, target)
            i = schedule.problem.positions[block]
            if i not in compared:
                share = f"{len(compared)} of {len(schedule.problem.blocks)}"
                reason = f"not compared: only blocks that take longer ({share})"
                reports.append(replace(report, reason=reason))
                continue
            best = compared[i]
            report = replace(
                report,
                runner_up="" if best is None else moves.names[best.target],
                difference_ms=None if best is None else best.loss_ms(schedule),
                reason=_reason(moves, i, best),
            )
            reports.append(report)
    return tuple(reports)


def _compared(moves: _Moves, most_simulated: int) -> Iterator[tuple[int, _Move | None]]:
    """Blocks with their best moves, those that take longest first, as long as it is affordable; and
    all that have nowhere to move."""
    tables = moves.tables
    times = [row[t] for row, t in zip(tables.ms, moves.assigned.targets, strict=True)]
    for i in sorted(range(tables.n), key=times.__getitem__, reverse=True):
        others = moves.others(i)
        if not others:
            yield i, None
        elif (moves.simulated + len(others) + 1) * tables.n <= most_simulated:
            yield i, moves.best(i, others)
            moves.simulated += 1  # once more to say what decided


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


class _Move(NamedTuple):
    """A block on another target, and what the policy makes of the schedule then."""

    target: int
    key: Key
    assigned: Assigned

    @property
    def over(self) -> bool:
        """Whether it passes a limit, or nobody knows its value."""
        return self.key[0] > 0 or self.key[1] == math.inf

    def loss_ms(self, schedule: Schedule) -> float | None:
        """What the schedule loses by it, as reports have it."""
        _, value, latency = self.key
        if value == math.inf:
            return None
        if schedule.policy in ("latency", "throughput"):
            return value - schedule.value
        return latency - schedule.latency_ms


class _Moves:
    """What becomes of a schedule if single blocks move."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.problem = schedule.problem
        self.tables = Tables(schedule.problem)
        self.names = target_names(schedule.problem.targets)
        self.assigned = assigned_of(self.tables, schedule.placement)
        self.fast = Fast(self.tables, schedule.policy)
        self.simulated = 0
        self._next = list(_next_in_stage(self.problem, schedule.placement))

    @cached_property
    def spent(self) -> Spent:
        """Where the time of the schedule goes."""
        return self.fast.spent(self.assigned)

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

    def best(self, i: int, others: list[int]) -> _Move:
        """The best of all moves of block i."""
        moves = [self._moved(i, t) for t in others]
        own = self.schedule.value - _alike(self.schedule)
        barred = [move for move in moves if move.over and move.key[1] < own]
        fine = [move for move in moves if not move.over]
        return min(barred or fine or moves, key=lambda move: move.key[1:])

    def _moved(self, i: int, t: int) -> _Move:
        """The best schedule with block i on target t."""
        found = [(self.fast.key(assigned), assigned) for assigned in self._ways(i, t)]
        self.simulated += len(found)
        return _Move(t, *min(found, key=lambda each: each[0]))

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
    if best.over:
        return _limit(moves, best.assigned)
    loss, alike = best.key[1] - schedule.value, _alike(schedule)
    name = moves.names[best.target]
    if loss < -alike:
        gain = _value_text(schedule.policy, -loss)
        return f"the end of the search: {name} is predicted {gain} better"
    if loss <= alike:
        return f"nothing: {name} is as good"
    if schedule.policy == "latency":
        return _latency_reason(moves, i, best)
    if schedule.policy == "throughput":
        loads = moves.fast.spent(best.assigned).loads_ms
        busiest = max(loads, key=loads.__getitem__)
        return f"load: {busiest} would be busy for {ms_text(loads[busiest])} of each request"
    if schedule.policy == "memory":
        return f"memory: the largest peak would be {_value_text('memory', best.key[1])}"
    return f"its own energy: {_value_text(schedule.policy, loss)} more on {name}"


def _limit(moves: _Moves, assigned: Assigned) -> str:
    """Which limit an assignment passes, or what nobody knows of it."""
    try:
        found = judged(moves.problem, placed(moves.tables, assigned), moves.schedule.policy)
    except UnsupportedError as error:
        return f"limits: {error.cause}"
    return over_text(found.over[0])


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


def _latency_reason(moves: _Moves, i: int, best: _Move) -> str:
    """What makes a move slower: the block itself, what lies around it, or lanes that are taken."""
    row, name = moves.tables.ms[i], moves.names[best.target]
    before, after = moves.spent, moves.fast.spent(best.assigned)
    loss = best.key[1] - moves.schedule.value
    alone = row[best.target] - row[moves.assigned.targets[i]]
    sent = after.transfers_ms - before.transfers_ms
    around = after.boundaries_ms - before.boundaries_ms + sent
    waiting = loss - alone - around
    if waiting > max(alone, around) + ALIKE * loss:
        device = moves.tables.devices[moves.tables.device_of[best.target]]
        return f"waiting for a lane: {device} is taken, and all would end {ms_text(loss)} later"
    return cost_reason(name, alone, around, "transfers" if sent > around / 2 else "boundaries")


def _value_text(policy: str, value: float) -> str:
    if policy == "efficiency":
        return f"{value:.4g} J"
    if policy == "memory":
        return f"{value:.0f} bytes"
    return ms_text(value)
