"""The largest and smallest elements, and where they are. Of equal ones the first comes first."""

from __future__ import annotations

from typing import Any, Callable

import torch

from .core import Compute, Node, lowers
from .widening import UNSIGNED, by_bits, ordered, unordered

_ARG = {"ArgMax": torch.argmax, "ArgMin": torch.argmin}


@lowers(*_ARG)
def _arg(node: Node) -> Compute:
    fn: Callable[..., torch.Tensor] = _ARG[node.type]
    axis, keep = node.attr("axis", 0), node.flag("keepdims", True)
    if not node.flag("select_last_index"):
        return _indices(lambda x: fn(x, axis, keep))

    def last(x: torch.Tensor) -> torch.Tensor:
        length = x.shape[axis] if x.ndim else 1
        return length - 1 - fn(x.flip(axis) if x.ndim else x, axis, keep)

    return _indices(last)


def _indices(fn: Compute) -> Compute:
    return lambda x: fn(ordered(x)) if x.dtype in UNSIGNED else fn(x)


@lowers("TopK")
def _top_k_by_attribute(node: Node) -> Compute:
    top, k = _top_k(node), node.attr("k")
    return lambda x: top(x, k)


@lowers("TopK", since=10, host=(1,))
def _top_k_by_input(node: Node) -> Compute:
    top = _top_k(node)
    return lambda x, k: top(x, int(k.reshape(-1)[0]))


_SMALL = 1024
"""Up to so many elements sorting costs no more than making keys (measured on a CPU)."""


def _top_k(node: Node) -> Callable[[torch.Tensor, int], Any]:
    axis, largest = node.attr("axis", -1), node.flag("largest", True)

    def compute(x: torch.Tensor, k: int) -> Any:
        if x.element_size() < 8 and x.numel() > _SMALL and k < x.shape[axis] < 1 << 31:
            keys = _unique_keys(x, axis, largest)
            indices = torch.topk(keys, k, axis, largest)[1]
            return by_bits(torch.gather)(x, axis, indices), indices
        values, indices = _sorted(x, axis, largest)
        if x.ndim:
            values, indices = values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
        return values, indices

    return compute


def _sorted(x: torch.Tensor, axis: int, largest: bool) -> Any:
    if x.dtype not in UNSIGNED:
        return torch.sort(x, dim=axis, descending=largest, stable=True)
    values, indices = torch.sort(ordered(x), dim=axis, descending=largest, stable=True)
    return unordered(values, x.dtype), indices


def _unique_keys(x: torch.Tensor, axis: int, largest: bool) -> torch.Tensor:
    """Integers in the order of ``x``, no two alike: its value above, its index below. Their top is
    unique and many times cheaper than a stable sort."""
    if x.is_floating_point():
        bits = (x.float() + 0.0).view(torch.int32)  # no zeros below zero
        values = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    else:
        values = ordered(x) if x.dtype in UNSIGNED else x
    count = x.shape[axis]
    index = torch.arange(count, device=x.device)
    if largest:
        index = count - 1 - index
    shape = [1] * x.ndim
    shape[axis] = count
    return (values.long() << 32) | index.view(shape)
