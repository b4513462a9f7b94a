"""To numbers of few bits and back: per tensor, per axis, per block."""

from __future__ import annotations

from typing import Any

import torch

from .casts import casting
from .core import Compute, Node, lowers, torch_dtype
from .widening import UNSIGNED

_HALVES = (torch.float16, torch.bfloat16)


def _dtype(node: Node, name: str) -> torch.dtype | None:
    number = node.attr(name, 0)
    return torch_dtype(number) if number else None


def _spread(node: Node, compute: Compute) -> Compute:
    """``compute`` with scale and zero point brought to a shape that broadcasts with the tensor."""
    axis, block = node.attr("axis", 1), node.attr("block_size", 0)

    def by_axis(x: torch.Tensor, *given: Any) -> Any:
        shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        return compute(x, *[v if v is None else v.reshape(shape) for v in given])

    def by_block(x: torch.Tensor, *given: Any) -> Any:
        at, blocks = axis % x.ndim, given[0].shape[axis]
        if blocks * block == x.shape[at]:
            parts = x.reshape((*x.shape[:at], blocks, block, *x.shape[at + 1 :]))
            given = tuple(v if v is None else v.unsqueeze(at + 1) for v in given)
            return compute(parts, *given).reshape(x.shape)
        each = [v if v is None else v.repeat_interleave(block, at) for v in given]
        return compute(x, *[v if v is None else v.narrow(at, 0, x.shape[at]) for v in each])

    def spread(x: torch.Tensor, scale: torch.Tensor, zero: Any = None) -> Any:
        if scale.numel() == 1 and (scale.ndim < 2 or not block):
            shape = scale.shape if x.ndim >= scale.ndim else ()
            return compute(x, scale.reshape(shape), zero if zero is None else zero.reshape(shape))
        return (by_block if block else by_axis)(x, scale, zero)

    return spread


def _is_zero(node: Node, index: int) -> bool:
    """True if a zero point is known to be zero, which includes a missing one."""
    value = node.constant(index)
    return not node.has_input(index) or (value is not None and not value.any())


@lowers("QuantizeLinear", since=10, lowered=False)
def _quantize_linear(node: Node) -> Compute:
    cast = casting(node)
    precision, output = _dtype(node, "precision"), _dtype(node, "output_dtype")
    no_shift = _is_zero(node, 2)

    def compute(x: torch.Tensor, scale: torch.Tensor, zero: Any = None) -> torch.Tensor:
        dtype = zero.dtype if zero is not None else output or torch.uint8
        working = precision or scale.dtype
        if not working.is_floating_point:
            working = torch.float32
        if x.dtype != working and (x.is_floating_point() or working != torch.float32):
            x = x.to(working)
        y = torch.div(x, scale.to(working))
        if dtype.is_floating_point:
            return cast(y, dtype)
        y = (y.float() if y.dtype in _HALVES else y).round_()
        if not no_shift:
            y.add_(zero.float() if dtype in UNSIGNED else zero)
        limits = torch.iinfo(dtype)
        return y.clamp_(limits.min, limits.max).to(dtype)

    return _spread(node, compute)


@lowers("DequantizeLinear", since=10, lowered=False)
def _dequantize_linear(node: Node) -> Compute:
    output = _dtype(node, "output_dtype")
    no_shift = _is_zero(node, 2)

    def compute(x: torch.Tensor, scale: torch.Tensor, zero: Any = None) -> torch.Tensor:
        dtype = output or scale.dtype
        if scale.dtype != torch.float32:
            scale = scale.float()
        if x.is_floating_point() or x.dtype in UNSIGNED:
            x = x.float()
        y = x * scale if no_shift else (x - zero.float()).mul_(scale)
        return y if y.dtype == dtype else y.to(dtype)

    return _spread(node, compute)


@lowers("DynamicQuantizeLinear", since=11, lowered=False)
def _dynamic_quantize_linear(node: Node) -> Compute:
    def compute(x: torch.Tensor) -> Any:
        low, high = torch.amin(x).clamp(max=0), torch.amax(x).clamp(min=0)
        scale = (high - low) / 255
        scale = scale.masked_fill(scale == 0, 1)
        zero = torch.clamp(torch.round(-low / scale), 0, 255)
        y = torch.clamp(torch.round(x / scale) + zero, 0, 255)
        return y.to(torch.uint8), scale, zero.to(torch.uint8)

    return compute
