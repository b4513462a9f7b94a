"""More or less around the edges of a tensor."""

from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from .core import Compute, Node, lowers
from .shapes import normalised

_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@lowers("Pad")
def _pad_by_attribute(node: Node) -> Compute:
    mode = node.one_of("mode", "constant", ("constant", "reflect", "edge"))
    pads = node.ints("pads" if node.version >= 2 else "paddings")
    value = float(node.attr("value", 0.0))
    amounts = _by_axis(pads, None, len(pads) // 2)
    return lambda x: _padded(x, amounts, mode, value)


@lowers("Pad", since=11, host=(1, 2, 3))
def _pad(node: Node) -> Compute:
    modes = ("constant", "reflect", "edge", "wrap")
    mode = node.one_of("mode", "constant", modes if node.version >= 19 else modes[:3])
    known = None if node.has_input(3) else node.constant_ints(1)
    fixed = None if known is None else _by_axis(known, None, len(known) // 2)

    def compute(x: torch.Tensor, pads: Any, value: Any = None, axes: Any = None) -> torch.Tensor:
        amounts = fixed
        if amounts is None:
            chosen = None if axes is None else axes.reshape(-1).tolist()
            amounts = _by_axis(pads.reshape(-1).tolist(), chosen, x.ndim)
        return _padded(x, amounts, mode, 0 if value is None else value.item())

    return compute


def _by_axis(pads: Sequence[int], axes: Sequence[int] | None, rank: int) -> list[tuple[int, int]]:
    """What is to be added before and after each axis."""
    half = len(pads) // 2
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(range(rank) if axes is None else normalised(axes, rank)):
        amounts[axis] = pads[i], pads[half + i]
    return amounts


def _padded(
    x: torch.Tensor, amounts: Sequence[tuple[int, int]], mode: str, value: Any
) -> torch.Tensor:
    if mode == "constant":
        return torch.constant_pad_nd(x, _from_last(amounts), value)
    for axis, (before, after) in enumerate(amounts):  # first all that is to go, then what comes
        if before < 0 or after < 0:
            low = max(-before, 0)
            x = x.narrow(axis, low, x.shape[axis] - low - max(-after, 0))
    amounts = [(max(before, 0), max(after, 0)) for before, after in amounts]
    if _native(x, amounts, mode):
        return F.pad(x, _from_last(amounts[2:]), _MODES[mode])
    for axis, (before, after) in enumerate(amounts):
        if before or after:
            index = torch.arange(-before, x.shape[axis] + after, device=x.device)
            x = x.index_select(axis, _folded(index, x.shape[axis], mode))
    return x


def _from_last(amounts: Sequence[tuple[int, int]]) -> list[int]:
    """As torch has it: last axis first."""
    return [amount for pair in reversed(amounts) for amount in pair]


def _native(x: torch.Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> bool:
    """True where ``F.pad`` has the mode for such a tensor: images in batches, no more than once
    around."""
    if x.ndim not in (3, 4) or not x.is_floating_point() or x.element_size() == 1:
        return False
    if any(amounts[0] + amounts[1]) or 0 in x.shape:
        return False
    if mode == "edge":
        return True
    reach = 1 if mode == "reflect" else 0
    return all(max(pair) <= size - reach for pair, size in zip(amounts[2:], x.shape[2:]))


def _folded(index: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    """Positions beyond the ends as positions within."""
    if mode == "edge":
        return index.clamp(0, size - 1)
    if mode == "wrap":
        return index.remainder(size)
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index) if size > 1 else index


@lowers("CenterCropPad", since=18, host=(1,))
def _center_crop_pad(node: Node) -> Compute:
    axes = node.ints("axes", None)

    def compute(x: torch.Tensor, shape: Any) -> torch.Tensor:
        amounts = [(0, 0)] * x.ndim
        chosen = range(x.ndim) if axes is None else normalised(axes, x.ndim)
        for axis, wanted in zip(chosen, shape.reshape(-1).tolist()):
            missing = wanted - x.shape[axis]
            before = missing // 2 if missing > 0 else -(-missing // 2)
            amounts[axis] = before, missing - before
        return torch.constant_pad_nd(x, _from_last(amounts), 0)

    return compute
