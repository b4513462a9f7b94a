"""Comparisons, bits and choices in all types."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(8)
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
COMPARISONS: dict[str, Any] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}


def ints(dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [*INTS, "float32", "float16", "float64"])
@pytest.mark.parametrize("op_type", COMPARISONS)
def test_comparisons(op_type: str, dtype: str) -> None:
    x = ints("int8", 30, 4).astype(dtype) if "float" in dtype else ints(dtype, 30, 4)
    y = np.ascontiguousarray(x[::-1, :1])
    y[:5] = x[:5, :1]
    single.agree(single.run(op_type, [x, y], 16)[0], COMPARISONS[op_type](x, y))


def test_comparisons_with_nan() -> None:
    x = np.asarray([1, np.nan, np.nan], np.float32)
    y = np.asarray([np.nan, 1, np.nan], np.float32)
    for op_type in COMPARISONS:
        single.check(op_type, [x, y], 16)


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor"])
def test_logic(op_type: str) -> None:
    x, y = RNG.random((4, 1)) < 0.5, RNG.random((1, 5)) < 0.5
    single.check(op_type, [x, y], 7)
    single.check("Not", [x], 1)


@pytest.mark.parametrize("dtype", INTS)
def test_bits(dtype: str) -> None:
    x, y = ints(dtype, 20, 3), ints(dtype, 3)
    for op_type in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        single.check(op_type, [x, y], 18)
    single.check("BitwiseNot", [x], 18)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", INTS)
def test_shifts(dtype: str, direction: str) -> None:
    x, size = ints(dtype, 40), np.iinfo(dtype).bits
    y = RNG.integers(0, size + 8, 40).astype(dtype)
    exact = [
        (int(a) << int(b)) % (1 << size) if direction == "LEFT" else int(a) >> int(b)
        for a, b in zip(x, y, strict=True)
    ]
    want = np.asarray([v % (1 << size) for v in exact], f"u{x.itemsize}").view(dtype)
    single.agree(single.run("BitShift", [x, y], 28, {"direction": direction})[0], want)


def test_shifts_by_negative_amounts() -> None:
    x, y = np.asarray([-5, 5], np.int32), np.asarray([-1, -40], np.int32)
    (right,) = single.run("BitShift", [x, y], 28, {"direction": "RIGHT"})
    (left,) = single.run("BitShift", [x, y], 28, {"direction": "LEFT"})
    assert (right.tolist(), left.tolist()) == ([-1, 0], [0, 0])


@pytest.mark.parametrize("dtype", [*INTS, "float32", "bool", "bfloat16"])
def test_where(dtype: str) -> None:
    condition = RNG.random((3, 1, 4)) < 0.5
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x, y = ints("int8", 2, 4).astype(kind), ints("int8", 3, 2, 1).astype(kind)
    single.agree(single.run("Where", [condition, x, y], 16)[0], np.where(condition, x, y))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float8_e5m2"])
def test_special_values(dtype: str) -> None:
    x = np.asarray([0, 1, -np.inf, np.inf, np.nan, -2]).astype(
        getattr(ml_dtypes, dtype) if "8" in dtype else dtype
    )
    wide = x.astype(np.float64)
    single.agree(single.run("IsNaN", [x], 20)[0], np.isnan(wide))
    for positive in (0, 1):
        for negative in (0, 1):
            attributes = {"detect_positive": positive, "detect_negative": negative}
            want = (np.isposinf(wide) & bool(positive)) | (np.isneginf(wide) & bool(negative))
            single.agree(single.run("IsInf", [x], 20, attributes)[0], want)
