"""Pools over windows and over whole images."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from .core import Compute, Node, Unsupported, lowers
from .sliding import Sliding, pad

_INFINITY = float("inf")

# torch's own pools by the number of axes; views of windows do for other ranks
_MAX = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
_MAX_AND_INDICES = {
    1: functional.max_pool1d_with_indices,
    2: functional.max_pool2d_with_indices,
    3: functional.max_pool3d_with_indices,
}


def _avg_pool3d(x: torch.Tensor, *how: Any) -> torch.Tensor:
    if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16):  # has no kernel
        return functional.avg_pool3d(x.float(), *how).to(x.dtype)
    return functional.avg_pool3d(x, *how)


_AVERAGE: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: _avg_pool3d,
}


class _Pool(Sliding):
    """The windows of a pool. ``aligned``: as torch can pad and count them by itself."""

    rank: int
    kernel: tuple[int, ...]

    def __init__(self, node: Node) -> None:
        node.attr("kernel_shape")
        super().__init__(node)
        self.ceil = node.flag("ceil_mode")
        self.extents = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))
        self.dilated = set(self.dilations) != {1}
        self.aligned = (
            self.rank <= 3
            and self.symmetric
            and all(2 * begin <= size for begin, size in zip(self.begins, self.kernel))
        )
        self.elements = tuple(range(2 + self.rank, 2 + 2 * self.rank))

    def counts(self, sizes: Sequence[int], begins: Sequence[int], ends: Sequence[int]) -> list[int]:
        """How many windows there are along each axis. With ``ceil_mode`` the last may be partial,
        but starts in the image or before it."""
        found = []
        for axis, (size, begin, end) in enumerate(zip(sizes, begins, ends)):
            stride, room = self.strides[axis], size + begin + end - self.extents[axis]
            count = (-(-room // stride) if self.ceil else room // stride) + 1
            if self.ceil and (count - 1) * stride >= size + begin:
                count -= 1
            found.append(count)
        return found

    def padded(self, x: torch.Tensor, value: float) -> tuple[torch.Tensor, tuple[int, ...]]:
        """``x`` cut and padded to exactly what the windows cover, and its pads before each axis."""
        sizes = x.shape[2:]
        begins, ends = self.pads_of(sizes, self.kernel)
        covered = [
            (count - 1) * stride + extent
            for count, stride, extent in zip(
                self.counts(sizes, begins, ends), self.strides, self.extents
            )
        ]
        rest = [cover - size - begin for cover, size, begin in zip(covered, sizes, begins)]
        return pad(x, begins, rest, value), begins

    def views(self, x: torch.Tensor) -> torch.Tensor:
        """A view of padded ``x`` with the elements of windows as further dimensions at the end."""
        for axis in range(self.rank):
            x = x.unfold(2 + axis, self.extents[axis], self.strides[axis])
            x = x[..., :: self.dilations[axis]]
        return x

    def sums(self, x: torch.Tensor) -> torch.Tensor:
        """The sum over each window of padded ``x``."""
        if self.dilated or self.rank > 3:
            return self.views(x).sum(self.elements)
        return _AVERAGE[self.rank](x, self.kernel, self.strides) * float(np.prod(self.kernel))


# --- maximum -----------------------------------------------------------------------------------


@lowers("MaxPool")
def _max_pool(node: Node) -> Compute:
    pool = _Pool(node)
    if node.has_output(1):
        return _max_and_indices(node, pool)
    rank = min(pool.rank, 4)
    strides, dilations = pool.strides, pool.dilations
    zeros = (0,) * rank

    def windows(x: torch.Tensor) -> torch.Tensor:
        if pool.aligned:
            return _MAX[rank](x, pool.kernel, strides, pool.begins, dilations, pool.ceil)
        x, _ = pool.padded(x, -_INFINITY)
        if rank > 3:
            return pool.views(x).amax(pool.elements)
        return _MAX[rank](x, pool.kernel, strides, zeros, dilations)

    def compute(x: torch.Tensor) -> Any:
        y = windows(x) if x.dtype.is_floating_point else windows(x.float()).to(x.dtype)
        return y if node.n_outputs == 1 else (y, None)

    return compute


def _max_and_indices(node: Node, pool: _Pool) -> Compute:
    if pool.rank > 3:
        raise Unsupported(f"MaxPool with indices over {pool.rank} axes")
    find = _MAX_AND_INDICES[pool.rank]
    zeros = (0,) * pool.rank
    by_column = node.flag("storage_order")

    def compute(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = x if x.dtype.is_floating_point else x.float()
        sizes = x.shape[2:]
        if pool.aligned:
            y, index = find(
                values, pool.kernel, pool.strides, pool.begins, pool.dilations, pool.ceil
            )
            places = [(size, 0) for size in sizes]
        else:
            values, begins = pool.padded(values, -_INFINITY)
            y, index = find(values, pool.kernel, pool.strides, zeros, pool.dilations)
            places = list(zip(values.shape[2:], begins))
        if not pool.aligned or by_column:
            index = _renumbered(index, places, sizes, by_column)
        images = torch.arange(x.shape[0] * x.shape[1], device=x.device)
        first = images.view(x.shape[0], x.shape[1], *[1] * pool.rank) * int(np.prod(sizes))
        return y.to(x.dtype), index + first

    return compute


def _renumbered(
    index: torch.Tensor,
    places: Sequence[tuple[int, int]],
    sizes: Sequence[int],
    by_column: bool,
) -> torch.Tensor:
    """Positions in an image by rows as positions in one of ``sizes``, by rows or by columns.
    ``places`` are the first one's size and its pad before each axis."""
    coordinates = []
    for size, begin in reversed(places):
        coordinates.append(index % size - begin)
        index = torch.div(index, size, rounding_mode="floor")
    axes = list(zip(coordinates, reversed(sizes)))
    total: Any = 0
    for coordinate, size in axes if by_column else reversed(axes):
        total = total * size + coordinate
    return total  # type: ignore[no-any-return]


