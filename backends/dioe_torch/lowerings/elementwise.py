"""Arithmetic, comparisons, logic and casts, element by element."""

from __future__ import annotations

from typing import Any

import torch

from .core import Compute, Node, lowers

_UNARY = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}


@lowers(*_UNARY)
def _unary(node: Node) -> Compute:
    return _UNARY[node.type]


@lowers("Add", since=7)
def _add(node: Node) -> Compute:
    return torch.add


@lowers("Mul", since=7)
def _mul(node: Node) -> Compute:
    return torch.mul


@lowers("Identity")
def _identity(node: Node) -> Compute:
    def compute(x: Any) -> Any:
        return x

    return compute
