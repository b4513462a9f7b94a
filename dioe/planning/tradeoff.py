"""Error against latency: which blocks to compute in lower precision, for every limit on the error.

Errors of lowered blocks are taken to be independent, so their squares add. What a placement gains
by lowering depends on its neighbours, so the curve comes from the planner itself: a price on error,
swept from nothing to infinity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dioe.planning.chain import cheapest, check_placeable, too_few_stages
from dioe.planning.orders import Order, block_orders
from dioe.planning.problem import Problem
from dioe.planning.segments import Penalties
from dioe.planning.simulator import Placement
from dioe.types import Basis, Precision, Tradeoff

Sensitivity = Mapping[tuple[str, Precision], float]
Point = tuple[float, float]  # squared error, latency


class CurvePoint(NamedTuple):
    """A placement and the relative L2 error it is predicted to have."""

    placement: Placement
    relative_l2: float


def predicted_error(problem: Problem, placement: Placement, sensitivity: Sensitivity) -> float:
    """The relative L2 error of a placement: the root of its blocks' squared shares.

    ``sensitivity`` is the squared relative L2 error that lowering one block causes. fp32, as
    written, causes none; any other precision of a block that isn't in it an infinite one.
    """
    shares = _shares(problem, sensitivity)
    return math.sqrt(math.fsum(shares[key] for key in placement.targets.items()))


def tradeoff_curve(
    problem: Problem,
    sensitivity: Sensitivity,
    *,
    most: int = 24,
    max_stages: int | None = None,
) -> list[CurvePoint]:
    """Placements that are each the fastest for their error, from the least error to the fastest.

    Every point is the best, over the block orders that are best at the two ends, of latency plus
    some price per squared error; so in between all corners of the lower convex hull are found (by
    dichotomy, Y. P. Aneja, K. P. K. Nair, "Bicriteria transportation problem", 1979), as long as
    ``most`` placements suffice; each takes about the time of ``place`` over two orders.
    ``sensitivity`` as for ``predicted_error``. Raises UnsupportedError as ``place`` does, or if a
    block has no target of finite error.
    """
    shares = _shares(problem, sensitivity)
    possible = {key: 0.0 if math.isfinite(share) else math.inf for key, share in shares.items()}
    check_placeable(problem, possible)
    orders = block_orders(problem)
    ends = []
    for penalty in (_exactest(problem, shares), possible):
        best = [(cheapest(problem, [order], penalty, max_stages), order) for order in orders]
        placed = [(placement, order) for placement, order in best if placement is not None]
        if placed:
            ends.append(min(placed, key=lambda each: each[0].predicted_ms or 0.0))
    if not ends:
        raise too_few_stages(max_stages)
    sweep = _Sweep(problem, shares, list(dict.fromkeys(order for _, order in ends)), max_stages)
    for placement, _ in ends:
        sweep.add(placement)
    sweep.fill(most)
    return sweep.front()


def best_within(curve: Iterable[CurvePoint], limit: float) -> CurvePoint | None:
    """The fastest point whose predicted error is at most ``limit``; None if there is none."""
    within = [point for point in curve if point.relative_l2 <= limit]
    return min(within, key=lambda point: point.placement.predicted_ms or 0.0, default=None)


def tradeoffs(problem: Problem, curve: Sequence[CurvePoint]) -> tuple[Tradeoff, ...]:
    """The curve in words, for a plan's explanation."""
    return tuple(_described(problem, point) for point in curve)


def _described(problem: Problem, point: CurvePoint) -> Tradeoff:
    chosen = point.placement.targets
    lowered = {
        block.id: problem.targets[chosen[block.id]].precision
        for block in problem.blocks
        if problem.targets[chosen[block.id]].precision is not Precision.FP32
    }
    contexts = [problem.targets[stage.targets[0]].context for stage in point.placement.stages]
    where = " -> ".join(f"{context.device}/{context.backend}" for context in contexts)
    counts = Counter(str(precision) for precision in lowered.values())
    total = len(problem.blocks)
    parts = [f"{name} in {count} of {total} blocks" for name, count in sorted(counts.items())]
    return Tradeoff(
        description=f"{where}: {', '.join(parts) or 'fp32'}",
        lowered_ops=sum(len(b.ops) for b in problem.blocks if b.id in lowered),
        relative_l2=point.relative_l2,
        latency_ms=point.placement.predicted_ms or 0.0,
        basis=Basis.PREDICTED,
    )


def _shares(problem: Problem, sensitivity: Sensitivity) -> dict[tuple[str, int], float]:
    """Squared error by (block id, index of its target)."""
    return {
        (block, i): sensitivity.get(
            (block, target.precision), 0.0 if target.precision is Precision.FP32 else math.inf
        )
        for i, target in enumerate(problem.targets)
        for block in target.blocks
    }


def _exactest(problem: Problem, shares: Penalties) -> dict[tuple[str, int], float]:
    """Penalties that leave each block only the targets of its least error."""
    least: dict[str, float] = {}
    for (block, _), share in shares.items():
        least[block] = min(least.get(block, math.inf), share)
    return {key: 0.0 if share <= least[key[0]] else math.inf for key, share in shares.items()}


class _Sweep:
    """Placements found so far, by their squared error and latency."""

    def __init__(
        self, problem: Problem, shares: Penalties, orders: Sequence[Order], max_stages: int | None
    ) -> None:
        self._problem = problem
        self._shares = shares
        self._orders = orders
        self._max_stages = max_stages
        self._found: dict[tuple[float, float], Placement] = {}

    def add(self, placement: Placement) -> tuple[float, float]:
        """Keep a placement; its squared error and latency."""
        squared = math.fsum(self._shares[key] for key in placement.targets.items())
        point = (squared, placement.predicted_ms or 0.0)
        self._found.setdefault(point, placement)
        return point

    def fill(self, most: int) -> None:
        """Look for corners of the hull between those that are known, the widest gaps first."""
        gaps = _neighbours(self._found)
        while gaps and len(self._found) < most:
            left, right = gaps.pop(0)
            (error, latency), (more_error, less_latency) = left, right
            price = (latency - less_latency) / (more_error - error)
            penalty = {
                key: price * share if math.isfinite(share) else math.inf
                for key, share in self._shares.items()
            }
            best = cheapest(self._problem, self._orders, penalty, self._max_stages)
            if best is None:
                continue
            point = self.add(best)
            gained = (latency + price * error) - (point[1] + price * point[0])
            if gained > 1e-9 * latency and error < point[0] < more_error:
                gaps += [(left, point), (point, right)]
                gaps.sort(key=lambda gap: gap[1][1] - gap[0][1])  # the most latency to gain first

    def front(self) -> list[CurvePoint]:
        """The placements that none is both as exact and as fast as, the most exact first."""
        front = []
        fastest = math.inf
        for squared, latency in sorted(self._found):
            if latency < fastest:
                fastest = latency
                front.append(CurvePoint(self._found[squared, latency], math.sqrt(squared)))
        return front


def _neighbours(found: Iterable[Point]) -> list[tuple[Point, Point]]:
    """The gap between the two ends, if the fast one isn't as exact as the exact one."""
    points = sorted(found)
    gap = (points[0], points[-1])
    return [gap] if gap[0][0] < gap[1][0] and gap[0][1] > gap[1][1] else []
