"""Comparisons, logic, bits, and choices between elements."""

from __future__ import annotations

import operator
from typing import Callable

import torch

from .core import Compute, Node, lowers
from .elementwise import aligned
from .widening import UNSIGNED, by_bits, in_order, shifted_right

_COMPARISONS: dict[str, Callable[..., torch.Tensor]] = {
    "Equal": by_bits(torch.eq),
    "Greater": in_order(torch.gt),
    "GreaterOrEqual": in_order(torch.ge),
    "Less": in_order(torch.lt),
    "LessOrEqual": in_order(torch.le),
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}


@lowers(*_COMPARISONS, since=7)
def _compare(node: Node) -> Compute:
    return _COMPARISONS[node.type]


@lowers(*_COMPARISONS)
def _old_compare(node: Node) -> Compute:
    return aligned(node, _COMPARISONS[node.type])


@lowers("Not")
def _not(node: Node) -> Compute:
    return torch.logical_not


_BITWISE: dict[str, Callable[..., torch.Tensor]] = {
    "BitwiseAnd": by_bits(torch.bitwise_and),
    "BitwiseNot": by_bits(torch.bitwise_not),
    "BitwiseOr": by_bits(torch.bitwise_or),
    "BitwiseXor": by_bits(torch.bitwise_xor),
}


@lowers(*_BITWISE, since=18)
def _bitwise(node: Node) -> Compute:
    return _BITWISE[node.type]


@lowers("BitShift", since=11)
def _bit_shift(node: Node) -> Compute:
    if node.one_of("direction", "", ("LEFT", "RIGHT")) == "LEFT":
        return by_bits(operator.lshift)

    def compute(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return shifted_right(x, y) if x.dtype in UNSIGNED else x >> y

    return compute


@lowers("Where", since=9)
def _where(node: Node) -> Compute:
    return by_bits(torch.where, at=1)


@lowers("IsNaN", since=9)
def _is_nan(node: Node) -> Compute:
    return torch.isnan


@lowers("IsInf", since=10)
def _is_inf(node: Node) -> Compute:
    positive = node.flag("detect_positive", True)
    negative = node.flag("detect_negative", True)

    def compute(x: torch.Tensor) -> torch.Tensor:
        if positive and negative:
            return torch.isinf(x)
        x = x if x.element_size() > 1 else x.float()
        if positive:
            return torch.isposinf(x)
        return torch.isneginf(x) if negative else torch.zeros_like(x, dtype=torch.bool)

    return compute
