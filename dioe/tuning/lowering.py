"""Lowering precision block by block, where a whole model in lower precision errs too much."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dioe.graph import Block, Model
from dioe.planning import Problem, best_within, tradeoff_curve
from dioe.precision import (
    Comparison,
    Curve,
    Evaluate,
    Propose,
    Sensitivity,
    compare,
    knapsack,
    sensitivities,
    verified,
)
from dioe.runtime import Runtime
from dioe.tuning.beside import Setting
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.trial import run_once
from dioe.types import Basis, DioeError, Feeds, Precision, Precisions, Tradeoff, Value

log = logging.getLogger(__name__)

_PROBING_SHARE = 0.6
"""Of the budget: measuring what single blocks do. The rest is for verifying choices of blocks."""

_CURVE_POINTS = 32


@dataclass(frozen=True, slots=True)
class Lowered:
    """The blocks (by id) that may be lowered together on a setting, and what else was tried."""

    blocks: frozenset[str]
    error: float | None
    tradeoffs: tuple[Tradeoff, ...] = ()
    least: tuple[str, float] = ("nothing", 0.0)
    """What was lowered with the least error of all that was measured, and that error."""

    def why_not(self, name: str, limit: float) -> str:
        """Why nothing is lowered, in one sentence."""
        what, error = self.least
        return (
            f"no choice of blocks to lower on {name} was found within {limit:g} that saves time: "
            f"the least error measured is {error:.2g}, with {what} lowered"
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares a model in any precisions on one setting with the reference."""

    model: Model
    setting: Setting
    samples: Sequence[Feeds]
    reference: Sequence[Mapping[str, Value]]
    runtime: Runtime
    watch: Stopwatch

    def __call__(self, precisions: Precisions) -> float:
        """The worst relative L2 error of any output on any sample; infinite where it fails."""
        worst = Comparison(0.0)
        try:
            with self.runtime.context(self.setting.target, self.setting.resources) as context:
                with self.watch.part("compile_s"):
                    executable = context.compile(self.model, precisions, {})
                try:
                    request = executable.request()
                    with self.watch.part("verify_s"):
                        for feeds, expected in zip(self.samples, self.reference, strict=True):
                            worst = worst.worse(compare(run_once(request, feeds), expected))
                finally:
                    executable.close()
        except DioeError as error:
            log.info("%s can't be judged: %s", self.setting.name, error.cause)
            return float("inf")
        return worst.error


def lower_blocks(
    blocks: Sequence[Block],
    problem: Problem,
    precision: Precision,
    judge: Evaluate,
    *,
    limit: float,
    budget: Budget,
) -> Lowered:
    """The blocks whose lowering saves most within ``limit``, as verified.

    ``problem`` has two targets of one executable: as written, then in the lower ``precision``.
    """
    ops = [block.ops for block in blocks]
    probing = Budget(_PROBING_SHARE * budget.left_s)
    found = sensitivities(ops, precision, judge, budget=lambda: probing.left_s > 0, limit=limit)
    written, lower = (target.blocks for target in problem.targets)
    gains = {i: written[b.id].ms - lower[b.id].ms for i, b in enumerate(blocks)}
    propose = _by_planner(blocks, problem, precision, gains, found, limit)
    curve = verified(propose, ops, gains, found, limit, judge, budget=lambda: budget.left_s > 0)
    best = curve.best
    return Lowered(
        frozenset(blocks[i].id for i in best.lowered) if best is not None else frozenset(),
        best.measured if best is not None else None,
        _tradeoffs(blocks, problem, precision, curve),
        _least(blocks, found, curve),
    )


def _least(blocks: Sequence[Block], found: Sensitivity, curve: Curve) -> tuple[str, float]:
    """The set of blocks that was lowered with the least error, in words, and the error."""
    measured = [(g.error, sorted(g.blocks)) for g in found.groups]
    measured += [(p.measured, sorted(p.lowered)) for p in curve.points]
    if not measured:
        return "nothing", 0.0
    error, chosen = min(measured)
    names = [f"{blocks[i].id} ({blocks[i].ops[0]})" for i in chosen]
    more = f" and {len(names) - 2} more blocks" if len(names) > 2 else ""
    return " and ".join(names[:2]) + more, error


def _by_planner(
    blocks: Sequence[Block],
    problem: Problem,
    precision: Precision,
    gains: Mapping[int, float],
    sensitivity: Sensitivity,
    limit: float,
) -> Propose:
    """Proposes what the planner would lower, changes of precision paid for; between its choices,
    what saves most per error."""
    squared = {
        (block.id, precision): error
        for block, error in zip(blocks, sensitivity.squared_errors, strict=True)
    }
    curve = tradeoff_curve(problem, squared, limit=limit, most=_CURVE_POINTS, max_stages=1)
    index = {block.id: i for i, block in enumerate(blocks)}
    by_worth = knapsack(gains, sensitivity)

    def saved(chosen: frozenset[int]) -> float:
        return sum(gains[i] for i in chosen)

    def propose(allowed: float) -> frozenset[int]:
        point = best_within(curve, allowed**0.5)
        planned = frozenset(
            index[block]
            for block, target in (point.placement.targets.items() if point is not None else ())
            if problem.targets[target].precision is precision
        )
        return max(planned, by_worth(allowed), key=saved)

    return propose


def _tradeoffs(
    blocks: Sequence[Block], problem: Problem, precision: Precision, curve: Curve
) -> tuple[Tradeoff, ...]:
    """The verified choices as points of the curve: their errors measured, their times predicted."""
    written, lower = problem.targets
    where = f"{written.target.device}/{written.target.backend}"
    points = []
    for point in sorted(curve.points, key=lambda p: p.measured):
        latency_ms = sum(
            (lower if i in point.lowered else written).blocks[block.id].ms
            for i, block in enumerate(blocks)
        )
        points.append(
            Tradeoff(
                f"{where}: {precision} in {len(point.lowered)} of {len(blocks)} blocks",
                sum(len(blocks[i].ops) for i in point.lowered),
                point.measured,
                latency_ms,
                Basis.PREDICTED,
            )
        )
    return tuple(points)
