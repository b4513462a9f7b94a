"""How far outputs are from the reference.

Error of a floating output y against the reference r: ||y - r||2 / max(||r||2, 1e-4 * sqrt(n)).
Integer, boolean and string outputs: the share of elements that differ. Another shape, or a NaN or
Inf where the reference has none, is an infinite error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.types import Array, Buffer, Value

_FLOOR = 1e-4
_LARGEST = 1e140
"""Above this (only float64 reaches it) the squares of a norm could overflow."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The largest error over all outputs, where it is, and a reason where it is infinite."""

    error: float
    output: str = ""
    reason: str = ""

    def worse(self, other: Comparison) -> Comparison:
        """The larger of two."""
        return other if other.error > self.error else self


def relative_l2(value: Array, reference: Array) -> float:
    """Relative L2 error of one tensor (any numeric dtype); the mismatch rate of a non-float one."""
    return _compare_tensor(value, reference).error


def compare(outputs: Mapping[str, Value], reference: Mapping[str, Value]) -> Comparison:
    """The worst error over the outputs of the reference."""
    worst = Comparison(0.0)
    for name, expected in reference.items():
        if name not in outputs:
            return Comparison(math.inf, name, "output is missing")
        found = _compare_value(outputs[name], expected)
        worst = worst.worse(Comparison(found.error, name, found.reason))
    return worst


def untold(references: Sequence[Mapping[str, Value]]) -> tuple[str, ...]:
    """Outputs that tell nothing of accuracy: without elements, or NaN or Inf throughout, in every
    one of these runs. Nothing can differ from them but in shape, so ``compare`` finds no error."""
    names = dict.fromkeys(name for outputs in references for name in outputs)
    return tuple(
        name for name in names if not any(_tells(outputs.get(name)) for outputs in references)
    )


def _tells(value: Any) -> bool:
    """Whether there is an element that an error could be told from; no value is one to compare."""
    if isinstance(value, Buffer) and not isinstance(value, np.ndarray):
        value = value.numpy()
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_tells, value))
    array = np.asarray(value)
    if array.size == 0 or not _is_inexact(array.dtype):
        return array.size > 0
    return bool(np.isfinite(_wide(array)).any())


def _compare_value(value: Any, reference: Any) -> Comparison:
    if isinstance(reference, Buffer) and not isinstance(reference, np.ndarray):
        reference = reference.numpy()
    if isinstance(value, Buffer) and not isinstance(value, np.ndarray):
        value = value.numpy()
    if reference is None or value is None:
        same = reference is None and value is None
        return Comparison(0.0 if same else math.inf, reason="" if same else "one side is empty")
    if isinstance(reference, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(reference):
            return Comparison(math.inf, reason="a sequence of another length")
        worst = Comparison(0.0)
        for left, right in zip(value, reference, strict=True):
            worst = worst.worse(_compare_value(left, right))
        return worst
    if isinstance(reference, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(reference):
            return Comparison(math.inf, reason="a map with other keys")
        return _compare_value([value[k] for k in reference], list(reference.values()))
    if isinstance(value, list | tuple | Mapping):
        return Comparison(math.inf, reason="a sequence or a map where the reference has a tensor")
    return _compare_tensor(np.asarray(value), np.asarray(reference))


def _compare_tensor(value: Array, reference: Array) -> Comparison:
    if value.shape != reference.shape:
        return Comparison(
            math.inf, reason=f"shape {list(value.shape)}, the reference has {list(reference.shape)}"
        )
    if reference.size == 0:
        return Comparison(0.0)
    if not _is_inexact(reference.dtype):
        return Comparison(float(np.mean(value != reference)))
    if value.dtype.kind in "OSU":
        return Comparison(math.inf, reason="strings where the reference has numbers")
    y, r = _wide(value), _wide(reference)
    unusual = ~np.isfinite(r)
    if not np.array_equal(np.isfinite(y), ~unusual):
        broken = int(np.sum(~np.isfinite(y) & ~unusual))
        what = f"{broken} NaN or Inf where the reference has none" if broken else "finite where the"
        return Comparison(math.inf, reason=what if broken else f"{what} reference has NaN or Inf")
    if unusual.any():
        if not np.array_equal(y[unusual], r[unusual], equal_nan=True):
            return Comparison(math.inf, reason="other NaN or Inf than the reference")
        y, r = y[~unusual], r[~unusual]
    if r.size == 0:
        return Comparison(0.0)
    floor = _FLOOR * math.sqrt(r.size)
    peak = max(_peak(y), _peak(r))
    if peak > _LARGEST:
        y, r, floor = y / peak, r / peak, floor / peak
    return Comparison(float(np.linalg.norm(y - r)) / max(float(np.linalg.norm(r)), floor))


def _is_inexact(dtype: np.dtype[Any]) -> bool:
    """True for float and complex dtypes, ml_dtypes' narrow floats among them."""
    if dtype.kind in "fc":
        return True
    return dtype.kind == "V" and "float" in dtype.name


def _wide(array: Array) -> Array:
    flat = array.reshape(-1)
    return flat.astype(np.complex128 if flat.dtype.kind == "c" else np.float64)


def _peak(wide: Array) -> float:
    """The largest magnitude of a real or imaginary part."""
    return float(np.abs(wide.view(np.float64)).max())
