"""Tensors of other sizes: resized axis by axis, by torch's own interpolation where that is the
same."""

from __future__ import annotations

import functools
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from .core import Compute, Node, lowers
from .resampling import COORDINATES, NEAREST, Change, Settings, Taps, changes, taps

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@lowers("Upsample")
def _upsample_images(node: Node) -> Compute:
    scales = (1.0, 1.0, float(node.attr("height_scale")), float(node.attr("width_scale")))
    return _fixed(_old_settings(node, "bilinear"), scales)


@lowers("Upsample", since=7)
def _upsample_by_attribute(node: Node) -> Compute:
    return _fixed(_old_settings(node, "linear"), tuple(float(s) for s in node.attr("scales")))


@lowers("Upsample", since=9, host=(1,))
@lowers("Resize", since=10, host=(1,))
def _resize_by_scales(node: Node) -> Compute:
    plan = _planner(_old_settings(node, "linear"))
    return lambda x, scales: plan(tuple(x.shape), tuple(scales.tolist()), (), ())(x)


def _old_settings(node: Node, linear: str) -> Settings:
    mode = node.one_of("mode", "nearest", ("nearest", linear))
    return Settings("nearest" if mode == "nearest" else "linear")


def _fixed(settings: Settings, scales: Sequence[float]) -> Compute:
    plan = _planner(settings)
    return lambda x: plan(tuple(x.shape), scales, (), ())(x)


