"""Buckets of input shapes, and what was measured in some says about others. Pure.

The choice of a plan is made once for a bucket: every open dimension rounded up to a grid whose
steps are a factor of the square root of 2, sizes up to 8 exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dioe.profiling.interpolate import interpolate
from dioe.types import TensorSpec

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Bucket: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]

EXACT_UP_TO = 8
"""Small sizes (batches, channels) change what is fastest from one to the next."""

NEAR = 2.0
"""Measured shapes stand for others no dimension of which differs by more than this factor."""

CLEAR_MARGIN = 1.3
"""One choice is clearly ahead of another if it is this many times faster. Costs compared so were
measured in different surroundings: ONNX Runtime alone gains 10 to 30 % by spinning
(docs/shapes.md)."""

OPEN = "open shapes"
"""Name of the choice to leave a shape on the variant that takes all shapes."""

OPEN_MARGIN = 1.02
"""An executable for exactly one shape has to gain more than this to be worth its memory."""


def rounded(size: int) -> int:
    """``size`` rounded up to the grid of buckets."""
    if size <= EXACT_UP_TO:
        return size
    low = EXACT_UP_TO << (((size - 1) // EXACT_UP_TO).bit_length() - 1)
    middle = math.isqrt(2 * low * low) + 1  # low times the square root of 2, rounded up
    return middle if size <= middle else 2 * low


def bucket_of(inputs: Sequence[TensorSpec], shapes: Shapes) -> Bucket:
    """The bucket of these shapes: dimensions that the model leaves open rounded, others as given.

    ``shapes`` has the inputs that are tensors; those of unknown rank are open in every dimension.
    """
    declared = {spec.name: spec.shape for spec in inputs}
    return tuple(
        (name, tuple(_rounded_dim(declared.get(name), axis, n) for axis, n in enumerate(shape)))
        for name, shape in sorted(shapes.items())
    )


def _rounded_dim(declared: Sequence[object] | None, axis: int, size: int) -> int:
    fixed = declared is not None and axis < len(declared) and isinstance(declared[axis], int)
    return size if fixed else rounded(size)


def work_of(shapes: Shapes) -> float:
    """Elements of all inputs, at least 1: what costs are interpolated over.

    Where one dimension varies, or several as one picture's sides do, the time follows some power
    of this, and interpolation on logarithmic axes is right for any power.
    """
    return float(max(1, sum(math.prod(shape) for shape in shapes.values())))


def is_near(one: Shapes, other: Shapes) -> bool:
    """True if the ranks are equal and no dimension differs by more than the factor ``NEAR``."""
    return one.keys() == other.keys() and all(
        len(one[name]) == len(other[name])
        and all(max(a, b) <= NEAR * min(a, b) for a, b in zip(one[name], other[name], strict=True))
        for name in one
    )


@dataclass(frozen=True, slots=True)
class Point:
    """Costs measured at certain shapes, in ms by choice: infinite where it can't be used."""

    shapes: Shapes
    costs: Mapping[str, float]

    @property
    def work(self) -> float:
        """See ``work_of``."""
        return work_of(self.shapes)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Choices, the cheapest first, with their costs in ms; None where nothing tells them."""

    costs: tuple[tuple[str, float | None], ...]
    source: str
    """What the costs rest on, in words."""


def rank(costs: Mapping[str, float], source: str) -> Ranking:
    """What can be used, in the order of its costs; ``OPEN`` first where nothing gains enough."""
    usable = {name: ms for name, ms in costs.items() if math.isfinite(ms)}

    def order(name: str) -> float:
        return usable[name] / (OPEN_MARGIN if name == OPEN else 1.0)

    return Ranking(tuple((name, usable[name]) for name in sorted(usable, key=order)), source)


def predict(points: Iterable[Point], shapes: Shapes, names: Sequence[str]) -> Ranking | None:
    """A ranking from costs interpolated between the measured shapes next to ``shapes``.

    None unless there is a near point with less work and one with more (or one with as much), at
    which all the ``names`` were measured, and the same one is clearly ahead at both and between.
    """
    work = work_of(shapes)
    near = [point for point in points if is_near(point.shapes, shapes)]
    below = max((p for p in near if p.work <= work), key=lambda p: p.work, default=None)
    above = min((p for p in near if p.work >= work), key=lambda p: p.work, default=None)
    if below is None or above is None:
        return None
    ends = (below, above)
    if not all(name in end.costs for end in ends for name in names):
        return None
    costs = {name: between(ends, name, work) for name in (*names, OPEN)}
    ahead = {_clearly_ahead(each, names) for each in (below.costs, above.costs, costs)}
    if len(ahead) > 1 or None in ahead:
        return None
    ends_in_words = f"{in_words(below.shapes)} and {in_words(above.shapes)}"
    return rank(costs, f"costs interpolated between {ends_in_words}")


def between(points: Sequence[Point], name: str, work: float) -> float:
    """The cost of a choice for this much work; infinite unless all points have one."""
    costs = [(point.work, point.costs.get(name, math.inf)) for point in points]
    if not costs or not all(math.isfinite(ms) for _, ms in costs):
        return math.inf
    return interpolate(costs, work)


def nearest(points: Sequence[Point], shapes: Shapes) -> Point:
    """The measured shapes that are most like these: by their dimensions, then by their work."""

    def distance(point: Point) -> tuple[bool, float]:
        return not is_near(point.shapes, shapes), abs(math.log(point.work / work_of(shapes)))

    return min(points, key=distance)


def _clearly_ahead(costs: Mapping[str, float], names: Sequence[str]) -> str | None:
    order = sorted((costs[name], name) for name in names)
    if not math.isfinite(order[0][0]):
        return None
    clear = len(order) == 1 or order[1][0] >= CLEAR_MARGIN * order[0][0]
    return order[0][1] if clear else None


def in_words(shapes: Shapes) -> str:
    """Shapes for people: ``x 1x3x640x640``."""
    return ", ".join(
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items()
    )
