"""Convolutions, plain, transposed, deformable and quantised."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from .core import Compute, Node, Unsupported, lowers
from .linear import EXACT_TERMS, requantized, sum_of
from .sliding import Sliding, pad


@lowers("Conv")
def _conv(node: Node) -> Compute:
    return _convolution(node)


def _convolution(node: Node, weight: int = 1) -> Compute:
    """``compute(x, w, bias)`` for a node whose weight is the input of that index."""
    sliding = _sliding(node, weight)
    groups = int(node.attr("group", 1))
    strides, dilations = sliding.strides, sliding.dilations
    zeros = (0,) * len(strides)
    begins = sliding.begins

    def aligned(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return torch.convolution(x, w, b, strides, begins, dilations, False, zeros, groups)

    def compute(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        x = pad(x, *sliding.pads_of(x.shape[2:], w.shape[2:]))
        return torch.convolution(x, w, b, strides, zeros, dilations, False, zeros, groups)

    return aligned if sliding.symmetric else compute


def _sliding(node: Node, weight: int) -> Sliding:
    known = node.constant(weight)
    sliding = Sliding(node, None if known is None else known.shape[2:])
    if sliding.rank is not None and sliding.rank > 3:
        raise Unsupported(f"{node.type} over {sliding.rank} axes")
    return sliding


@lowers("ConvTranspose")
def _conv_transpose(node: Node) -> Compute:
    sliding = _sliding(node, 1)
    groups = int(node.attr("group", 1))
    strides, dilations, begins = sliding.strides, sliding.dilations, sliding.begins
    zeros = (0,) * len(strides)
    extra = node.ints("output_padding") or zeros
    upper = node.attr("auto_pad", "NOTSET") == "SAME_UPPER"
    same = node.attr("auto_pad", "NOTSET").startswith("SAME")
    wanted = node.ints("output_shape", None)

    def aligned(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return torch.convolution(x, w, b, strides, begins, dilations, True, extra, groups)

    def crops(sizes: Sequence[int], kernel: Sequence[int]) -> Iterator[tuple[int, int]]:
        for axis, size in enumerate(sizes):
            i = axis % len(strides)
            covered = strides[i] * (size - 1) + (kernel[axis] - 1) * dilations[i] + 1
            if wanted is None and not same:
                before = begins[i]
                target = covered + extra[i] - before - sliding.ends[i]
            else:
                target = size * strides[i] if wanted is None else wanted[axis - len(sizes)]
                total = max(0, covered + extra[i] - target)
                before = total // 2 if upper else total - total // 2
            yield before, covered - before - target

    def compute(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        y = torch.convolution(x, w, None, strides, zeros, dilations, True, zeros, groups)
        cut = list(crops(x.shape[2:], w.shape[2:]))
        y = pad(y, [-before for before, _ in cut], [-after for _, after in cut])
        return y if b is None else y + b.view(-1, *[1] * len(cut))

    fits = all(each < max(s, d) for each, s, d in zip(extra, strides, dilations))
    return aligned if sliding.symmetric and fits and wanted is None and not same else compute


# --- quantised ---------------------------------------------------------------------------------


@lowers("ConvInteger", lowered=False)
def _conv_integer(node: Node) -> Compute:
    product = _exact(node, 1)
    node.once(_weight_shifted, 1, 3)

    def compute(
        x: torch.Tensor,
        w: torch.Tensor,
        x_zero: torch.Tensor | None = None,
        w_zero: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return product(_shifted(x, x_zero), _weight_shifted(w, w_zero))

    return compute


@lowers("QLinearConv", lowered=False)
def _qlinear_conv(node: Node) -> Compute:
    product = _exact(node, 3)
    node.once(_weight_shifted, 3, 5)

    def compute(
        x: torch.Tensor,
        x_scale: torch.Tensor,
        x_zero: torch.Tensor,
        w: torch.Tensor,
        w_scale: torch.Tensor,
        w_zero: torch.Tensor | None,
        y_scale: torch.Tensor,
        y_zero: torch.Tensor,
        b: torch.Tensor | None = None,
    ) -> torch.Tensor:
        total = product(_shifted(x, x_zero), _weight_shifted(w, w_zero))
        channels = (-1,) + (1,) * (x.dim() - 2)
        if b is not None:
            total = total + b.view(channels)
        scale = (x_scale * w_scale / y_scale).view(channels)
        return requantized(total, scale, y_zero)

    return compute


def _shifted(x: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """8-bit numbers less the zero point of them all, as float32, which is exact."""
    return x.float() if zero is None else x.float() - zero.float()


def _weight_shifted(w: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """A weight less the zero points of its output channels; what was prepared while linking stays
    as it is."""
    if w.dtype == torch.float32 or zero is None:
        return w.float()
    return w.float() - zero.float().view(-1, *[1] * (w.dim() - 1))


def _exact(node: Node, weight: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A convolution of whole numbers up to 255 in float32, in int32: in parts of the channels that
    float32 adds up exactly."""
    convolve = _convolution(node, weight)
    groups = int(node.attr("group", 1))

    def compute(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        channels, taps = w.shape[1], int(np.prod(w.shape[2:]))
        if taps > EXACT_TERMS:
            x, w = x.double(), w.double()
        if channels * taps <= EXACT_TERMS or taps > EXACT_TERMS:
            return sum_of([convolve(x, w).to(torch.int32)])
        step = EXACT_TERMS // taps
        grouped = x.reshape(x.shape[0], groups, channels, *x.shape[2:])
        parts = zip(torch.split(grouped, step, 2), torch.split(w, step, 1))
        return sum_of(convolve(left.flatten(1, 2), right).to(torch.int32) for left, right in parts)

    return compute


# --- deformable --------------------------------------------------------------------------------


@lowers("DeformConv", lowered=False)
def _deform_conv(node: Node) -> Compute:
    sliding = _sliding(node, 1)
    groups, offset_groups = int(node.attr("group", 1)), int(node.attr("offset_group", 1))

    def compute(
        x: torch.Tensor,
        w: torch.Tensor,
        offset: torch.Tensor,
        b: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        rank, batch = x.dim() - 2, x.shape[0]
        out, taps = offset.shape[2:], int(np.prod(w.shape[2:]))
        shifts = offset.reshape(batch * offset_groups, taps, rank, *out)
        shifts = shifts.to(torch.promote_types(shifts.dtype, torch.float32))
        places = []
        for axis in range(rank):
            i = axis % len(sliding.strides)
            start = torch.arange(out[axis], device=x.device) * sliding.strides[i]
            step = torch.arange(w.shape[2 + axis], device=x.device) * sliding.dilations[i]
            regular = _along(start - sliding.begins[i], axis, rank) + (
                _along(step, axis, rank).expand(w.shape[2:]).reshape(-1, *[1] * rank)
            )
            places.append((shifts[:, :, axis] + regular).flatten(1))
        images = x.reshape(batch * offset_groups, -1, *x.shape[2:])
        sampled = _interpolated(images, places)
        sampled = sampled.view(batch, offset_groups, -1, taps, *out)
        if mask is not None:
            sampled = sampled * mask.view(batch, offset_groups, 1, taps, *out)
        columns = sampled.to(x.dtype).reshape(batch, groups, -1, int(np.prod(out)))
        y = torch.matmul(w.view(groups, w.shape[0] // groups, -1), columns)
        y = y.view(batch, w.shape[0], *out)
        return y if b is None else y + b.view(-1, *[1] * rank)

    return compute


def _interpolated(images: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    """Values of images ``[n, channels, *sizes]`` at points, given by a coordinate an axis
    ``[n, points]``: linear between pixels, zero outside. ``[n, channels, points]``."""
    flat = images.flatten(2)
    total: Any = 0
    below = [torch.floor(place) for place in places]
    above = [place - low for place, low in zip(places, below)]
    for corner in itertools.product((0, 1), repeat=len(places)):
        index: Any = 0
        share: Any = 1
        for axis, side in enumerate(corner):
            size = images.shape[2 + axis]
            at = below[axis] + side
            inside = (at >= 0) & (at < size)
            part = above[axis] if side else 1 - above[axis]
            share = share * torch.where(inside, part, torch.zeros_like(part))
            index = index * size + at.clamp(0, size - 1).long()
        values = flat.gather(2, index.unsqueeze(1).expand(-1, flat.shape[1], -1))
        total = total + values * share.unsqueeze(1)
    return total  # type: ignore[no-any-return]


def _along(values: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """A vector as a tensor of ``rank`` dimensions along one of them."""
    return values.view([-1 if i == axis else 1 for i in range(rank)])


# --- columns -----------------------------------------------------------------------------------


@lowers("Col2Im", since=18, host=(1, 2))
def _col2im(node: Node) -> Compute:
    strides, dilations, pads = node.ints("strides"), node.ints("dilations"), node.ints("pads")

    def compute(x: torch.Tensor, image: Any, block: Any) -> torch.Tensor:
        rank = len(image)
        sizes, kernel = tuple(int(n) for n in image), tuple(int(n) for n in block)
        steps, gaps = strides or (1,) * rank, dilations or (1,) * rank
        begins, ends = pads[:rank] or (0,) * rank, pads[rank:] or (0,) * rank
        if rank == 2 and begins == ends and x.dtype.is_floating_point:
            return functional.fold(x, sizes, kernel, gaps, begins, steps)
        padded = [size + b + e for size, b, e in zip(sizes, begins, ends)]
        where = np.zeros([1] * (2 * rank), np.int64)
        for axis in range(rank):
            windows = (padded[axis] - (kernel[axis] - 1) * gaps[axis] - 1) // steps[axis] + 1
            taps = np.arange(kernel[axis]) * gaps[axis]
            here = taps[:, None] + np.arange(windows) * steps[axis]
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = here.shape
            where = where * padded[axis] + here.reshape(shape)
        index = torch.from_numpy(where.reshape(-1)).to(x.device)
        channels = x.shape[1] // int(np.prod(kernel))
        summed = x.new_zeros(x.shape[0], channels, int(np.prod(padded)))
        summed = summed.index_add(2, index, x.reshape(x.shape[0], channels, -1))
        return pad(
            summed.view(x.shape[0], channels, *padded), [-b for b in begins], [-e for e in ends]
        )

    return compute
