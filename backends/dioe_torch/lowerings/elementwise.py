"""Arithmetic and mathematical functions, element by element."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import torch

from .core import Compute, Node, Unsupported, lowers
from .widening import UNSIGNED, by_bits, in_order, quotient, roomy

_UNARY = {
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}


@lowers(*_UNARY)
def _unary(node: Node) -> Compute:
    return _UNARY[node.type]


@lowers("Abs")
def _abs(node: Node) -> Compute:
    return lambda x: x if x.dtype in UNSIGNED else torch.abs(x)


@lowers("Sign", since=9)
def _sign(node: Node) -> Compute:
    return lambda x: (x != 0).to(x.dtype) if x.dtype in UNSIGNED else torch.sign(x)


@lowers("Erf", since=9)
def _erf(node: Node) -> Compute:
    def compute(x: torch.Tensor) -> torch.Tensor:
        if x.is_floating_point():
            return torch.erf(x)
        return torch.erf(x.double()).to(x.dtype)

    return compute


@lowers("Identity")
def _identity(node: Node) -> Compute:
    def compute(x: Any) -> Any:
        return x

    return compute


# --- two operands ------------------------------------------------------------------------------


def _divide(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if x.is_floating_point():
        return torch.div(x, y)
    if x.dtype in UNSIGNED:
        return quotient(x, y)
    if x.dtype in _TRAPPING:
        # the least integer has no negative: the processor ends the process over it
        negated = y == -1
        quotients = torch.div(x, y.masked_fill(negated, 1), rounding_mode="trunc")
        return torch.where(negated, -x, quotients)
    return torch.div(x, y, rounding_mode="trunc")


_TRAPPING = (torch.int32, torch.int64)
_BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "Add": by_bits(torch.add),
    "Div": _divide,
    "Mul": by_bits(torch.mul),
    "Sub": by_bits(torch.sub),
}


@lowers(*_BINARY, since=7)
def _binary(node: Node) -> Compute:
    return _BINARY[node.type]


@lowers(*_BINARY)
def _old_binary(node: Node) -> Compute:
    return aligned(node, _BINARY[node.type])


def aligned(node: Node, fn: Callable[..., torch.Tensor]) -> Compute:
    """``fn`` of two operands as opsets before 7 broadcast: the second one to the first, its
    dimensions beginning at ``axis``."""
    axis = node.attr("axis", None)
    if not node.flag("broadcast"):
        return fn

    def compute(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if y.numel() == 1:
            y = y.reshape(())
        elif axis is not None:
            start = axis + x.ndim if axis < 0 else axis
            y = y.reshape(tuple(y.shape) + (1,) * (x.ndim - start - y.ndim))
        return fn(x, y)

    return compute


def _modulo(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if x.dtype not in UNSIGNED:
        return torch.remainder(x, y)
    if x.dtype == torch.uint64:
        bits = quotient(x, y).view(torch.int64) * roomy(y)
        return (roomy(x) - bits).view(x.dtype)
    return torch.remainder(roomy(x), roomy(y)).to(x.dtype)


def _signed_modulo(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        return _modulo(x, y)
    result = torch.remainder(x, y)
    return torch.where(result == 0, torch.copysign(result, y), result)


def _truncated_modulo(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return _modulo(x, y) if x.dtype in UNSIGNED else torch.fmod(x, y)


@lowers("Mod", since=10)
def _mod(node: Node) -> Compute:
    if node.flag("fmod"):
        return _truncated_modulo
    return _signed_modulo if node.version >= 28 else _modulo


def _power(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if y.dtype in UNSIGNED:
        y = roomy(y)
    if x.is_floating_point():
        return torch.pow(x, y if y.dtype == x.dtype else y.to(x.dtype))
    if y.is_floating_point():
        return torch.pow(x.double(), y.double()).to(x.dtype)
    return torch.pow(x, y).to(x.dtype)


@lowers("Pow", since=7)
def _pow(node: Node) -> Compute:
    exponent = node.constant(1)
    if exponent is None or exponent.ndim:
        return _power
    number = exponent.item()

    def compute(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # torch has shorter ways for squares, roots and the like, if it knows the number
        return torch.pow(x, number) if x.is_floating_point() else _power(x, y)

    return compute


@lowers("Pow")
def _old_pow(node: Node) -> Compute:
    return aligned(node, _power)


# --- any number of operands --------------------------------------------------------------------


def _chained(fn: Callable[..., torch.Tensor]) -> Compute:
    def compute(first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            first = fn(first, other)
        return first

    return compute


_VARIADIC = {
    "Max": in_order(_chained(torch.maximum)),
    "Min": in_order(_chained(torch.minimum)),
    "Sum": _chained(torch.add),
}


@lowers(*_VARIADIC)
def _variadic(node: Node) -> Compute:
    return _VARIADIC[node.type]


@lowers("Mean")
def _mean(node: Node) -> Compute:
    total, count = _VARIADIC["Sum"], node.n_inputs
    return lambda *args: total(*args) / count


# --- clipping ----------------------------------------------------------------------------------


@lowers("Clip")
def _clip_by_attributes(node: Node) -> Compute:
    return _clip_by_numbers(node.attr("min", None), node.attr("max", None))


@lowers("Clip", since=11)
def _clip_by_inputs(node: Node) -> Compute:
    low, high = node.constant(1), node.constant(2)
    given = node.has_input(1), node.has_input(2)
    if given[0] == (low is not None) and given[1] == (high is not None):
        by_numbers = _clip_by_numbers(_number(low), _number(high))
        return lambda x, *limits: (
            _clip_by_tensors(x, *limits) if x.dtype in UNSIGNED else by_numbers(x)
        )
    return _clip_by_tensors


def _number(limit: Any) -> Any:
    if limit is None:
        return None
    if limit.size != 1:
        raise Unsupported("Clip with limits that are no scalars")
    return limit.item()


_IN_EVERY_FLOAT = torch.finfo(torch.float16).max


def _clip_by_numbers(low: Any, high: Any) -> Compute:
    """Limits that are missing are those of the type: even infinity is clipped."""
    if low is not None and high is not None and max(abs(low), abs(high)) <= _IN_EVERY_FLOAT:
        return lambda x: torch.clamp(x, low, high)

    def compute(x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point():
            return x if low is None and high is None else torch.clamp(x, low, high)
        finite = torch.finfo(x.dtype)
        return torch.clamp(
            x,
            finite.min if low is None else _held(low, finite),
            finite.max if high is None else _held(high, finite),
        )

    return compute


def _held(limit: float, finite: torch.finfo) -> float:
    """A limit as a type can hold it; one that is infinite stays so, and lets infinity pass."""
    return limit if math.isinf(limit) else min(max(limit, finite.min), finite.max)


def _clip_by_tensors(x: torch.Tensor, *limits: torch.Tensor | None) -> torch.Tensor:
    kinds: Sequence[Callable[..., torch.Tensor]] = (torch.maximum, torch.minimum)
    dtype = x.dtype
    if dtype.is_floating_point:
        finite = torch.finfo(dtype)
        given = [limit is not None for limit in limits] + [False, False]
        x = torch.clamp(
            x, -math.inf if given[0] else finite.min, math.inf if given[1] else finite.max
        )
    for fn, limit in zip(kinds, limits):
        if limit is not None:
            x = in_order(fn)(x, limit.reshape(()).to(dtype))
    return x
