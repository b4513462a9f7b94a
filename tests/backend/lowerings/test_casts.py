"""Casts: every pair of types, and float8 at the edges of its ranges."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch

from dioe.types import Array
from dioe_torch.lowerings import Unsupported
from tests.backend.lowerings import single

NAMES = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT8", "INT16", "INT32", "INT64"]
NAMES += ["UINT8", "UINT16", "UINT32", "UINT64"]
FLOAT8 = ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"]
LARGEST = dict(zip(FLOAT8, (448.0, 240.0, 57344.0, 57344.0), strict=True))
EDGES = [0, -0.0, 1, -1.3, 0.3, 448, 463, 464, 465, 480, -600, 240, 247, 249, 57344, 61440, 61441]
EDGES += [1e-3, -1e-7, 1e-12, 3e38, -3e38, np.inf, -np.inf, np.nan]


def number(name: str) -> int:
    return int(onnx.TensorProto.DataType.Value(name))


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number(name)))


def cast(x: Array, to: str, version: int = 24, **attributes: int | str) -> torch.Tensor:
    return single.run("Cast", [x], version, {"to": number(to), **attributes})[0]


@pytest.mark.parametrize(("source", "to"), list(itertools.product(NAMES, NAMES)))
def test_every_pair_of_types(source: str, to: str) -> None:
    x = np.random.default_rng(1).uniform(0, 120, 40).astype(numpy_dtype(source))
    want = x.astype(numpy_dtype(to))
    single.agree(cast(x, to), want, rtol=0, atol=0)
    like = np.zeros(1, numpy_dtype(to))
    single.agree(single.run("CastLike", [x, like], 21)[0], want, rtol=0, atol=0)


def test_integers_out_of_range_keep_their_low_bits() -> None:
    x = np.asarray([200, -1, 70000, -70000, 2**40 + 5], np.int64)
    for to in NAMES[5:]:
        single.agree(cast(x, to), x.astype(numpy_dtype(to)))


@pytest.mark.parametrize("to", FLOAT8)
@pytest.mark.parametrize("source", ["float32", "float16", "float64"])
@pytest.mark.parametrize("version", [19, 24])
def test_float8_saturates(to: str, source: str, version: int) -> None:
    with np.errstate(over="ignore"):
        x = np.asarray(EDGES).astype(source)
    dtype = numpy_dtype(to)
    largest = LARGEST[to]
    want = np.clip(x.astype(np.float64), -largest, largest).astype(dtype)
    if version < 24 and to.endswith("UZ"):
        want[np.isinf(x)] = np.nan
    got = cast(x, to, version).double().numpy()
    np.testing.assert_array_equal(got, want.astype(np.float64))


@pytest.mark.parametrize("to", FLOAT8)
def test_float8_overflows(to: str) -> None:
    x = np.asarray(EDGES, np.float32)
    with np.errstate(over="ignore"):
        want = x.astype(numpy_dtype(to))
    got = cast(x, to, saturate=0)
    np.testing.assert_array_equal(got.double().numpy(), want.astype(np.float64))
    signs = [np.signbit(v.double().numpy()[:-1]) for v in (got, single.tensor(want))]
    np.testing.assert_array_equal(*signs)


def test_integers_to_float8() -> None:
    x = np.asarray([0, 1, -3, 100, 1000], np.int32)
    want = np.minimum(x, 448).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(cast(x, "FLOAT8E4M3FN").double().numpy(), want.astype(float))


@pytest.mark.parametrize(
    ("rounding", "want"),
    [
        ("up", [1, 2, 2, 2, 4, 256]),
        ("down", [1, 1, 1, 1, 2, 128]),
        ("nearest", [1, 1, 2, 2, 4, 256]),
    ],
)
def test_powers_of_two_are_rounded_as_asked(rounding: str, want: list[float]) -> None:
    x = np.asarray([1, 1.2, 1.5, 1.7, 3, 200], np.float32)
    got = cast(x, "FLOAT8E8M0", round_mode=rounding)
    np.testing.assert_array_equal(got.double().numpy(), want)


def test_powers_of_two_at_the_ends() -> None:
    x = np.asarray([0, 2.0**-127, np.inf, np.nan, 3e38], np.float32)
    got = cast(x, "FLOAT8E8M0").double().numpy()
    np.testing.assert_array_equal(got[2:], [2.0**127, np.nan, 2.0**127])
    assert got[:2].tolist() == [2.0**-127] * 2
    got = cast(x, "FLOAT8E8M0", saturate=0, round_mode="nearest").double().numpy()
    np.testing.assert_array_equal(got, [np.nan, 2.0**-127, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("FLOAT", "INT32"),
        ("INT64", "DOUBLE"),
        ("FLOAT16", "UINT16"),
        ("UINT8", "INT8"),
        ("BFLOAT16", "INT16"),
        ("UINT64", "INT64"),
        ("FLOAT8E5M2", "UINT8"),
        ("BOOL", "UINT8"),
    ],
)
def test_bits_are_kept(source: str, to: str) -> None:
    x = np.random.default_rng(2).uniform(0, 100, (3, 4)).astype(numpy_dtype(source))
    (got,) = single.run("BitCast", [x], 26, {"to": number(to)})
    single.agree(got, x.view(numpy_dtype(to)))


def test_what_torch_has_not_is_refused() -> None:
    for to in ("STRING", "INT4", "UINT4", "FLOAT4E2M1"):
        with pytest.raises(Unsupported, match="torch has no"):
            cast(np.ones(2, np.float32), to)
