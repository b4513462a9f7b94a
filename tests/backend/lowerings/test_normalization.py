"""Normalisations against ONNX Runtime, training and old opsets by their formulas."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.types import Array
from dioe_torch.lowerings import Unsupported
from tests.backend.lowerings import single

RNG = np.random.default_rng(7)


def floats(*shape: int, low: float = -2) -> Array:
    return RNG.uniform(low, 2, shape).astype(np.float32)


def batch_inputs(*shape: int) -> list[Array]:
    c = shape[1] if len(shape) > 1 else 1
    return [floats(*shape), floats(c), floats(c), floats(c), floats(c, low=0.1)]


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2), (0, 3, 4)])
@pytest.mark.parametrize("version", [7, 9, 15])
def test_batches_in_inference(shape: tuple[int, ...], version: int) -> None:
    single.check("BatchNormalization", batch_inputs(*shape), version, {"epsilon": 1e-3}, atol=1e-5)


def test_batches_in_inference_of_the_first_opsets() -> None:
    inputs = batch_inputs(2, 3, 4, 5)
    (want,) = single.run("BatchNormalization", inputs, 9)
    got = single.run("BatchNormalization", inputs, 6, {"is_test": 1}, n_outputs=5)
    single.agree(got[0], want.numpy())


def test_batches_of_one_channel() -> None:
    x, scale, bias, mean, variance = batch_inputs(6)
    want = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    single.agree(single.run("BatchNormalization", [x, scale, bias, mean, variance], 15)[0], want)


def test_batches_with_statistics_in_another_type() -> None:
    x, scale, bias, mean, variance = batch_inputs(2, 3, 4)
    halves = [v.astype(np.float16) for v in (x, scale, bias)]
    (want,) = single.run("BatchNormalization", [x, scale, bias, mean, variance], 15)
    (got,) = single.run("BatchNormalization", [*halves, mean, variance], 15)
    single.agree(got, want.numpy().astype(np.float16), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("version", [9, 14])
def test_batches_in_training(version: int) -> None:
    x, scale, bias, mean, variance = batch_inputs(3, 4, 5)
    now, spread = x.mean((0, 2)), x.var((0, 2))
    y = (x - now[:, None]) / np.sqrt(spread[:, None] + 1e-5) * scale[:, None] + bias[:, None]
    want = [y, mean * 0.8 + now * 0.2, variance * 0.8 + spread * 0.2, now, spread]
    attributes = {"momentum": 0.8} | ({"training_mode": 1} if version == 14 else {})
    count = 3 if version == 14 else 5
    inputs = [x, scale, bias, mean, variance]
    got = single.run("BatchNormalization", inputs, version, attributes, n_outputs=count)
    for result, wanted in zip(got, want, strict=False):
        single.agree(result, wanted, rtol=1e-4)
    assert len(got) == count


def test_batches_that_are_not_spatial() -> None:
    x = floats(4, 3, 2)
    scale, bias, mean = floats(3, 2), floats(3, 2), floats(3, 2)
    variance = floats(3, 2, low=0.1)
    inputs = [x, scale, bias, mean, variance]
    want = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    single.agree(single.run("BatchNormalization", inputs, 7, {"spatial": 0})[0], want, rtol=1e-4)
    with pytest.raises(Unsupported, match="spatial"):
        single.run("BatchNormalization", inputs, 7, {"spatial": 0}, n_outputs=5)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 3, 1, 1)])
def test_instances(shape: tuple[int, ...]) -> None:
    inputs = [floats(*shape), floats(3), floats(3)]
    single.check("InstanceNormalization", inputs, 6, {"epsilon": 1e-2}, atol=1e-5)


@pytest.mark.parametrize("version", [18, 21])
def test_groups(version: int) -> None:
    x = floats(2, 6, 4, 5)
    scale, bias = (floats(3), floats(3)) if version == 18 else (floats(6), floats(6))
    parts = x.reshape(2, 3, -1)
    y = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-5)
    if version == 18:
        want = (y * scale[:, None] + bias[:, None]).reshape(x.shape)
    else:
        want = y.reshape(x.shape) * scale[:, None, None] + bias[:, None, None]
    (got,) = single.run("GroupNormalization", [x, scale, bias], version, {"num_groups": 3})
    single.agree(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, -2, 1, 0])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_layers(axis: int, with_bias: bool, n_outputs: int) -> None:
    x = floats(2, 3, 4)
    shape = x.shape[axis:]
    bias = floats(*shape) if with_bias else None
    arrays = [x, floats(*shape), bias] if with_bias else [x, floats(*shape)]
    single.check("LayerNormalization", arrays, 17, {"axis": axis}, n_outputs, atol=1e-5)


def test_layers_with_scales_that_broadcast() -> None:
    x, scale, bias = floats(2, 3, 4), floats(4), floats(3, 1)
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    want = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    (got,) = single.run("LayerNormalization", [x, scale, bias], 17, {"axis": 1})
    single.agree(got, want, rtol=1e-4, atol=1e-5)


def test_layers_of_halves_keep_statistics_in_float32() -> None:
    x = (floats(4, 8) + 20).astype(ml_dtypes.bfloat16)
    one = np.ones(8, ml_dtypes.bfloat16)
    y, mean, inverse = single.run("LayerNormalization", [x, one], 17, n_outputs=3)
    wide = x.astype(np.float32)
    single.agree(mean, wide.mean(-1, keepdims=True))
    single.agree(inverse, 1 / np.sqrt(wide.var(-1, keepdims=True) + 1e-5), rtol=1e-4)
    want = (wide - wide.mean(-1, keepdims=True)) * inverse.numpy()
    single.agree(y, want.astype(ml_dtypes.bfloat16), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("axis", [-1, 1, -3])
@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("whole", [True, False])
def test_root_mean_square(axis: int, kind: Any, whole: bool) -> None:
    x = floats(2, 3, 4)
    scale = floats(*x.shape[axis:]) if whole else floats(4)
    axes = tuple(range(axis % 3, 3))
    want = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + 1e-5) * scale
    (got,) = single.run(
        "RMSNormalization", [x.astype(kind), scale.astype(kind)], 23, {"axis": axis}
    )
    tolerance = 1e-5 if kind == np.float32 else 3e-2
    single.agree(got, want.astype(kind), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_norms(p: int, axis: int) -> None:
    x = floats(3, 4, 5)
    x[:, 1] = 0
    x[1] = 0
    x[:, :, 2] = 0
    single.check("LpNormalization", [x], 1, {"p": p, "axis": axis})


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 4, 5), (1, 2, 3, 3)])
def test_local_responses(size: int, shape: tuple[int, ...]) -> None:
    attributes = {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5}
    single.check("LRN", [floats(*shape)], 13, attributes)


@pytest.mark.parametrize("shape", [(2, 6, 3), (2, 6)])
def test_local_responses_of_even_size(shape: tuple[int, ...]) -> None:
    x = floats(*shape)
    sums = [np.square(x[:, max(0, c - 1) : c + 3]).sum(1) for c in range(6)]  # 1 before, 2 after
    want = x / (1 + 1e-4 / 4 * np.stack(sums, 1)) ** 0.75
    single.agree(single.run("LRN", [x], 13, {"size": 4})[0], want)


@pytest.mark.parametrize("axes", [None, [0, 2, 3], [1, 2], [-1]])
def test_mean_and_variance(axes: list[int] | None) -> None:
    x = floats(2, 3, 4, 5)
    over = tuple(axes or (0, 2, 3))
    want = (x - x.mean(over, keepdims=True)) / x.std(over, keepdims=True)
    attributes = {} if axes is None else {"axes": tuple(axes)}
    (got,) = single.run("MeanVarianceNormalization", [x], 13, attributes)
    single.agree(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions(precision: str) -> None:
    x = floats(2, 4, 5, 6)
    four, six = [floats(4) for _ in range(4)], [floats(6) for _ in range(2)]
    four[3] = np.abs(four[3]) + 0.1
    for op_type, arrays, attributes in (
        ("BatchNormalization", [x, *four], {}),
        ("InstanceNormalization", [x, *four[:2]], {}),
        ("GroupNormalization", [x, *four[:2]], {"num_groups": 2}),
        ("LayerNormalization", [x, *six], {}),
        ("RMSNormalization", [x, six[0]], {}),
        ("LRN", [x], {"size": 3}),
        ("LpNormalization", [x], {}),
    ):
        (want,) = single.run(op_type, arrays, 23, attributes)
        (got,) = single.run(op_type, arrays, 23, attributes, precision=precision)
        single.agree(got, want.numpy(), rtol=4e-2, atol=6e-2)


# --- dropout -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "attributes"),
    [(1, {"is_test": 1}), (6, {"is_test": 1}), (7, {}), (10, {}), (12, {})],
)
def test_dropout_in_inference(version: int, attributes: dict[str, Any]) -> None:
    x = floats(3, 4)
    (y,) = single.run("Dropout", [x], version, attributes)
    single.agree(y, x)
    if version >= 7:
        y, mask = single.run("Dropout", [x], version, attributes, n_outputs=2)
        single.agree(y, x)
        single.agree(mask, np.ones((3, 4), bool))


@pytest.mark.parametrize("known", [(), (1, 2)])
def test_dropout_in_training(known: tuple[int, ...]) -> None:
    x = floats(50, 100)
    arrays = [x, np.asarray(0.25, np.float32), np.asarray(True)]
    y, mask = single.run("Dropout", arrays, 13, {"seed": 3}, n_outputs=2, constants=known)
    assert 0.7 < mask.float().mean() < 0.8
    single.agree(y, np.where(mask.numpy(), x / 0.75, 0))
    again = single.run("Dropout", arrays, 13, {"seed": 3}, n_outputs=2, constants=known)
    single.agree(again[1], mask.numpy())
    off = [x, arrays[1], np.asarray(False)]
    single.agree(single.run("Dropout", off, 13, constants=known)[0], x)


def test_dropout_in_training_of_the_first_opsets() -> None:
    x = floats(40, 50)
    y, mask = single.run("Dropout", [x], 6, {"ratio": 0.5}, n_outputs=2)
    single.agree(y, np.where(mask.numpy(), x * 2, 0))
