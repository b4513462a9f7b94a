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

MAX_LOOKS = 2
"""Closer looks at a limit on the error: for 12 random chains of 64 blocks the first found more in
6, the second in 1, a third in none."""

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
    limit: float | None = None,
    most: int = 24,
    max_stages: int | None = None,
) -> list[CurvePoint]:
    """Placements that are each the fastest for their error, from the least error to the fastest.

    Every point is the best, over the block orders that are best at the two ends, of latency plus
    some price per squared error; so in between all corners of the lower convex hull are found (by
    dichotomy, Y. P. Aneja, K. P. K. Nair, "Bicriteria transportation problem", 1979), as long as
    ``most`` placements suffice; each takes about the time of ``place`` over two orders. With a
    ``limit`` on the relative L2 error the curve ends near it: what no placement within it can have
    is left out, and the room that the fastest one within it leaves is used by up to ``MAX_LOOKS``
    closer looks, each of up to ``most`` more placements. ``sensitivity`` as for
    ``predicted_error``. Raises UnsupportedError as ``place`` does, or if a block has no target of
    finite error; ValueError for a negative sensitivity.
    """
    shares = _shares(problem, sensitivity)
    check_placeable(problem, _priced(shares, 0.0))
    exactest = _exactest(shares)
    if limit is not None:
        least = {key[0]: shares[key] for key, forbidden in exactest.items() if not forbidden}
        shares = _limited(shares, least, limit**2 - math.fsum(least.values()))
    orders = block_orders(problem)
    ends = []
    for penalty in (exactest, _priced(shares, 0.0)):
        best = [(cheapest(problem, [order], penalty, max_stages), order) for order in orders]
        placed = [(placement, order) for placement, order in best if placement is not None]
        if placed:
            ends.append(min(placed, key=lambda each: each[0].predicted_ms or 0.0))
    if not ends:
        raise too_few_stages(max_stages)
    sweep = _Sweep(problem, shares, list(dict.fromkeys(order for _, order in ends)), max_stages)
    sweep.fill([placement for placement, _ in ends], shares, most)
    if limit is not None:
        sweep.close_in(limit, most)
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
    """Squared error by (block id, index of its target); raises ValueError for one that is none."""
    if not all(share >= 0 for share in sensitivity.values()):
        raise ValueError("a squared error is at least 0")
    return {
        (block, i): sensitivity.get(
            (block, target.precision), 0.0 if target.precision is Precision.FP32 else math.inf
        )
        for i, target in enumerate(problem.targets)
        for block in target.blocks
    }


def _priced(shares: Penalties, price: float) -> dict[tuple[str, int], float]:
    """Penalties for squared errors at a price in ms; infinite errors are forbidden."""
    return {key: price * share if 0 < share < math.inf else share for key, share in shares.items()}


def _exactest(shares: Penalties) -> dict[tuple[str, int], float]:
    """Penalties that leave each block only the targets of its least error."""
    least: dict[str, float] = {}
    for (block, _), share in shares.items():
        least[block] = min(least.get(block, math.inf), share)
    return {key: 0.0 if share <= least[key[0]] else math.inf for key, share in shares.items()}


def _limited(
    shares: Penalties, chosen: Mapping[str, float], room: float
) -> dict[tuple[str, int], float]:
    """The squared errors; infinite where over ``room`` more than those ``chosen``, by block."""
    return {
        key: share if share <= chosen[key[0]] + max(room, 0.0) else math.inf
        for key, share in shares.items()
    }


def _untied(shares: Penalties) -> dict[tuple[str, int], float]:
    """The squared errors, each made larger by up to a thousandth, by its place in the order: of
    blocks that gain as much per error as each other no price picks a few."""
    step = 1e-3 / len(shares)
    return {key: share * (1 + step * i) for i, (key, share) in enumerate(shares.items())}


class _Sweep:
    """Placements found so far, by their squared error and latency."""

    def __init__(
        self, problem: Problem, shares: Penalties, orders: Sequence[Order], max_stages: int | None
    ) -> None:
        self._problem = problem
        self._shares = shares
        self._orders = orders
        self._max_stages = max_stages
        self._found: dict[Point, Placement] = {}

    def fill(self, ends: Iterable[Placement], shares: Penalties, most: int) -> None:
        """Look for corners of the hull of ``shares`` and latency between placements, the widest
        gaps first, until ``most`` are known."""
        points = sorted(self._add(placement, shares) for placement in ends)
        gaps = [(points[0], points[-1])]
        tries = most - len(points)
        while gaps and tries > 0:
            left, right = gaps.pop(0)
            (error, latency), (more_error, less_latency) = left, right
            if not (error < more_error and latency > less_latency):
                continue
            price = (latency - less_latency) / (more_error - error)
            best = self._cheapest(_priced(shares, price))
            tries -= 1
            if best is None:
                continue
            point = self._add(best, shares)
            gained = (latency + price * error) - (point[1] + price * point[0])
            if gained > 1e-9 * latency and error < point[0] < more_error:
                gaps += [(left, point), (point, right)]
                gaps.sort(key=lambda gap: gap[1][1] - gap[0][1])  # the most latency to gain first

    def close_in(self, limit: float, most: int) -> None:
        """Sweep again between the fastest placement within the limit and those that raise no
        block's error by more than it leaves, as long as that helps and ``MAX_LOOKS`` times."""
        best = best_within(self.front(), limit)
        for _ in range(MAX_LOOKS):
            if best is None:
                return
            chosen = {key[0]: self._shares[key] for key in best.placement.targets.items()}
            room = limit**2 - math.fsum(chosen.values())
            shares = _untied(_limited(self._shares, chosen, room))
            fastest = self._cheapest(_priced(shares, 0.0))
            if fastest is not None:
                self.fill([best.placement, fastest], shares, most)
            before, best = best, best_within(self.front(), limit)
            if best == before:
                return

    def front(self) -> list[CurvePoint]:
        """The placements that none is both as exact and as fast as, the most exact first."""
        front = []
        fastest = math.inf
        for squared, latency in sorted(self._found):
            if latency < fastest:
                fastest = latency
                front.append(CurvePoint(self._found[squared, latency], math.sqrt(squared)))
        return front

    def _cheapest(self, penalty: Penalties) -> Placement | None:
        return cheapest(self._problem, self._orders, penalty, self._max_stages)

    def _add(self, placement: Placement, shares: Penalties) -> Point:
        """Keep a placement; its squared error by ``shares``, and its latency."""
        latency = placement.predicted_ms or 0.0
        true, seen = (
            math.fsum(given[key] for key in placement.targets.items())
            for given in (self._shares, shares)
        )
        self._found.setdefault((true, latency), placement)
        return seen, latency
