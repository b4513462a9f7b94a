"""Amounts as people read them."""

from __future__ import annotations

from dioe.types import TensorSpec
from dioe_inspect.inspection import Amount, dtype_name

_SI = ("", " k", " M", " G", " T", " P")
_IEC = (" B", " KiB", " MiB", " GiB", " TiB")


def count(value: int) -> str:
    """Three digits and an SI prefix: ``1.23 G``."""
    return _scaled(value, 1000, _SI)


def size(value: int) -> str:
    """Three digits and a binary unit: ``4.5 MiB``."""
    return _scaled(value, 1024, _IEC)


def amount(value: Amount, *, in_bytes: bool = False) -> str:
    """A sum; ``≥`` where parts of it aren't known, ``?`` where nothing is."""
    if value.unknown_ops and not value.known:
        return "?"
    text = size(value.known) if in_bytes else count(value.known)
    return f"≥ {text}" if value.unknown_ops else text


def flop(value: Amount) -> str:
    """A number of operations: ``1.23 GFLOP``."""
    text = amount(value)
    return f"{text} FLOP" if text[-1] in "?0123456789" else f"{text}FLOP"


def milliseconds(value: float) -> str:
    """A time with three digits or so: ``0.0052 ms``, ``12.3 ms``."""
    if value < 0.0095:
        return f"{value:.2g} ms"
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"


def tensor(spec: TensorSpec) -> str:
    """dtype and shape: ``float32[1, 3, h, w]``; ``?`` for a dimension that isn't known."""
    return f"{dtype_name(spec.dtype)}{shape(spec)}"


def shape(spec: TensorSpec) -> str:
    """``[1, 3, h, w]``; ``?`` for a dimension that isn't known, ``[…]`` where none is."""
    if spec.shape is None:
        return "[…]"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in spec.shape)}]"


def bound(declared: TensorSpec, here: TensorSpec) -> str:
    """dtype and shape as declared, and the shape it has here where that is another."""
    text = tensor(declared)
    return text if declared.shape == here.shape else f"{text}, here {shape(here)}"


def _scaled(value: int, base: int, units: tuple[str, ...]) -> str:
    number, i = float(value), 0
    while number >= base and i < len(units) - 1:
        number /= base
        i += 1
    # A number such as 1012 (KiB) has four digits; %g would write it as 1.01e+03.
    text = f"{value}" if i == 0 else f"{number:.0f}" if number >= 100 else f"{number:.3g}"
    return f"{text}{units[i]}"