@lowers("MaxUnpool", since=9, host=(2,))
def _max_unpool(node: Node) -> Compute:
    kernel = node.ints("kernel_shape")
    rank = len(kernel)
    strides = node.ints("strides") or (1,) * rank
    pads = node.ints("pads") or (0,) * 2 * rank

    def compute(x: torch.Tensor, index: torch.Tensor, shape: Any = None) -> torch.Tensor:
        # positions count in the image that a pool of these windows had, whatever shape is asked for
        sizes = [
            (size - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i]
            for i, size in enumerate(x.shape[2:])
        ]
        inferred = [*x.shape[:2], *sizes]
        flat = x.new_zeros(int(np.prod(inferred)))
        y = flat.scatter(0, index.flatten(), x.flatten()).view(inferred)
        if shape is None:
            return y
        return pad(y, (0,) * y.dim(), [int(n) - size for n, size in zip(shape, inferred)])

    return compute


# --- mean and norm -----------------------------------------------------------------------------


@lowers("AveragePool")
def _average_pool(node: Node) -> Compute:
    pool = _Pool(node)
    with_pads = node.flag("count_include_pad")

    def aligned(x: torch.Tensor) -> torch.Tensor:
        average = _AVERAGE[pool.rank]
        return average(x, pool.kernel, pool.strides, pool.begins, pool.ceil, with_pads)

    def compute(x: torch.Tensor) -> torch.Tensor:
        sizes = x.shape[2:]
        begins, ends = pool.pads_of(sizes, pool.kernel)
        sums = pool.sums(pool.padded(x, 0.0)[0])
        shares: Any = 1.0
        for axis, count in enumerate(pool.counts(sizes, begins, ends)):
            low = -begins[axis] if with_pads else 0
            high = sizes[axis] + (ends[axis] if with_pads else 0)
            starts = np.arange(count) * pool.strides[axis] - begins[axis]
            at = starts[:, None] + np.arange(pool.kernel[axis]) * pool.dilations[axis]
            counted = ((at >= low) & (at < high)).sum(1)
            shares = np.multiply.outer(shares, 1 / np.maximum(counted, 1))
        return sums * torch.from_numpy(shares).to(x.device, x.dtype)

    return aligned if pool.aligned and not pool.dilated else compute


@lowers("LpPool")
def _lp_pool(node: Node) -> Compute:
    pool = _Pool(node)
    p = float(node.attr("p", 2))

    def compute(x: torch.Tensor) -> torch.Tensor:
        # powers overflow fp16
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        powers = wide * wide if p == 2 else wide.abs().pow(p)
        sums = pool.sums(pool.padded(powers, 0.0)[0])
        return (sums.sqrt() if p == 2 else sums.pow(1 / p)).to(x.dtype)

    return compute


# --- whole images ------------------------------------------------------------------------------


@lowers("GlobalAveragePool")
def _global_average(node: Node) -> Compute:
    def compute(x: torch.Tensor) -> torch.Tensor:
        return x.mean(tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x

    return compute


@lowers("GlobalMaxPool")
def _global_max(node: Node) -> Compute:
    def compute(x: torch.Tensor) -> torch.Tensor:
        return x.amax(tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x

    return compute


@lowers("GlobalLpPool")
def _global_lp(node: Node) -> Compute:
    p = float(node.attr("p", 2))

    def compute(x: torch.Tensor) -> torch.Tensor:
        if x.dim() <= 2:
            return x.abs()
        norm: torch.Tensor = torch.linalg.vector_norm(x, p, tuple(range(2, x.dim())), keepdim=True)
        return norm

    return compute
