"""Unsigned integers of 16, 32 and 64 bits: torch stores them but hardly computes with them.

Their bits are looked at as signed integers of the same size, which costs nothing. Sums, products
and whatever only moves values are right that way (``by_bits``). Order is right once the highest bit
is flipped (``in_order``). Quotients and shifts to the right need more room (``quotient``,
``shifted_right``).
"""

from __future__ import annotations

from typing import Any, Callable

import torch

UNSIGNED: dict[torch.dtype, torch.dtype] = {
    getattr(torch, "uint" + bits): getattr(torch, "int" + bits)
    for bits in ("16", "32", "64")
    if hasattr(torch, "uint" + bits)  # since torch 2.3
}
"""The unsigned types that need this, each with the signed type of its size."""

_ROOMIER = {torch.int16: torch.int32, torch.int32: torch.int64}


def by_bits(fn: Callable[..., Any], at: int = 0) -> Callable[..., Any]:
    """``fn`` for unsigned operands too, where the bits of its result are those of signed ones.

    The type of operand ``at`` decides; tensors of that type come to ``fn`` as signed, and a
    result of the signed type becomes unsigned again.
    """
    return _translated(fn, at, _as_signed, _as_unsigned)


def in_order(fn: Callable[..., Any], at: int = 0) -> Callable[..., Any]:
    """``fn`` for unsigned operands too, where it only compares values and picks among them."""
    return _translated(fn, at, ordered, unordered)


def _translated(
    fn: Callable[..., Any],
    at: int,
    forth: Callable[[torch.Tensor], torch.Tensor],
    back: Callable[[torch.Tensor, torch.dtype], torch.Tensor],
) -> Callable[..., Any]:
    def compute(*args: Any) -> Any:
        dtype = args[at].dtype
        if dtype not in UNSIGNED:
            return fn(*args)
        result = fn(
            *[forth(a) if isinstance(a, torch.Tensor) and a.dtype == dtype else a for a in args]
        )
        return back(result, dtype) if result.dtype == UNSIGNED[dtype] else result

    return compute


def _as_signed(x: torch.Tensor) -> torch.Tensor:
    return x.view(UNSIGNED[x.dtype])


def _as_unsigned(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.view(dtype)


def ordered(x: torch.Tensor) -> torch.Tensor:
    """Signed integers in the order of the unsigned ones in ``x``."""
    signed = UNSIGNED[x.dtype]
    return x.view(signed) ^ torch.iinfo(signed).min


def unordered(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The reverse of ``ordered``."""
    return (x ^ torch.iinfo(x.dtype).min).view(dtype)


def roomy(x: torch.Tensor) -> torch.Tensor:
    """The same integers in a signed type that holds them all; those of uint64 as their bits."""
    signed = UNSIGNED[x.dtype]
    return x.to(_ROOMIER[signed]) if signed in _ROOMIER else x.view(signed)


def quotient(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``x / y`` without its fraction, for unsigned integers of one type."""
    a, b = roomy(x), roomy(y)
    if UNSIGNED[x.dtype] in _ROOMIER:
        return torch.div(a, b, rounding_mode="trunc").to(x.dtype)
    # Half of x fits int64, so its quotient is right but for the last bit. A divisor above 2^63,
    # negative here, goes into x once or never.
    half = (a >> 1) & torch.iinfo(torch.int64).max
    most = torch.div(half, b.clamp(min=1), rounding_mode="trunc") << 1
    once = ordered(x) >= ordered(y)
    rest = (a - most * b) ^ torch.iinfo(torch.int64).min
    most = most + (rest >= ordered(y)).to(torch.int64)
    return torch.where(b < 0, once.to(torch.int64), most).view(x.dtype)


def shifted_right(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``x >> y``, for unsigned integers of one type; 0 where ``y`` is their size or more."""
    a, b = roomy(x), roomy(y)
    if UNSIGNED[x.dtype] in _ROOMIER:
        return (a >> b).to(x.dtype)
    half = (a >> 1) & torch.iinfo(torch.int64).max
    return torch.where(b == 0, a, half >> (b - 1)).view(x.dtype)
