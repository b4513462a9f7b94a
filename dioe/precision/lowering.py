"""Which blocks to lower so that most time is saved within an error limit, each answer verified."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dioe.precision.sensitivity import Evaluate, Sensitivity, lower

Propose = Callable[[float], frozenset[int]]
"""The blocks to lower if their squared errors may add up to so much by the model."""

NARROW = 1.02
"""The search ends between two allowances that differ by less than this factor."""

BEYOND = (1.5, 2.25, 3.375)
"""Allowances past the first refused one that are tried too: errors also cancel out. PP-OCR rec had
0.0135 with 23 of 54 blocks lowered and 0.0083 with 30."""

_STEPS = 64


@dataclass(frozen=True, slots=True)
class Point:
    """A verified choice of blocks: those that keep fp32, and the error. ``saved_ms`` is by the
    gains given."""

    kept: frozenset[int]
    lowered: frozenset[int]
    predicted: float
    measured: float
    accepted: bool
    saved_ms: float


@dataclass(frozen=True, slots=True)
class Curve:
    """All verified choices, most time saved first; ``scale`` is measured over predicted error as it
    was seen last.
    """

    points: tuple[Point, ...]
    scale: float

    @property
    def best(self) -> Point | None:
        """The accepted point that saves most, None if none is accepted."""
        return next((point for point in self.points if point.accepted), None)


def knapsack(gains_ms: Mapping[int, float], sensitivity: Sensitivity) -> Propose:
    """Proposes greedily, by time saved per squared error, passing over what doesn't fit any more.

    ``gains_ms`` is what lowering a block saves; blocks without an entry, or that would lose, keep
    fp32.
    """
    squared = sensitivity.squared_errors

    def worth(block: int) -> float:
        return gains_ms[block] / squared[block] if squared[block] > 0 else math.inf

    usable = [block for block in gains_ms if gains_ms[block] >= 0 and math.isfinite(squared[block])]
    order = sorted(usable, key=lambda block: (-worth(block), squared[block], block))

    def propose(allowed: float) -> frozenset[int]:
        chosen, total = [], 0.0
        for block in order:
            if total + squared[block] <= allowed:
                chosen.append(block)
                total += squared[block]
        return frozenset(chosen)

    return propose


def verified(
    propose: Propose,
    blocks: Sequence[Sequence[str]],
    gains_ms: Mapping[int, float],
    sensitivity: Sensitivity,
    limit: float,
    evaluate: Evaluate,
    *,
    budget: Callable[[], bool],
) -> Curve:
    """Look for the largest allowance whose proposal keeps to ``limit``, each one evaluated.

    ``gains_ms`` is what lowering a block saves, 0 for blocks without an entry.
    The first allowance is the limit itself; the next ones follow from measured over predicted
    error, between the largest accepted and the smallest refused one. Then some are tried
    `BEYOND`. No set of blocks is evaluated twice, none at all once ``budget`` says that nothing is
    left. Raises what ``evaluate`` raises.
    """
    search = _Search(propose, blocks, gains_ms, sensitivity, limit, evaluate, budget)
    refused = search.close_in()
    for factor in BEYOND:
        if math.isfinite(refused):
            search.try_out(refused * factor)
    return search.curve()


@dataclass(slots=True)
class _Search:
    propose: Propose
    blocks: Sequence[Sequence[str]]
    gains_ms: Mapping[int, float]
    sensitivity: Sensitivity
    limit: float
    evaluate: Evaluate
    budget: Callable[[], bool]
    _points: dict[frozenset[int], Point] = field(default_factory=dict)
    _scale: float = 1.0

    def try_out(self, allowed: float) -> Point | None:
        """The point of what is proposed; None for an empty proposal or without any budget."""
        lowered = self.propose(allowed)
        if not lowered or lowered in self._points:
            return self._points.get(lowered)
        if not self.budget():
            return None
        error = self.evaluate(lower(self.blocks, lowered, self.sensitivity.lowered))
        error = math.inf if math.isnan(error) else error
        predicted = self.sensitivity.predict(lowered)
        if 0 < predicted < math.inf and 0 < error < math.inf:
            self._scale = error / predicted
        point = Point(
            kept=frozenset(range(len(self.blocks))) - lowered,
            lowered=lowered,
            predicted=predicted,
            measured=error,
            accepted=error <= self.limit,
            saved_ms=math.fsum(self.gains_ms.get(block, 0.0) for block in lowered),
        )
        self._points[lowered] = point
        return point

    def close_in(self) -> float:
        """Narrow down the largest allowance accepted; returns the smallest one refused."""
        accepted, refused = 0.0, math.inf
        everything = self.propose(math.inf)
        allowed = self.limit**2
        for _ in range(_STEPS):
            lowered = self.propose(allowed)
            point = self.try_out(allowed)
            if lowered and point is None:
                break
            if point is None or point.accepted:
                accepted = max(accepted, allowed)
                if lowered == everything:
                    break
            else:
                refused = min(refused, allowed)
            if refused <= accepted * NARROW:
                break
            allowed = self._next(accepted, refused)
        return refused

    def _next(self, accepted: float, refused: float) -> float:
        """By the scale seen last if that is between the two, else in the middle."""
        wanted = (self.limit / self._scale) ** 2
        if accepted * NARROW < wanted < refused / NARROW:
            return wanted
        if math.isinf(refused):
            return 4 * max(accepted, self.limit**2)
        return math.sqrt(accepted * refused) if accepted > 0 else refused / 4

    def curve(self) -> Curve:
        points = sorted(self._points.values(), key=lambda p: (-p.saved_ms, p.measured))
        return Curve(tuple(points), self._scale)
