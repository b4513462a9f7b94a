"""From one element type to another, by value and by bits.

Torch versions differ in what they make of values that a float8 type hasn't, so these are settled
before the conversion.
"""

from __future__ import annotations

from typing import Callable

import torch

from .core import Compute, Node, Unsupported, lowers, torch_dtype

_FLOAT8 = {
    getattr(torch, name): largest
    for name, largest in (
        ("float8_e4m3fn", 448.0),
        ("float8_e4m3fnuz", 240.0),
        ("float8_e5m2", 57344.0),
        ("float8_e5m2fnuz", 57344.0),
    )
    if hasattr(torch, name)  # since torch 2.1
}
"""The float8 types with their largest values."""

_E4M3FN = getattr(torch, "float8_e4m3fn", None)
_WITHOUT_INF = {getattr(torch, name + "fnuz", None) for name in ("float8_e4m3", "float8_e5m2")}
_E8M0 = getattr(torch, "float8_e8m0fnu", None)
_ONLY_STORED = {*_FLOAT8, *([_E8M0] if _E8M0 is not None else [])}

Casting = Callable[[torch.Tensor, torch.dtype], torch.Tensor]


@lowers("Cast", lowered=False)
def _cast(node: Node) -> Compute:
    dtype = torch_dtype(node.attr("to"))
    if dtype in _ONLY_STORED:
        cast = casting(node)
        return lambda x: cast(x, dtype)
    return lambda x: x.to(dtype)


@lowers("CastLike", since=15, lowered=False)
def _cast_like(node: Node) -> Compute:
    cast = casting(node)
    return lambda x, like: cast(x, like.dtype)


@lowers("BitCast", since=26, lowered=False)
def _bit_cast(node: Node) -> Compute:
    dtype = torch_dtype(node.attr("to"))
    return lambda x: x.view(dtype)


def casting(node: Node) -> Casting:
    """A conversion by the rules of ``Cast``, with the node's ``saturate`` and ``round_mode``."""
    saturate = node.flag("saturate", True)
    rounding = node.one_of("round_mode", "up", ("up", "down", "nearest"))
    nan_from_inf = node.version < 24

    def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if dtype not in _ONLY_STORED:
            return x.to(dtype)
        if dtype == _E8M0:
            return _to_e8m0(x, saturate, rounding)
        x = x if x.is_floating_point() and x.element_size() > 1 else x.float()
        if not saturate:
            return _overflowing(x, dtype)
        largest = _FLOAT8[dtype]
        clamped = torch.clamp(x, -largest, largest)
        if nan_from_inf and dtype in _WITHOUT_INF:
            clamped = clamped.masked_fill(torch.isinf(x), float("nan"))
        return clamped.to(dtype)

    return cast


def _overflowing(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype == _E4M3FN:
        # 464 is half way to the next power's 480, which would be NaN's bits; the even one is 448
        nan = torch.copysign(torch.full_like(x, float("nan")), x)
        x = torch.where(x.abs() > 464, nan, x)
    return x.to(dtype)


def _to_e8m0(x: torch.Tensor, saturate: bool, rounding: str) -> torch.Tensor:
    """Powers of two, kept as float32's exponent; the sign is lost."""
    bits = x.float().view(torch.int32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    # the smallest power is no normal float32: the middle of its step is that power itself
    smallest = (exponent == 0).int()
    if rounding == "up":
        exponent = exponent + (fraction > smallest * 0x400000).int()
    elif rounding == "nearest":
        exponent = exponent + (fraction >= 0x400000 + smallest).int()
    if saturate:
        exponent = exponent.clamp(max=0xFE)
    elif rounding == "nearest":
        exponent = exponent.masked_fill(x == 0, 0xFF)
    exponent = exponent.clamp(max=0xFF).masked_fill(torch.isnan(x), 0xFF)
    if _E8M0 is None:
        raise Unsupported("torch has no float8e8m0 tensors")
    return exponent.to(torch.uint8).view(_E8M0)
