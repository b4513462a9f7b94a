"""Tensors made out of numbers: filled, counted, diagonal."""

from __future__ import annotations

import math
from typing import Any

import torch

from .core import Compute, Node, lowers, to_tensor, torch_dtype


@lowers("ConstantOfShape", since=9, host=(0,), lowered=False)
def _constant_of_shape(node: Node) -> Compute:
    given = node.attr("value", None)
    value = torch.zeros(()) if given is None else to_tensor(given).reshape(())
    value = value.to(node.device)
    # a copy: an output that has one element would be the value itself
    return lambda shape: value.clone().expand(shape.reshape(-1).tolist())


@lowers("Range", since=11, host=(1, 2), lowered=False)
def _range(node: Node) -> Compute:
    first, dtype = node.constant(0), node.constant_dtype(0)

    def compute(start: torch.Tensor, limit: Any, delta: Any) -> torch.Tensor:
        at = first.item() if first is not None else start.item()
        stop, step = limit.item(), delta.item()
        if isinstance(at, int):
            length = max(-((at - stop) // step), 0)
        else:
            length = max(math.ceil((stop - at) / step), 0)
        kind = start.dtype if dtype is None else dtype
        if kind.is_floating_point:
            wide = torch.float64 if kind == torch.float64 else torch.float32
            steps = torch.arange(length, dtype=wide, device=start.device)
            return steps.mul(step).add(at).to(kind)
        return torch.arange(at, at + length * step, step, dtype=kind, device=start.device)

    return compute


@lowers("EyeLike", since=9, lowered=False)
def _eye_like(node: Node) -> Compute:
    number = node.attr("dtype", None)
    given = None if number is None else torch_dtype(int(number))
    k = int(node.attr("k", 0))

    def compute(x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape
        row = torch.arange(rows, device=x.device).unsqueeze(1)
        column = torch.arange(columns, device=x.device) - k
        return (row == column).to(x.dtype if given is None else given)

    return compute
