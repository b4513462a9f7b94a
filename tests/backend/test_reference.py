"""What only the reference backend does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.types import Backend
from tests.backend.cases import floats, load, rng
from tests.backend.conftest import Compile


@pytest.mark.parametrize("opset", [8, 11, 13, 15])
def test_batch_norm_uses_the_given_statistics(
    backend: Backend, compile_on: Compile, opset: int
) -> None:
    # onnx.reference alone mixes those of the input in, for opsets 9 to 13.
    s, b, m, v = (rng(i).uniform(0.5, 1.5, 3).astype(np.float32) for i in range(4))
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], momentum=0.9)],
        [info("x", TensorProto.FLOAT, [2, 3, 4, 4])],
        [info("y", TensorProto.FLOAT, [2, 3, 4, 4])],
        [numpy_helper.from_array(a, n) for a, n in zip((s, b, m, v), "sbmv", strict=True)],
        opset,
    )
    x = floats(2, 3, 4, 4)
    request: Any = compile_on(backend, made).request()
    s, b, m, v = (a.reshape(-1, 1, 1) for a in (s, b, m, v))
    expected = (x - m) / np.sqrt(v + 1e-5) * s + b
    np.testing.assert_allclose(request.call({"x": x}, ["y"])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 4, 5, 2)], ids=str)
def test_global_max_pool_keeps_the_channels(
    backend: Backend, compile_on: Compile, shape: tuple[int, ...]
) -> None:
    # onnx.reference alone takes them along where there is one other axis.
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("GlobalMaxPool", ["x"], ["y"])],
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, (*shape[:2], *(1,) * (len(shape) - 2)))],
        [],
        15,
    )
    x = floats(*shape)
    request: Any = compile_on(backend, made).request()
    expected = x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
    np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], expected)
