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
from dioe.tuning.found import Lowering, block_name, listed
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
    predicted_ms: float | None = None
    """What the whole model takes then, None if there are none; ``written_ms`` with none of them."""
    written_ms: float | None = None
    least: tuple[str, float] | None = None
    """What was lowered with the least error of all that was measured, and that error."""
    cut: bool = False
    """Whether the budget ended the search."""

    def why_not(self, name: str, limit: float) -> str:
        """Why nothing is lowered, in one sentence."""
        ended = "the tuning budget ended"
        if self.least is None:
            return f"no block was lowered on {name}: {ended} before one was tried"
        what, error = self.least
        least = f"the least error measured is {error:.2g}, with {what} lowered"
        if error <= limit and not self.cut:
            return (
                f"lowering blocks on {name} within {limit:g} saves no time by their costs: {least}"
            )
        found = f"no choice of blocks to lower on {name} was found within {limit:g} that saves time"
        return f"{found}{f' before {ended}' if self.cut else ''}: {least}"

    def lowering(self, name: str, blocks: Sequence[Block], limit: float) -> Lowering:
        """The same in words and figures, of all ``blocks`` on the target of this name."""
        if not self.blocks:
            return Lowering(name, of=len(blocks), why_not=self.why_not(name, limit))
        stay = [block_name(b.id, b.ops) for b in blocks if b.id not in self.blocks]
        return Lowering(
            name, len(self.blocks), len(blocks), tuple(stay), self.error, self.predicted_ms,
            self.written_ms,
        )  # fmt: skip


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
        _latency_ms(blocks, problem, best.lowered) if best is not None else None,
        _latency_ms(blocks, problem, frozenset()),
        _least(blocks, found, curve),
        cut=budget.left_s <= 0,
    )


def _least(blocks: Sequence[Block], found: Sensitivity, curve: Curve) -> tuple[str, float] | None:
    """The set of blocks that was lowered with the least error, in words, and the error; None if
    nothing was lowered."""
    measured = [(g.error, sorted(g.blocks)) for g in found.groups]
    measured += [(p.measured, sorted(p.lowered)) for p in curve.points]
    if not measured:
        return None
    error, chosen = min(measured)
    return listed([block_name(blocks[i].id, blocks[i].ops) for i in chosen]), error


def _latency_ms(blocks: Sequence[Block], problem: Problem, lowered: frozenset[int]) -> float:
    """What the blocks take one after the other with these lowered."""
    written, lower = (target.blocks for target in problem.targets)
    return sum((lower if i in lowered else written)[b.id].ms for i, b in enumerate(blocks))


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
    written = problem.targets[0].target
    where = f"{written.device}/{written.backend}"
    points = []
    for point in sorted(curve.points, key=lambda p: p.measured):
        points.append(
            Tradeoff(
                f"{where}: {precision} in {len(point.lowered)} of {len(blocks)} blocks",
                sum(len(blocks[i].ops) for i in point.lowered),
                point.measured,
                _latency_ms(blocks, problem, point.lowered),
                Basis.PREDICTED,
            )
        )
    return tuple(points)
