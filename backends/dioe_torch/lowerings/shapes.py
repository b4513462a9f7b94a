"""The same elements under another shape or in another order, and shapes themselves."""

from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from .core import Compute, Node, Unsupported, lowers


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def normalised(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front; raises ValueError for one beyond the rank or given twice."""
    found = [axis + rank if axis < 0 else axis for axis in axes]
    if any(not 0 <= axis < rank for axis in found) or len(set(found)) < len(found):
        raise ValueError(f"axes {tuple(axes)} of a tensor of rank {rank}")
    return found


# --- another shape -------------------------------------------------------------------------------


def _reshaping(shape: Sequence[int], allow_zero: bool) -> Compute:
    """Where ``shape`` is known; a 0 stands for the size of that axis unless ``allow_zero``."""
    copied = () if allow_zero else tuple(i for i, size in enumerate(shape) if size == 0)
    if not copied:
        sizes = tuple(shape)
        return lambda x: x.reshape(sizes)

    def compute(x: torch.Tensor) -> torch.Tensor:
        sizes = list(shape)
        for i in copied:
            sizes[i] = x.shape[i]
        if -1 in sizes and x.numel() == 0:  # torch infers no size where there is nothing to divide
            known = _product([size for size in sizes if size >= 0])
            sizes[sizes.index(-1)] = 0 if known == 0 else x.numel() // known
        return x.reshape(sizes)

    return compute


@lowers("Reshape")
def _reshape_by_attribute(node: Node) -> Compute:
    return _reshaping(node.ints("shape"), False)


@lowers("Reshape", since=5, host=(1,))
def _reshape(node: Node) -> Compute:
    allow_zero = node.flag("allowzero")
    known = node.constant_ints(1)
    if known is not None:
        reshaping = _reshaping(known, allow_zero)
        return lambda x, shape: reshaping(x)
    return lambda x, shape: _reshaping(shape.tolist(), allow_zero)(x)


@lowers("Flatten")
def _flatten(node: Node) -> Compute:
    axis = int(node.attr("axis", 1))

    def compute(x: torch.Tensor) -> torch.Tensor:
        shape = x.shape
        at = axis + len(shape) if axis < 0 else axis
        return x.reshape(_product(shape[:at]), _product(shape[at:]))

    return compute


def _squeezed(x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    for axis in sorted(normalised(axes, x.ndim), reverse=True):
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} of {tuple(x.shape)} is no 1 to squeeze")
        x = x.squeeze(axis)
    return x


def _unsqueezed(x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    if len(axes) == 1:
        return x.unsqueeze(axes[0])
    for axis in sorted(normalised(axes, x.ndim + len(axes))):
        x = x.unsqueeze(axis)
    return x


_BY_AXES = {"Squeeze": _squeezed, "Unsqueeze": _unsqueezed}


@lowers("Squeeze", "Unsqueeze")
def _axes_by_attribute(node: Node) -> Compute:
    change = _BY_AXES[node.type]
    axes = node.ints("axes", None)
    if axes is None:
        return torch.squeeze
    return lambda x: change(x, axes)


@lowers("Squeeze", "Unsqueeze", since=13, host=(1,))
def _axes_by_input(node: Node) -> Compute:
    change = _BY_AXES[node.type]
    if not node.has_input(1):
        return lambda x, axes=None: x.squeeze()
    known = node.constant_ints(1)
    if known is not None:
        return lambda x, axes: change(x, known)
    return lambda x, axes: change(x, axes.reshape(-1).tolist())


@lowers("Transpose")
def _transpose(node: Node) -> Compute:
    perm = node.ints("perm", None)
    if perm is None:
        return lambda x: x.permute(tuple(range(x.ndim - 1, -1, -1)))
    return lambda x: x.permute(perm)


# --- shapes --------------------------------------------------------------------------------------


@lowers("Shape", lowered=False)
def _shape(node: Node) -> Compute:
    part = slice(node.attr("start", None), node.attr("end", None))
    return lambda x: torch.tensor(tuple(x.shape)[part], dtype=torch.int64)


@lowers("Size", lowered=False)
def _size(node: Node) -> Compute:
    return lambda x: torch.tensor(x.numel())


# --- more or fewer of the same elements ----------------------------------------------------------


@lowers("Expand", since=8, host=(1,))
def _expand(node: Node) -> Compute:
    def expanding(shape: Sequence[int]) -> Compute:
        kept = tuple(-1 if size == 1 else size for size in shape)
        rank = len(shape)

        def compute(x: torch.Tensor, _: Any = None) -> torch.Tensor:
            new = rank - x.ndim
            if new > 0:
                return x.expand(*shape[:new], *kept[new:])
            return x.expand(*x.shape[:-new], *kept) if new else x.expand(kept)

        return compute

    known = node.constant_ints(1)
    if known is not None:
        return expanding(known)
    return lambda x, shape: expanding(shape.tolist())(x)


@lowers("Tile", host=(1, 2))
def _tile_an_axis(node: Node) -> Compute:
    def compute(x: torch.Tensor, tiles: Any, axis: Any) -> torch.Tensor:
        repeats = [1] * x.ndim
        repeats[int(axis.reshape(()))] = int(tiles.reshape(()))
        return x.repeat(repeats)

    return compute


@lowers("Tile", since=6, host=(1,))
def _tile(node: Node) -> Compute:
    return lambda x, repeats: x.repeat(repeats.tolist())


@lowers("Concat")
def _concat(node: Node) -> Compute:
    axis = int(node.attr("axis", 1) if node.version < 4 else node.attr("axis"))
    return lambda *parts: torch.cat(parts, axis)


@lowers("Split", host=(1,))
def _split(node: Node) -> Compute:
    axis, n = int(node.attr("axis", 0)), node.n_outputs
    by_input = node.has_input(1) and (node.version < 2 or node.version >= 13)
    sizes = node.ints("split", None) if node.version < 13 else None
    if by_input:
        known = node.constant(1)
        sizes = None if known is None else tuple(int(size) for size in known.reshape(-1))
    if node.attr("num_outputs", n) != n:
        raise Unsupported(f"Split into {node.attr('num_outputs')} with {n} outputs")

    def compute(x: torch.Tensor, split: Any = None) -> Any:
        if sizes is not None:
            parts = x.split_with_sizes(sizes, axis)
        elif by_input:
            parts = x.split_with_sizes([int(size) for size in split.reshape(-1)], axis)
        else:
            parts = x.split_with_sizes(_shares(x.shape[axis], n), axis)
        if len(parts) != n:
            raise ValueError(f"{len(parts)} parts for {n} outputs")
        return parts if n != 1 else parts[0]

    return compute


def _shares(size: int, n: int) -> list[int]:
    """Equal parts; the last takes what is left."""
    share = -(-size // n)
    return [max(0, min(share, size - i * share)) for i in range(n)]


# --- blocks --------------------------------------------------------------------------------------


@lowers("DepthToSpace")
def _depth_to_space(node: Node) -> Compute:
    block = int(node.attr("blocksize"))
    mode = node.one_of("mode", "DCR", ("DCR", "CRD"))

    def by_depth(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        c //= block * block
        if mode == "DCR":
            blocks = x.reshape(n, block, block, c, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, c, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(n, c, h * block, w * block)

    def compute(x: torch.Tensor) -> torch.Tensor:
        if mode == "CRD" and x.is_floating_point() and x.element_size() > 1:
            return F.pixel_shuffle(x, block)
        return by_depth(x)

    return compute


@lowers("SpaceToDepth")
def _space_to_depth(node: Node) -> Compute:
    block = int(node.attr("blocksize"))
    by_depth = node.one_of("mode", "DCR", ("DCR", "CRD")) == "DCR"
    order = (0, 3, 5, 1, 2, 4) if by_depth else (0, 1, 3, 5, 2, 4)

    def compute(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // block, block, w // block, block).permute(order)
        return blocks.reshape(n, c * block * block, h // block, w // block)

    return compute
