"""Boxes: the best of them, and what lies within them."""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from .core import Compute, Node, lowers

# --- non-maximum suppression ---------------------------------------------------------------------

_BLOCK = 256
"""So many boxes are compared at once: few enough to stop early, enough for numpy to be fast."""


@lowers("NonMaxSuppression", since=10, host=(0, 1, 2, 3, 4), lowered=False)
def _non_max_suppression(node: Node) -> Compute:
    centered = node.flag("center_point_box")

    def compute(
        boxes: Any, scores: Any, limit: Any = None, overlap: Any = None, least: Any = None
    ) -> torch.Tensor:
        limit = 0 if limit is None else int(limit.reshape(-1)[0])
        overlap = 0.0 if overlap is None else overlap.reshape(-1)[0]
        least = None if least is None else least.reshape(-1)[0]
        found = []
        for b in range(scores.shape[0]):
            corners = _corners(boxes[b], centered)
            for c in range(scores.shape[1]):
                kept = _best(corners, scores[b, c], limit, overlap, least)
                found += [(b, c, box) for box in kept]
        return torch.tensor(found, dtype=torch.int64).reshape(-1, 3).to(node.device)

    return compute


def _corners(boxes: Any, centered: bool) -> Any:
    """Boxes as their least and greatest coordinates and their areas (5, boxes)."""
    if centered:
        x, y, half_w, half_h = boxes[:, 0], boxes[:, 1], boxes[:, 2] / 2, boxes[:, 3] / 2
        low_y, low_x, high_y, high_x = y - half_h, x - half_w, y + half_h, x + half_w
    else:
        y0, x0, y1, x1 = boxes.T
        low_y, high_y = np.minimum(y0, y1), np.maximum(y0, y1)
        low_x, high_x = np.minimum(x0, x1), np.maximum(x0, x1)
    return np.stack([low_y, low_x, high_y, high_x, (high_y - low_y) * (high_x - low_x)])


def _best(boxes: Any, scores: Any, limit: int, overlap: float, least: float | None) -> list[int]:
    """Boxes by falling score, without those that overlap a better one too much."""
    order = np.argsort(-scores, kind="stable")
    if least is not None:
        order = order[scores[order] > least]
    kept: list[int] = []
    for start in range(0, len(order), _BLOCK):
        if len(kept) >= limit:
            break
        block = order[start : start + _BLOCK]
        if kept:
            block = block[~_overlaps(boxes, block, np.array(kept), overlap).any(1)]
        covers = _overlaps(boxes, block, block, overlap)
        free = np.ones(len(block), bool)
        for i, box in enumerate(block.tolist()):
            if free[i] and len(kept) < limit:
                kept.append(box)
                free &= ~covers[i]
    return kept


def _overlaps(boxes: Any, some: Any, others: Any, most: float) -> Any:
    """Which pairs have more of their union in common than ``most``; none without an area."""
    y0, x0, y1, x1, area = boxes[:, some][:, :, None]
    v0, u0, v1, u1, other = boxes[:, others][:, None, :]
    height = np.maximum(np.minimum(y1, v1) - np.maximum(y0, v0), 0)
    width = np.maximum(np.minimum(x1, u1) - np.maximum(x0, u0), 0)
    common = height * width
    union = area + other - common
    valid = (common > 0) & (area > 0) & (other > 0) & (union > 0)
    return valid & (common / np.where(union > 0, union, 1) > most)


# --- regions of interest -------------------------------------------------------------------------


