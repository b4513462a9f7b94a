"""Arithmetic against ONNX Runtime and numpy: types, broadcasting, edges of ranges."""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.types import Array
from tests.backend.lowerings import single

FUNCTIONS = ["Abs", "Asinh", "Atan", "Ceil", "Cos", "Cosh", "Exp", "Floor", "Sign", "Sin", "Sinh"]
FUNCTIONS += ["Tan", "Tanh", "Erf", "Neg", "Reciprocal", "Round"]
RNG = np.random.default_rng(5)
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def floats(*shape: int, low: float = -3, high: float = 3) -> Array:
    return RNG.uniform(low, high, shape).astype(np.float32)


def ints(dtype: str, *shape: int, low: int | None = None) -> Array:
    info = np.iinfo(dtype)
    return RNG.integers(info.min if low is None else low, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("op_type", ["Acosh"])
def test_functions_defined_above_one(op_type: str) -> None:
    single.check(op_type, [floats(3, 4, low=1)], 9)


@pytest.mark.parametrize("op_type", ["Acos", "Asin", "Atanh"])
def test_functions_defined_near_zero(op_type: str) -> None:
    single.check(op_type, [floats(3, 4, low=-0.99, high=0.99)], 9)


@pytest.mark.parametrize("op_type", FUNCTIONS)
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7)])
def test_functions(op_type: str, shape: tuple[int, ...]) -> None:
    single.check(op_type, [floats(*shape)], 13)


def test_round_goes_to_even() -> None:
    halves = np.arange(-4.5, 5, dtype=np.float32)
    single.check("Round", [halves], 11)


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"])
def test_integers_as_in_numpy(op_type: str, dtype: str) -> None:
    x, y = ints(dtype, 40, 3), ints(dtype, 3)
    if op_type in ("Div", "Mod"):
        y = np.where(y == 0, np.asarray(3, dtype), y)
        x[x == np.iinfo(dtype).min] += 1  # the one quotient that isn't in range is by -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy tells of wrapping where a shape is ()
        functions: dict[str, Any] = {
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Mod": np.mod,
            "Max": np.maximum,
            "Min": np.minimum,
            "Div": _truncated,
        }
        want = functions[op_type](x, y)
    (got,) = single.run(op_type, [x, y], 14)
    single.agree(got, want)


def _truncated(x: Array, y: Array) -> Array:
    exact = [int(a) // int(b) if (a < 0) == (b < 0) else -(abs(int(a)) // abs(int(b)))
             for a, b in np.broadcast(x, y)]  # fmt: skip
    return np.asarray(exact, x.dtype).reshape(np.broadcast(x, y).shape)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 2), min_size=1, max_size=20))
