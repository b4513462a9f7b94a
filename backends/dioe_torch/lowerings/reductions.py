"""Sums, products, extremes and norms over axes; running sums and products."""

from __future__ import annotations

from typing import Any, Callable

import torch

from .core import Compute, Node, lowers
from .widening import UNSIGNED, by_bits, in_order

Reduce = Callable[[torch.Tensor, "tuple[int, ...]", bool], torch.Tensor]
"""A reduction of a tensor over axes (one at least), dimensions kept or not."""


def _in_float(fn: Reduce) -> Reduce:
    """A reduction whose steps leave the range of its type: halves in float32, integers in
    float64."""

    def reduce(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
        if x.dtype in (torch.float32, torch.float64):
            return fn(x, axes, keep)
        wide = x.float() if x.is_floating_point() else x.double()
        return fn(wide, axes, keep).to(x.dtype)

    return reduce


def _sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)


_SUM: Reduce = by_bits(_sum)


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    if len(axes) == x.ndim and not keep:
        return torch.prod(x, dtype=x.dtype)
    for axis in sorted(axis % x.ndim for axis in axes)[::-1]:
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _extreme(fn: Callable[..., torch.Tensor], sign: int) -> Reduce:
    def reduce(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
        if x.numel() > 0:
            return fn(x, axes, keep)
        if x.is_floating_point():
            nothing: float = sign * float("inf")
        elif x.dtype == torch.bool:
            nothing = sign > 0
        else:
            nothing = torch.iinfo(x.dtype).max if sign > 0 else torch.iinfo(x.dtype).min
        return torch.full_like(torch.sum(x, axes, keep), nothing, dtype=x.dtype)

    return in_order(reduce)


_vector_norm: Callable[..., torch.Tensor] = torch.linalg.vector_norm


def _norm_1(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    if x.is_floating_point():
        return _vector_norm(x, 1, axes, keep)
    return _SUM(x if x.dtype in UNSIGNED else torch.abs(x), axes, keep)


def _norm_2(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return _vector_norm(x, 2, axes, keep)


def _log_sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return torch.log(torch.sum(x, axes, keep))


def _sum_square(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    if x.dtype in (torch.float16, torch.bfloat16):
        return torch.sum(torch.square(x.float()), axes, keep).to(x.dtype)
    return _sum(x * x, axes, keep)


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceL1": _norm_1,
    "ReduceL2": _in_float(_norm_2),
    "ReduceLogSum": _in_float(_log_sum),
    "ReduceLogSumExp": _in_float(torch.logsumexp),
    "ReduceMax": _extreme(torch.amax, -1),
    "ReduceMean": _in_float(torch.mean),
    "ReduceMin": _extreme(torch.amin, 1),
    "ReduceProd": by_bits(_product),
    "ReduceSum": _SUM,
    "ReduceSumSquare": by_bits(_sum_square),
}


@lowers(*_REDUCTIONS)
def _reduce_by_attribute(node: Node) -> Compute:
    return _reduction(node, node.ints("axes", None))


@lowers("ReduceSum", since=13, host=(1,))
@lowers(*[op_type for op_type in _REDUCTIONS if op_type != "ReduceSum"], since=18, host=(1,))
def _reduce_by_input(node: Node) -> Compute:
    return _reduction(node, node.constant_ints(1))


def _reduction(node: Node, known: tuple[int, ...] | None) -> Compute:
    fn, keep = _REDUCTIONS[node.type], node.flag("keepdims", True)
    noop = node.flag("noop_with_empty_axes")
    if known:
        axes = known
        return lambda x, _=None: fn(x, axes, keep)

    def compute(x: torch.Tensor, given: Any = None) -> torch.Tensor:
        axes = () if given is None else tuple(given.reshape(-1).tolist())
        if not axes and noop:  # what isn't part of the reduction is still done
            return fn(x.unsqueeze(-1), (-1,), False)
        return fn(x, axes or tuple(range(x.ndim)), keep)

    return compute


# --- along one axis ----------------------------------------------------------------------------

Scan = Callable[[torch.Tensor, int], torch.Tensor]


@lowers("CumSum", since=11, host=(1,))
def _cum_sum(node: Node) -> Compute:
    return _running(node, lambda x, axis: torch.cumsum(x, axis, dtype=x.dtype), torch.zeros_like)


@lowers("CumProd", since=26, host=(1,))
def _cum_prod(node: Node) -> Compute:
    return _running(node, lambda x, axis: torch.cumprod(x, axis, dtype=x.dtype), torch.ones_like)


def _running(node: Node, scan: Scan, start: Callable[[torch.Tensor], torch.Tensor]) -> Compute:
    exclusive, reverse = node.flag("exclusive"), node.flag("reverse")

    def shifted(x: torch.Tensor, axis: int) -> torch.Tensor:
        length = x.shape[axis]
        if not exclusive or length == 0:
            return scan(x, axis)
        first = start(x.narrow(axis, 0, 1))
        return torch.cat((first, scan(x.narrow(axis, 0, length - 1), axis)), axis)

    def compute(x: torch.Tensor, axes: Any) -> torch.Tensor:
        axis = int(axes.reshape(-1)[0])
        if not reverse:
            return shifted(x, axis)
        return shifted(x.flip(axis), axis).flip(axis)

    return by_bits(compute)