@lowers("Resize", since=11, host=(1, 2, 3))
def _resize(node: Node) -> Compute:
    settings = Settings(
        node.one_of("mode", "nearest", ("nearest", "linear", "cubic")),
        node.one_of("coordinate_transformation_mode", "half_pixel", COORDINATES),
        node.one_of("nearest_mode", "round_prefer_floor", NEAREST[:4]),
        float(node.attr("cubic_coeff_a", -0.75)),
        node.flag("exclude_outside"),
        float(node.attr("extrapolation_value", 0.0)),
        node.flag("antialias"),
        node.one_of(
            "keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller")
        ),
        node.ints("axes", None),
    )
    plan = _planner(settings)
    crops = settings.coordinates == "tf_crop_and_resize"

    def compute(x: torch.Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
        by_scales = scales is not None and scales.size > 0
        return plan(
            tuple(x.shape),
            tuple(scales.tolist()) if by_scales else (),
            () if by_scales or sizes is None else tuple(sizes.tolist()),
            tuple(roi.tolist()) if crops and roi is not None else (),
        )(x)

    return compute


# --- how a tensor of some shape is resized -------------------------------------------------------


def _planner(settings: Settings) -> Callable[..., _Plan]:
    """Plans by shape, scales, sizes and region, the last ones remembered."""

    @functools.lru_cache(maxsize=16)
    def plan(*target: Any) -> _Plan:
        shape, scales, sizes, roi = target
        return _Plan(len(shape), settings, changes(shape, settings, scales, sizes, roi), shape)

    return plan


class _Step(NamedTuple):
    """How an axis is resized: elements picked from ``low``, or between ``low`` and ``high`` by
    ``weights``, or without those a product with ``weights``, a matrix. Then ``outside`` is filled.
    """

    axis: int
    low: torch.Tensor | None
    high: torch.Tensor | None
    weights: Any
    outside: torch.Tensor | None


class _Plan:
    """The steps for tensors of one shape."""

    def __init__(
        self, rank: int, settings: Settings, found: list[Change], shape: Sequence[int]
    ) -> None:
        # the axis that shrinks most goes first, for the others to have less to do
        self._changes = sorted(found, key=lambda change: change.target / max(change.size, 1))
        self._settings = settings
        self._size = list(shape)
        for change in found:
            self._size[change.axis] = change.target
        self._taps = [] if 0 in self._size else [taps(c, settings) for c in self._changes]
        self._native = self._interpolation(rank) if self._taps else None
        self._made: dict[Any, list[_Step]] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self._changes:
            return x
        if not self._taps:
            return x.new_empty(self._size)
        floats = x.is_floating_point() and x.element_size() > 1
        if floats and self._native is not None:
            result: torch.Tensor = self._native(x)
            return result
        if floats or self._settings.mode == "nearest":
            return self._by_axes(x)
        wide = self._by_axes(x.to(torch.float32 if x.element_size() < 4 else torch.float64))
        if x.is_floating_point():
            return wide.to(x.dtype)
        limits = torch.iinfo(x.dtype)
        rounded: torch.Tensor = wide.round().clamp(limits.min, limits.max)
        return rounded.to(x.dtype)

    def _by_axes(self, x: torch.Tensor) -> torch.Tensor:
        for step in self._steps(x):
            axis = step.axis
            beside = (-1,) + (1,) * (x.ndim - 1 - axis)
            if step.low is None:
                last = x.ndim - 2
                if axis > last:
                    x = x.matmul(step.weights.t())
                else:
                    x = torch.matmul(step.weights, x.transpose(axis, last)).transpose(axis, last)
            else:
                low = x.index_select(axis, step.low)
                if step.high is not None:
                    weights = step.weights.reshape(beside)
                    low = torch.lerp(low, x.index_select(axis, step.high), weights)
                x = low
            if step.outside is not None:
                x = x.masked_fill(step.outside.reshape(beside), self._settings.extrapolation)
        return x

    def _steps(self, x: torch.Tensor) -> list[_Step]:
        """The steps for the device and the type of ``x``."""
        key = x.device, x.dtype
        made = self._made.get(key)
        if made is None:
            made = [_step(c, t, x) for c, t in zip(self._changes, self._taps)]
            if all(type(t) is torch.Tensor for step in made for t in step[1:] if t is not None):
                self._made[key] = made  # and not what is made while a graph is captured
        return made

    def _interpolation(self, rank: int) -> Compute | None:
        """``interpolate`` where it does the same; None where it doesn't."""
        settings, size = self._settings, tuple(self._size[2:])
        if rank not in _LINEAR or any(c.axis < 2 or not c.exact for c in self._changes):
            return None
        if settings.mode == "nearest":
            if any(t.outside is not None for t in self._taps):
                return None
            if all(_by_floor(c, t) for c, t in zip(self._changes, self._taps)):
                return functools.partial(F.interpolate, size=size, mode="nearest")
            return None
        corners = settings.coordinates == "align_corners"
        half = settings.coordinates.startswith(("half_pixel", "pytorch_half_pixel"))
        same = corners or (half and min(c.target for c in self._changes) > 1)
        if settings.mode == "cubic":
            same = same and rank == 4 and settings.cubic_a == -0.75 and not settings.exclude_outside
        if not same or settings.antialias:
            return None
        mode = "bicubic" if settings.mode == "cubic" else _LINEAR[rank]
        return functools.partial(F.interpolate, size=size, mode=mode, align_corners=corners)


def _by_floor(change: Change, found: Taps) -> bool:
    """True if torch's positions are the same: the floor of a product of float32."""
    step = np.float32(change.size) / np.float32(change.target)
    positions = np.floor(np.arange(change.target, dtype=np.float32) * step)
    return bool((positions.clip(0, change.size - 1) == found.positions[:, 0]).all())


def _step(change: Change, found: Taps, x: torch.Tensor) -> _Step:
    def placed(array: np.ndarray | None) -> Any:
        if array is None:
            return None
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(x.device, x.dtype if tensor.is_floating_point() else tensor.dtype)

    positions, weights, outside = found.positions, found.weights, placed(found.outside)
    if weights is None:
        return _Step(change.axis, placed(positions[:, 0]), None, None, outside)
    if weights.shape[1] == 2:
        low, high = placed(positions[:, 0]), placed(positions[:, 1])
        return _Step(change.axis, low, high, placed(weights[:, 1]), outside)
    return _Step(change.axis, None, None, placed(found.matrix(change.size)), outside)