def test_quotients_of_uint64(pairs: list[tuple[int, int]]) -> None:
    x = np.asarray([a for a, _ in pairs], np.uint64)
    y = np.asarray([max(b, 1) for _, b in pairs], np.uint64)
    single.agree(single.run("Div", [x, y], 14)[0], x // y)
    single.agree(single.run("Mod", [x, y], 13)[0], x % y)
    fmod = single.run("Mod", [x, y], 13, {"fmod": 1})[0]
    single.agree(fmod, x % y)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float16"])
def test_fmod(dtype: str) -> None:
    x, y = floats(50) * 9, floats(50) * 4
    y[np.abs(y) < 1] = 2
    single.check("Mod", [x.astype(dtype), y.astype(dtype)], 13, {"fmod": 1})


def test_modulo_of_floats_has_the_sign_of_its_divisor() -> None:
    inf = np.inf
    x = np.asarray([0.0, -0.0, 0.0, 5.5, -5.5, 5.5, -5.5, 1, -1, 3], np.float32)
    y = np.asarray([2.0, 2.0, -2.0, 2, 2, -2, -2, inf, inf, 0], np.float32)
    want = np.asarray([0.0, 0.0, -0.0, 1.5, 0.5, -0.5, -1.5, 1, inf, np.nan], np.float32)
    (got,) = single.run("Mod", [x, y], 28)
    np.testing.assert_array_equal(got.numpy(), want)
    np.testing.assert_array_equal(np.signbit(got.numpy()[:-1]), np.signbit(want[:-1]))


@pytest.mark.parametrize("base", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("exponent", ["float32", "int32", "int64"])
@pytest.mark.parametrize("known", [(), (1,)])
def test_powers(base: str, exponent: str, known: tuple[int, ...]) -> None:
    x = RNG.integers(1, 6, (4, 3)).astype(base)
    for y in (np.asarray(2, exponent), RNG.integers(0, 4, (3,)).astype(exponent)):
        single.check("Pow", [x, y], 15, constants=known)
        single.check("Pow", [np.asarray(x[0, 0]), y], 15, constants=known)


@pytest.mark.parametrize("exponent", [2.0, 0.5, -1.0, 3.0, 1.7, 0.0])
def test_powers_of_known_exponents(exponent: float) -> None:
    x = np.append(floats(20, low=0), np.float32(0))
    single.check("Pow", [x, np.asarray(exponent, np.float32)], 15, constants=[1])


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_operands(op_type: str, count: int) -> None:
    shapes = [(2, 3, 4), (3, 1), (1,), ()]
    single.check(op_type, [floats(*shape) for shape in shapes[:count]], 13)


def test_extremes_keep_nan() -> None:
    x, y = np.asarray([np.nan, 1, 2], np.float32), np.asarray([0, np.nan, 3], np.float32)
    for op_type in ("Max", "Min"):
        single.check(op_type, [x, y], 13)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((2, 3, 4), {}),
        ((3, 4), {"broadcast": 1}),
        ((3,), {"broadcast": 1, "axis": 1}),
        ((2, 3), {"broadcast": 1, "axis": 0}),
        ((3,), {"broadcast": 1, "axis": -2}),
        ((1, 1), {"broadcast": 1}),
        ((), {"broadcast": 1}),
    ],
)
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Pow", "Less", "Equal"])
def test_broadcasting_before_opset_7(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    x, y = floats(2, 3, 4, low=1), floats(*shape, low=1)
    if op_type == "Equal":
        x, y = np.rint(x).astype(np.int32), np.rint(y).astype(np.int32)
    axis = attributes.get("axis")
    if y.size == 1:
        aligned = y.reshape(())
    elif axis is None:
        aligned = y
    else:
        aligned = y.reshape(y.shape + (1,) * (3 - axis % 3 - y.ndim))
    fn = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
    fn |= {"Pow": np.power, "Less": np.less, "Equal": np.equal}
    single.agree(single.run(op_type, [x, y], 6, attributes)[0], fn[op_type](x, aligned))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "limits",
    [
        (-1, 2), (None, 2), (-1, None), (None, None), (2, -1),
        (0, np.inf), (-np.inf, 0), (-np.inf, np.inf), (None, np.inf), (-np.inf, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [(), (1, 2), (1,)])
def test_clip(dtype: str, limits: tuple[float | None, ...], known: tuple[int, ...]) -> None:
    x = np.append(floats(20), [np.inf, -np.inf, np.nan]).astype(dtype)
    arrays = [None if limit is None else np.asarray(limit, dtype) for limit in limits]
    single.check("Clip", [x, *arrays], 13, constants=known)


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("known", [(), (1, 2)])
def test_clip_of_integers(dtype: str, known: tuple[int, ...]) -> None:
    x = ints(dtype, 50)
    low, high = sorted(ints(dtype, 2).tolist())
    arrays = [np.asarray(low, dtype), np.asarray(high, dtype)]
    single.agree(single.run("Clip", [x, *arrays], 13, constants=known)[0], np.clip(x, low, high))
    single.agree(single.run("Clip", [x, None, arrays[1]], 13)[0], np.minimum(x, arrays[1]))


def test_clip_by_attributes() -> None:
    x = np.append(floats(20), [np.inf, -np.inf]).astype(np.float32)
    single.check("Clip", [x], 6, {"min": -0.5, "max": 0.5})
    single.check("Clip", [x], 6, {"min": 0.25})
    single.check("Clip", [x], 6, {})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_come_back_as_float32(precision: str) -> None:
    x, y = floats(30), floats(30)
    (got,) = single.run("Mul", [x, y], 14, precision=precision)
    single.agree(got, x * y, rtol=2e-2, atol=1e-2)


def test_bfloat16() -> None:
    x, y = floats(30).astype(ml_dtypes.bfloat16), floats(30).astype(ml_dtypes.bfloat16)
    single.agree(single.run("Add", [x, y], 14)[0], x + y, rtol=1e-2)
    two = np.asarray(2, ml_dtypes.bfloat16)
    single.agree(single.run("Pow", [x, two], 15, constants=[1])[0], x * x, rtol=1e-2)
    single.agree(single.run("Clip", [x, two], 13, constants=[1])[0], np.maximum(x, two))
