"""Where each element of a resized axis comes from: positions and weights, as numpy has them.

Follows the ONNX text of Resize-19; sizes are computed in float32, as shape inference does.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Sequence

import numpy as np

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
"""``simple`` is what Resize-10 and Upsample do: up from the floor, down from the ceiling."""


class Settings(NamedTuple):
    """The attributes of a Resize."""

    mode: str
    coordinates: str = "asymmetric"
    nearest: str = "simple"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    antialias: bool = False
    policy: str = "stretch"
    axes: tuple[int, ...] | None = None


class Change(NamedTuple):
    """An axis that is resized: from ``size`` to ``target`` elements, by ``scale``, which may not be
    their exact quotient; ``start`` and ``end`` are the part of it that is taken."""

    axis: int
    size: int
    target: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def exact(self) -> bool:
        """True if the scale is the quotient of the sizes."""
        return math.isclose(self.scale * self.size, self.target, rel_tol=1e-6)


class Taps(NamedTuple):
    """What makes the elements of a resized axis: ``positions`` (target, taps) within the axis,
    their ``weights`` (None for 1), and which elements are ``outside`` (None for none)."""

    positions: np.ndarray
    weights: np.ndarray | None
    outside: np.ndarray | None

    def matrix(self, size: int) -> np.ndarray:
        """The weights as a matrix (target, size)."""
        assert self.weights is not None
        matrix = np.zeros((len(self.positions), size))
        rows = np.arange(len(self.positions))[:, None]
        np.add.at(matrix, (rows, self.positions), self.weights)
        return matrix


def changes(
    shape: Sequence[int],
    settings: Settings,
    scales: Sequence[float],
    sizes: Sequence[int],
    roi: Sequence[float],
) -> list[Change]:
    """The axes of a tensor that are resized. ``scales`` or ``sizes`` are empty."""
    rank = len(shape)
    axes = settings.axes
    chosen = list(range(rank)) if axes is None else [a + rank if a < 0 else a for a in axes]
    found_scales = [float(s) for s in scales]
    if not scales:
        found_scales = [target / shape[a] if shape[a] else 1.0 for a, target in zip(chosen, sizes)]
        targets = [int(target) for target in sizes]
        if settings.policy != "stretch":
            pick = min if settings.policy == "not_larger" else max
            found_scales = [pick(found_scales)] * len(chosen)
            targets = [int(found_scales[0] * shape[a] + 0.5) for a in chosen]
    else:
        targets = [int(np.float32(s) * np.float32(shape[a])) for a, s in zip(chosen, scales)]
    if not len(chosen) == len(found_scales) == len(targets):
        raise ValueError(f"{len(found_scales)} scales or sizes for {len(chosen)} axes")
    crops = settings.coordinates == "tf_crop_and_resize"
    result = []
    for i, axis in enumerate(chosen):
        start, end = (float(roi[i]), float(roi[len(chosen) + i])) if crops else (0.0, 1.0)
        change = Change(axis, shape[axis], targets[i], found_scales[i], start, end)
        kept = change.size == change.target and math.isclose(change.scale, 1.0)
        if not (kept and math.isclose(start, 0.0) and math.isclose(end, 1.0)):
            result.append(change)
    return result


def taps(change: Change, settings: Settings) -> Taps:
    """What makes the elements of a resized axis."""
    x = _coordinates(change, settings.coordinates)
    outside = None
    if settings.coordinates == "tf_crop_and_resize":
        outside = (x < 0) | (x > change.size - 1)
        outside = outside if outside.any() else None
    last = change.size - 1
    if settings.mode == "nearest":
        found = _nearest(x, settings.nearest, change.scale)
        return Taps(found.clip(0, last).astype(np.int64)[:, None], None, outside)
    shrunk = min(change.scale, 1.0) if settings.antialias else 1.0
    reach = (1 if settings.mode == "linear" else 2) / shrunk
    first = np.floor(x - reach).astype(np.int64) + 1
    positions = first[:, None] + np.arange(math.ceil(2 * reach))
    distance = np.abs(positions - x[:, None]) * shrunk
    if settings.mode == "linear":
        weights: Any = np.clip(1 - distance, 0, 1)
    else:
        weights = _cubic(distance, settings.cubic_a)
    if settings.exclude_outside:
        weights = np.where((positions < 0) | (positions > last), 0.0, weights)
    if settings.exclude_outside or settings.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    return Taps(positions.clip(0, last), weights, outside)


def _coordinates(change: Change, kind: str) -> np.ndarray:
    """Where the elements lie on the axis they come from."""
    x = np.arange(change.target, dtype=np.float64)
    size, scale = change.size, change.scale
    target = scale * size
    if kind == "asymmetric":
        return x / scale
    if kind == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale
    if kind == "align_corners":
        return x * (size - 1) / (target - 1) if change.target > 1 else x
    if kind == "tf_crop_and_resize":
        if change.target == 1:
            return x + 0.5 * (change.start + change.end) * (size - 1)
        part = change.end - change.start
        return change.start * (size - 1) + x * part * (size - 1) / (target - 1)
    if kind == "pytorch_half_pixel" and change.target == 1:
        return x
    symmetric = kind == "half_pixel_symmetric"
    offset = size / 2 * (1 - change.target / target) if symmetric else 0.0
    return offset + (x + 0.5) / scale - 0.5


def _nearest(x: np.ndarray, kind: str, scale: float) -> np.ndarray:
    if kind == "round_prefer_floor":
        found = np.ceil(x - 0.5)
    elif kind == "round_prefer_ceil":
        found = np.floor(x + 0.5)
    elif kind == "ceil" or (kind == "simple" and scale < 1):
        found = np.ceil(x)
    else:
        found = np.floor(x)
    return found


def _cubic(d: np.ndarray, a: float) -> Any:
    """Keys' kernel (IEEE TASSP 29, 1981), which the ONNX text refers to."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