@lowers("RoiAlign", since=10, lowered=False)
def _roi_align(node: Node) -> Compute:
    """As sums over rows of features, one row a pixel: torch adds weighted rows up by itself."""
    size = int(node.attr("output_height", 1)), int(node.attr("output_width", 1))
    samples = int(node.attr("sampling_ratio", 0))
    scale = float(node.attr("spatial_scale", 1.0))
    average = node.one_of("mode", "avg", ("avg", "max")) == "avg"
    default = "half_pixel" if node.version >= 16 else "output_half_pixel"
    choices = ("half_pixel", "output_half_pixel")
    half = node.one_of("coordinate_transformation_mode", default, choices) == "half_pixel"

    def compute(x: torch.Tensor, rois: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        x, rois = x.to(wide), rois.to(wide)
        _, channels, height, width = x.shape
        if len(rois) == 0:
            return x.new_empty((0, channels, *size), dtype=dtype)
        low = rois[:, :2] * scale - (0.5 if half else 0.0)
        extent = rois[:, 2:] * scale - (0.5 if half else 0.0) - low
        extent = extent if half else extent.clamp(min=1.0)
        across = _samples(low[:, 0], extent[:, 0], size[1], samples, width)
        down = _samples(low[:, 1], extent[:, 1], size[0], samples, height)
        # (rois, down, across, samples down, samples across, 2 x 2 pixels)
        pixels = down.pixels[:, :, None, :, None, :, None] * width
        pixels = pixels + across.pixels[:, None, :, None, :, None, :]
        pixels = pixels + images.long().reshape(-1, 1, 1, 1, 1, 1, 1) * (height * width)
        weights = down.weights[:, :, None, :, None, :, None]
        weights = weights * across.weights[:, None, :, None, :, None, :]
        taken = down.taken[:, :, None] & across.taken[:, None, :]
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        if average:
            count = taken.sum((1, 2)).clamp(min=1).reshape(-1, 1, 1, 1, 1, 1, 1)
            bins = pixels.reshape(-1, pixels[0, 0, 0].numel())
            shares = (weights / count).reshape(bins.shape)
            y = F.embedding_bag(bins, rows, mode="sum", per_sample_weights=shares)
        else:
            # the greatest weighted pixel, not the greatest sample: so the reference has it
            values = rows[pixels] * weights.unsqueeze(-1)
            unused = ~taken[:, None, None, :, :, None, None, None]
            y = values.masked_fill(unused, float("-inf")).flatten(3, 6).amax(3)
            y = y.masked_fill(~taken.flatten(1).any(1).reshape(-1, 1, 1, 1), 0.0)
        return y.reshape(-1, *size, channels).permute(0, 3, 1, 2).to(dtype)

    return compute


class _Samples(NamedTuple):
    """Samples of regions along one axis: ``pixels`` and their ``weights`` (regions, bins, samples,
    2), and which samples a region has: ``taken`` (regions, samples)."""

    pixels: torch.Tensor
    weights: torch.Tensor
    taken: torch.Tensor


def _samples(
    low: torch.Tensor, extent: torch.Tensor, bins: int, samples: int, size: int
) -> _Samples:
    step = extent / bins
    counts = torch.full_like(step, samples) if samples > 0 else step.ceil()
    most = samples if samples > 0 else max(int(counts.max().item()), 1)
    sample = torch.arange(most, device=low.device, dtype=low.dtype)
    taken = sample < counts.unsqueeze(1)
    within = (sample + 0.5) / counts.clamp(min=1).unsqueeze(1)
    start = torch.arange(bins, device=low.device, dtype=low.dtype).reshape(1, -1, 1)
    at = low.reshape(-1, 1, 1) + (start + within.unsqueeze(1)) * step.reshape(-1, 1, 1)
    counted = taken.unsqueeze(1) & (at >= -1.0) & (at <= size)
    at = at.clamp(0, size - 1)
    first = at.floor()
    pixel = first.long()
    pixels = torch.stack([pixel, (pixel + 1).clamp(max=size - 1)], -1)
    weights = torch.stack([1 - (at - first), at - first], -1) * counted.unsqueeze(-1)
    return _Samples(pixels, weights, taken)


@lowers("MaxRoiPool", host=(1,))
def _max_roi_pool(node: Node) -> Compute:
    bins = node.ints("pooled_shape")
    scale = float(node.attr("spatial_scale", 1.0))

    def compute(x: torch.Tensor, rois: Any) -> torch.Tensor:
        found = [_pooled(x, box, bins) for box in _pixels(rois, scale)]
        return torch.stack(found) if found else x.new_empty((0, x.shape[1], *bins))

    return compute


def _pixels(rois: Any, scale: float) -> Iterator[tuple[int, ...]]:
    """Image, top, left, height and width of each region, in pixels."""
    for roi in rois.astype(np.float32):
        edges = np.floor(roi[1:] * np.float32(scale) + np.float32(0.5))
        left, top, right, bottom = (int(edge) for edge in edges)
        yield int(roi[0]), top, left, max(bottom - top + 1, 1), max(right - left + 1, 1)


def _pooled(x: torch.Tensor, box: tuple[int, ...], bins: tuple[int, ...]) -> torch.Tensor:
    """The greatest pixels of a region, of which parts may lie outside: there bins are 0."""
    image, top, left, height, width = box
    lowest = float("-inf")
    beyond = (-left, left + width - x.shape[3], -top, top + height - x.shape[2])
    region = F.pad(x[image], beyond, value=lowest)
    pooled = F.adaptive_max_pool2d(region, bins)
    return pooled.masked_fill(pooled == lowest, 0.0) if max(beyond) > 0 else pooled
