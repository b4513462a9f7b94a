"""Activations against ONNX Runtime, or by formula; softmax of all opsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(3)


def floats(*shape: int, dtype: str = "float32") -> Array:
    return RNG.uniform(-4, 4, shape).astype(dtype)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("HardSwish", {}),
        ("Mish", {}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("ThresholdedRelu", {}),
        ("ThresholdedRelu", {"alpha": -0.5}),
        ("Elu", {}),
        ("Elu", {"alpha": 0.3}),
        ("Selu", {}),
        ("Selu", {"alpha": 2.0, "gamma": 3.0}),
        ("Celu", {}),
        ("Celu", {"alpha": 0.4}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.2}),
        ("Shrink", {}),
        ("Shrink", {"lambd": 1.5, "bias": 1.5}),
        ("Shrink", {"lambd": 1.5, "bias": 0.25}),
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
    ],
)
@pytest.mark.parametrize("shape", [(), (2, 3, 5), (0, 4)])
def test_activations(op_type: str, attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    single.check(op_type, [floats(*shape)], 20, attributes, atol=2e-6)


def test_softplus_far_from_zero() -> None:
    x = np.asarray([-100, -20, 0, 15, 21, 39, 41, 100, 1e4])
    (got,) = single.run("Softplus", [x], 1)
    np.testing.assert_allclose(got.numpy(), np.logaddexp(0, x), rtol=1e-15)


def test_relu_of_integers() -> None:
    x = RNG.integers(-5, 5, (3, 4)).astype(np.int32)
    single.agree(single.run("Relu", [x], 14)[0], np.maximum(x, 0))


def test_swish_and_swiglu() -> None:
    x, y = floats(3, 4, dtype="float64"), floats(3, 4, dtype="float64")
    for alpha in (1.0, 1.7):
        want = x / (1 + np.exp(-alpha * x))
        single.agree(single.run("Swish", [x], 24, {"alpha": alpha})[0], want, rtol=1e-12)
        single.agree(single.run("SwiGLU", [x, y], 28, {"alpha": alpha})[0], want * y, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint16", "uint64"])
def test_shrink_of_integers(dtype: str) -> None:
    x = RNG.integers(0 if dtype[0] == "u" else -9, 9, 30).astype(dtype)
    wide = x.astype(np.float64)
    want = np.where(wide < -2.5, wide + 2, np.where(wide > 2.5, wide - 2, 0)).astype(dtype)
    single.agree(single.run("Shrink", [x], 9, {"lambd": 2.5, "bias": 2.0})[0], want)


@pytest.mark.parametrize("slope", [(), (1,), (5,), (3, 1, 1), (1, 1, 1), (3, 4, 5), (2, 3, 4, 5)])
def test_prelu(slope: tuple[int, ...]) -> None:
    single.check("PRelu", [floats(2, 3, 4, 5), floats(*slope)], 16)


def test_prelu_of_other_types_and_opsets() -> None:
    x, slope = RNG.integers(-9, 9, (2, 3)), np.asarray([2, 3, 4])
    single.agree(single.run("PRelu", [x, slope], 16)[0], np.where(x < 0, x * slope, x))
    large = x.astype(np.uint32)
    single.agree(single.run("PRelu", [large, slope.astype(np.uint32)], 16)[0], large)
    wide, slope = floats(2, 3, 4), floats(3)
    want = np.where(wide < 0, wide * slope[:, None], wide)
    single.agree(single.run("PRelu", [wide, slope], 6)[0], want)
    want = np.where(wide < 0, wide * slope[0], wide)
    single.agree(single.run("PRelu", [wide, slope[:1]], 6)[0], want)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
@pytest.mark.parametrize("version", [7, 11, 13])
def test_softmax_of_all_opsets(op_type: str, axis: int | None, version: int) -> None:
    if version < 11 and axis is not None and axis < 0:
        return
    x = floats(2, 3, 4).round(1)  # some are equal
    single.check(op_type, [x], version, {} if axis is None else {"axis": axis})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions(precision: str) -> None:
    x = floats(4, 30)
    for op_type in ("Softmax", "Gelu", "Sigmoid", "HardSwish", "Softplus", "Elu"):
        (want,) = single.run(op_type, [x], 20)
        (got,) = single.run(op_type, [x], 20, precision=precision)
        single.agree(got, want.numpy(), rtol=3e-2, atol=2e-2)
