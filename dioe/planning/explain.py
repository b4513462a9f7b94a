"""Why each block is where it is: its runner-up, and what the whole plan would lose with that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from dioe.planning.allowed import Allowed
from dioe.planning.memory import overfull
from dioe.planning.names import ms_text, stage_name, target_names
from dioe.planning.problem import Problem, TargetCosts
from dioe.planning.simulator import PlacedStage, Placement, simulate, stage_times
from dioe.types import BlockReport, Precision

ALIKE_MS = 1e-6
"""Plans are told apart to the nanosecond."""


def block_reports(
    problem: Problem, placement: Placement, allowed: Allowed | None = None
) -> tuple[BlockReport, ...]:
    """A report for each block, in the order they run.

    The runner-up is the target with which the plan is fastest if this block moves there and all
    others stay: it becomes a stage of its own, joins a stage next to it, or only changes its
    precision within its stage, whichever is cheapest. ``difference_ms`` is what the plan loses by
    it; below 0 where an error limit, memory, what is ``allowed`` at most or a measured time spoke
    against it. Raises as ``simulate`` does.
    """
    simulate(problem, placement)  # refuses what is no placement
    moves = _Moves(problem, placement, allowed or Allowed())
    reports = []
    for number, stage in enumerate(placement.stages):
        for block, target in zip(stage.blocks, stage.targets, strict=True):
            reports.append(_report(problem, moves, number, block, target))
    return tuple(reports)


def _report(problem: Problem, moves: _Moves, number: int, block: str, target: int) -> BlockReport:
    others = [
        (moves.difference_ms(number, block, i), i)
        for i, costs in enumerate(problem.targets)
        if i != target and block in costs.blocks
    ]
    best = min(others, default=None)
    full = "" if best is None else moves.overfull(block, best[1])
    beyond = "" if best is None else moves.beyond(number, block, best[1])
    if best is None:
        reason = f"only {target_names(problem.targets)[target]} runs it"
    elif full:
        reason = f"memory: {full}"
    elif beyond and best[0] < -ALIKE_MS:
        reason = f"limits: {beyond}"
    else:
        reason = _reason(problem, block, target, best)
    return replace(
        described(problem, number, block, target),
        runner_up="" if best is None else target_names(problem.targets)[best[1]],
        difference_ms=None if best is None else best[0],
        reason=reason,
    )


def described(problem: Problem, number: int, block: str, target: int) -> BlockReport:
    """What is known of a block of the stage ``number`` without comparing it with another target."""
    node, own = problem.blocks[problem.positions[block]], problem.targets[target]
    cost = own.blocks[block]
    return BlockReport(
        block=block,
        kind=node.kind,
        ops=node.ops,
        stage=stage_name(number),
        target=str(own.target),
        cost_ms=cost.ms,
        basis=cost.basis,
        runs=cost.runs,
        least_ms=min(
            [cost.ms, *(t.blocks[block].ms for t in problem.targets if block in t.blocks)]
        ),
    )


def _reason(problem: Problem, block: str, target: int, other: tuple[float, int]) -> str:
    """In one sentence, what decided for ``target`` and against the runner-up."""
    loss, index = other
    ours, theirs = problem.targets[target], problem.targets[index]
    name = target_names(problem.targets)[index]
    if loss < -ALIKE_MS:
        faster = f"{name} is predicted {ms_text(-loss)} faster"
        if _is_lower(theirs, ours):
            return f"the error limit: {faster}"
        return f"measured time of whole plans: {faster}"
    if loss <= ALIKE_MS:
        return f"nothing: {name} is as fast"
    alone = theirs.blocks[block].ms - ours.blocks[block].ms
    around = loss - alone
    inside = ours.context == theirs.context and ours.mixes and theirs.mixes
    what = "changes of precision" if inside else "boundaries"
    return cost_reason(name, alone, around, what)


def cost_reason(name: str, alone: float, around: float, what: str) -> str:
    """Why a move to the target ``name`` costs time: the block by itself, or ``what`` is around it;
    both in ms, below 0 where it is cheaper there."""
    if alone <= ALIKE_MS:
        gain = f"{ms_text(-alone)} cheaper there, but " if alone < -ALIKE_MS else ""
        return f"{what}: {gain}moving it costs {ms_text(around)} around it"
    if around <= alone:
        return f"its own cost: {ms_text(alone)} more on {name}"
    slower = f"it is {ms_text(alone)} slower there"
    return f"{what}: moving it costs {ms_text(around)} around it, and {slower}"


def _is_lower(theirs: TargetCosts, ours: TargetCosts) -> bool:
    """Whether the precision is another and not the one as written."""
    return theirs.precision is not ours.precision and theirs.precision is not Precision.FP32


class _Moves:
    """What single blocks cost elsewhere. Only the stages around a block are costed anew."""

    def __init__(self, problem: Problem, placement: Placement, allowed: Allowed) -> None:
        self._problem = problem
        self._allowed = allowed
        self._stages = placement.stages
        self._targets = placement.targets
        self._known: dict[PlacedStage, float] = {}

    def overfull(self, block: str, target: int) -> str:
        """Why a device's memory doesn't hold its blocks if this one runs on ``target``; empty if
        all do."""
        return overfull(self._problem, {**self._targets, block: target})

    def beyond(self, number: int, block: str, target: int) -> str:
        """What is not allowed of the plan if the block runs on ``target``; empty if it all is."""
        targets = {**self._targets, block: target}
        devices = {self._problem.targets[i].target.device for i in targets.values()}
        before, after = self._beside(number)
        old = 1 + (before is not None) + (after is not None)
        fewest = min(len(new) for new in self._moved(number, block, target, before, after))
        return self._allowed.why_not(devices, len(self._stages) - old + fewest)

    def _beside(self, number: int) -> tuple[PlacedStage | None, PlacedStage | None]:
        """The stages before and after one."""
        before = self._stages[number - 1] if number else None
        after = self._stages[number + 1] if number + 1 < len(self._stages) else None
        return before, after

    def difference_ms(self, number: int, block: str, target: int) -> float:
        """The change of the whole plan if ``block`` of the stage ``number`` runs on ``target``."""
        before, after = self._beside(number)
        old = [each for each in (before, self._stages[number], after) if each is not None]
        outside = (
            self._stages[number - 2] if number > 1 else None,
            self._stages[number + 2] if number + 2 < len(self._stages) else None,
        )
        least = min(
            self._cost_ms(new, outside) for new in self._moved(number, block, target, before, after)
        )
        return least - self._cost_ms(old, outside)

    def _moved(
        self,
        number: int,
        block: str,
        target: int,
        before: PlacedStage | None,
        after: PlacedStage | None,
    ) -> Iterator[list[PlacedStage]]:
        """The stages from ``before`` to ``after`` with the block moved, in every way it can be."""
        stage = self._stages[number]
        at = stage.blocks.index(block)
        alone = PlacedStage((block,), (target,))
        head = PlacedStage(stage.blocks[:at], stage.targets[:at])
        tail = PlacedStage(stage.blocks[at + 1 :], stage.targets[at + 1 :])
        lead = [each for each in (before, head) if each is not None and each.blocks]
        rest = [each for each in (tail, after) if each is not None and each.blocks]
        yield [*lead, alone, *rest]
        joins_lead = bool(lead) and self._shares(lead[-1], alone)
        joins_rest = bool(rest) and self._shares(alone, rest[0])
        if joins_lead:
            yield [*lead[:-1], _joined(lead[-1], alone), *rest]
        if joins_rest:
            yield [*lead, _joined(alone, rest[0]), *rest[1:]]
        if joins_lead and joins_rest:
            yield [*lead[:-1], _joined(_joined(lead[-1], alone), rest[0]), *rest[1:]]

    def _shares(self, first: PlacedStage, second: PlacedStage) -> bool:
        group_of = self._problem.group_of
        return group_of[first.targets[0]] == group_of[second.targets[0]]

    def _cost_ms(
        self, stages: list[PlacedStage], outside: tuple[PlacedStage | None, PlacedStage | None]
    ) -> float:
        """The stages' times and the handovers between them and to those ``outside``."""
        total = sum(map(self._stage_ms, stages))
        row = [each for each in (outside[0], *stages, outside[1]) if each is not None]
        for first, second in itertools.pairwise(row):
            total += self._problem.handover_ms(first.targets[0], second.targets[0])
        return total

    def _stage_ms(self, stage: PlacedStage) -> float:
        if stage not in self._known:
            self._known[stage] = stage_times(self._problem, stage).total_ms
        return self._known[stage]


def _joined(first: PlacedStage, second: PlacedStage) -> PlacedStage:
    return PlacedStage(first.blocks + second.blocks, first.targets + second.targets)
