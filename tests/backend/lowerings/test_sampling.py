"""Random numbers: their distribution, and the same ones for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.backend.lowerings import single

DTYPES = {"float32": 1, "float64": 11, "float16": 10, "bfloat16": 16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("like", [False, True])
@pytest.mark.parametrize("kind", ["RandomNormal", "RandomUniform"])
def test_distributions(kind: str, like: bool, dtype: str) -> None:
    normal = kind == "RandomNormal"
    attributes: dict[str, Any] = {"dtype": DTYPES[dtype], "seed": 2.5}
    attributes |= {"mean": 3.0, "scale": 2.0} if normal else {"low": -1.0, "high": 5.0}
    arrays = [np.zeros((100, 50), np.int32)] if like else []
    if not like:
        attributes["shape"] = (100, 50)
    op_type = kind + "Like" if like else kind
    (got,) = single.run(op_type, arrays, 22, attributes)
    assert got.dtype == getattr(torch, dtype)
    assert tuple(got.shape) == (100, 50)
    wide = got.double()
    assert abs(wide.mean() - (3 if normal else 2)) < 0.2
    assert abs(wide.std() - (2 if normal else 6 / 12**0.5)) < 0.2
    assert normal or (wide.min() >= -1 and wide.max() <= 5)
    assert torch.equal(got, single.run(op_type, arrays, 22, attributes)[0])
    del attributes["seed"]
    assert not torch.equal(got, single.run(op_type, arrays, 22, attributes)[0])


def test_types_of_what_they_are_like() -> None:
    x = np.zeros((2, 3), np.float64)
    assert single.run("RandomNormalLike", [x], 22)[0].dtype == torch.float64


@pytest.mark.parametrize("name", ["BOOL", "INT32", "UINT16", "FLOAT", None])
def test_bernoulli(name: str | None) -> None:
    x = np.tile(np.asarray([0, 0.3, 1], np.float64), (2000, 1))
    number = onnx.TensorProto.DataType.Value(name) if name else None
    attributes = {"seed": 1.0} | ({} if number is None else {"dtype": number})
    (got,) = single.run("Bernoulli", [x], 15, attributes)
    kind = onnx.helper.tensor_dtype_to_np_dtype(number) if number else np.float64
    assert got.numpy().dtype == kind
    means = got.double().mean(0)
    assert means[0] == 0
    assert means[2] == 1
    assert abs(means[1] - 0.3) < 0.05


def test_multinomial() -> None:
    x = np.log(np.asarray([[1, 1, 2], [1, 0.001, 0.001]], np.float32))
    attributes = {"sample_size": 4000, "seed": 4.0, "dtype": 7}
    (got,) = single.run("Multinomial", [x], 7, attributes)
    assert got.dtype == torch.int64
    counts = np.bincount(got[0].numpy(), minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.25, 0.25, 0.5], atol=0.05)
    assert (got[1] == 0).float().mean() > 0.95
    assert single.run("Multinomial", [x], 7)[0].dtype == torch.int32
