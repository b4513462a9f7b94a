"""How close to the expected values outputs have to be.

By the fidelity rule of DIOE the error is ``dioe.precision.relative_l2``; integers, booleans and
strings have to be equal. By the rule of ONNX's own suite every element has to be close.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from dioe.precision import relative_l2
from dioe.precision.candidates import AS_WRITTEN_LIMIT, QUANTISED_LIMIT
from dioe.types import Array, Buffer, Precision

LIMITS: dict[Precision, float] = {
    Precision.FP32: AS_WRITTEN_LIMIT,
    Precision.FP16: 5e-3,
    Precision.BF16: 2e-2,
    Precision.INT8: QUANTISED_LIMIT,
}
"""The largest relative error of a case in a precision: fp32 as architecture.md has it, fp16 and
bf16 5 times the rounding of one value (half of 2^-9 and 2^-7), for chains of a few ops; int8 as all
quantised models."""

BFLOAT16_RTOL = 2**-6
"""Two steps of bfloat16, which ONNX's own runner allows whatever the case says."""

_NARROW_ULPS = 2
"""Where a case itself holds narrower floats than fp32, so many of their epsilons are allowed."""


def host(value: Any) -> Any:
    """A value of a request on the host: arrays as they are, buffers read, sequences through."""
    if isinstance(value, np.ndarray) or value is None:
        return value
    if isinstance(value, list):
        return [host(each) for each in value]
    if isinstance(value, Buffer):
        value.ready.wait()
        return value.numpy()
    return value


def narrowest_epsilon(values: Mapping[str, Any]) -> float:
    """The epsilon of the narrowest float dtype among ``values``, 0 if all are fp32 or wider."""
    found = 0.0
    for value in values.values():
        for each in value if isinstance(value, list) else [value]:
            dtype = getattr(each, "dtype", None)
            if dtype is not None and _is_float(dtype) and dtype.itemsize < 4:
                found = max(found, _epsilon(dtype))
    return found


def _epsilon(dtype: np.dtype[Any]) -> float:
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(info.eps)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)


def limit(
    precision: Precision,
    feeds: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    quantised: bool = False,
) -> float:
    """The largest error that a case may have in ``precision``.

    ``quantised``: the model carries Q/DQ nodes, which runtimes fuse in ways of their own.
    """
    epsilon = narrowest_epsilon(dict(feeds) | dict(expected))
    return max(LIMITS[precision], _NARROW_ULPS * epsilon, QUANTISED_LIMIT if quantised else 0.0)


Compare: TypeAlias = Callable[[Array, Array, str], None]
"""Asserts that an array of numbers is close to the expected one of its dtype and shape; the text
names the place."""


def assert_same(found: Any, expected: Any, most: float, place: str = "output") -> None:
    """Assert that one value is the expected one: its kind, dtype, shape, and contents up to an
    error of ``most``."""
    _assert_value(found, expected, functools.partial(_assert_error, most=most), place)


def assert_outputs(found: Mapping[str, Any], expected: Mapping[str, Any], most: float) -> None:
    """Assert that all outputs are there, in order, and as expected."""
    _assert_outputs(found, expected, functools.partial(_assert_error, most=most))


def assert_outputs_close(
    found: Mapping[str, Any], expected: Mapping[str, Any], rtol: float, atol: float
) -> None:
    """Assert that all outputs are there, in order, of the expected kinds, dtypes and shapes, with
    strings equal, NaN where it is expected, and every number within ``atol + rtol * |expected|``.

    The rule of ``onnx.backend.test.runner``, bfloat16 with two of its steps included.
    """
    _assert_outputs(found, expected, functools.partial(_assert_close, rtol=rtol, atol=atol))


def assert_outputs_drawn(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Assert that all outputs are there, in order, of the expected kinds, dtypes and shapes, and
    that they are zeros and ones. Which of them is left to a random generator."""
    _assert_outputs(found, expected, _assert_drawn)


def _assert_outputs(
    found: Mapping[str, Any], expected: Mapping[str, Any], compare: Compare
) -> None:
    assert list(found) == list(expected), f"outputs are {list(found)}, not {list(expected)}"
    for name, value in expected.items():
        _assert_value(found[name], value, compare, f"output {name!r}")


def _assert_value(found: Any, expected: Any, compare: Compare, place: str) -> None:
    found = host(found)
    if expected is None:
        assert found is None, f"{place} is {type(found).__name__}, expected none"
        return
    if isinstance(expected, list):
        assert isinstance(found, list), f"{place} is {type(found).__name__}, expected a sequence"
        assert len(found) == len(expected), f"{place} has {len(found)} of {len(expected)} elements"
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            _assert_value(one, other, compare, f"{place}[{i}]")
        return
    assert isinstance(found, np.ndarray), f"{place} is {type(found).__name__}, expected an array"
    text = {"O", "U", "S", "T"}
    if expected.dtype.kind in text:
        assert found.dtype.kind in text, f"{place} is {found.dtype}, expected strings"
    else:
        assert found.dtype == expected.dtype, f"{place} is {found.dtype}, not {expected.dtype}"
    assert found.shape == expected.shape, f"{place} has shape {found.shape}, not {expected.shape}"
    compare(found, expected, place)


def _assert_error(found: Array, expected: Array, place: str, *, most: float) -> None:
    error = relative_l2(found, expected)
    allowed = most if _is_float(expected.dtype) or expected.dtype.kind == "c" else 0.0
    assert error <= allowed, (
        f"{place}: error {error:.3g}, at most {allowed:.3g} is allowed\n"
        f"found    {found.reshape(-1)[:8]}\nexpected {expected.reshape(-1)[:8]}"
    )


def _assert_drawn(found: Array, expected: Array, place: str) -> None:
    other = found[(found != 0) & (found != 1)]
    assert other.size == 0, f"{place}: {other.reshape(-1)[0]} was drawn, not 0 or 1"


def _assert_close(found: Array, expected: Array, place: str, *, rtol: float, atol: float) -> None:
    if expected.dtype.kind in "OUST":
        close: Array = np.equal(found.astype(object), expected.astype(object)).astype(bool)
    else:
        if expected.dtype.name == "bfloat16":
            rtol = max(rtol, BFLOAT16_RTOL)
        a, b = _wide(found), _wide(expected)
        with np.errstate(all="ignore"):
            close = np.asarray(np.isclose(a, b, rtol, atol, equal_nan=True))
    if not close.all():
        one, other = found[~close].reshape(-1)[0], expected[~close].reshape(-1)[0]
        wrong = close.size - np.count_nonzero(close)
        raise AssertionError(f"{place}: {wrong} of {close.size} differ, {one} for {other}")


def _wide(array: Array) -> Array:
    """An array of a dtype that numpy computes with: all of ml_dtypes' are exact in float32."""
    return array if array.dtype.isbuiltin == 1 else array.astype(np.float32)
