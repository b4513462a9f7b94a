"""Quantisation against ONNX Runtime and onnx's own reference: granularity, types, rounding."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(9)


def floats(*shape: int, low: float = -20, high: float = 20) -> Array:
    return RNG.uniform(low, high, shape).astype(np.float32)


def by_reference(
    op_type: str, arrays: list[Array | None], version: int, attributes: dict[str, Any]
) -> Array:
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    node = onnx.helper.make_node(op_type, names, ["y"], **attributes)
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
        if array is not None
    ]
    graph = onnx.helper.make_graph(
        [node], "one", inputs, [onnx.helper.make_empty_tensor_value_info("y")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    (result,) = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(result)


def zero_points(dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    middle, room = (info.max + info.min + 1) // 2, (info.max - info.min) // 8
    return np.asarray(RNG.integers(middle - room, middle + room, shape), dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("known", [(), (1, 2)])
def test_per_tensor_and_per_axis(dtype: str, axis: int | None, known: tuple[int, ...]) -> None:
    x = floats(3, 4, 5)
    shape = () if axis is None else (x.shape[axis],)
    # far out of its range in places: saturates
    scale = np.asarray(floats(*shape, low=0.5, high=1) / (8 if "8" in dtype else 2000))
    zero = zero_points(dtype, *shape)
    attributes = {} if axis is None else {"axis": axis}
    single.check("QuantizeLinear", [x, scale, zero], 21, attributes, constants=known)
    (quantized,) = single.run("QuantizeLinear", [x, scale, zero], 21, attributes)
    arrays = [quantized.numpy(), scale, zero]
    single.check("DequantizeLinear", arrays, 21, attributes, constants=known)


@pytest.mark.parametrize("zero", [None, np.zeros((), np.int8)])
@pytest.mark.parametrize("known", [(), (2,)])
def test_without_a_zero_point(zero: Array | None, known: tuple[int, ...]) -> None:
    x, scale = floats(30), np.asarray(0.25, np.float32)
    single.check("QuantizeLinear", [x, scale, zero], 13, constants=known)
    q = RNG.integers(-128, 127, 30).astype(np.int8)
    single.check("DequantizeLinear", [q, scale, zero], 13, constants=known)


def test_scalars() -> None:
    scale, zero = np.asarray(0.5, np.float32), np.asarray(3, np.uint8)
    single.check("QuantizeLinear", [np.asarray(7.3, np.float32), scale, zero], 13)
    single.check("DequantizeLinear", [np.asarray(9, np.uint8), scale, zero], 13)


def test_from_and_to_int32() -> None:
    x, scale = RNG.integers(-3000, 3000, 40).astype(np.int32), np.asarray(0.5, np.float32)
    single.check("DequantizeLinear", [x, scale], 13)
    want = by_reference("QuantizeLinear", [x, scale, np.asarray(0, np.int8)], 13, {})
    single.agree(single.run("QuantizeLinear", [x, scale, np.asarray(0, np.int8)], 13)[0], want)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("block", [2, 3])
@pytest.mark.parametrize("known", [(), (1, 2)])
def test_blocks(axis: int, block: int, known: tuple[int, ...]) -> None:
    x = floats(6, 4, 12)
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // block)  # the last one is shorter where it doesn't fit
    scale, zero = floats(*shape, low=0.1, high=0.3), zero_points("int8", *shape)
    attributes = {"axis": axis, "block_size": block}
    want = by_reference("QuantizeLinear", [x, scale, zero], 21, attributes)
    single.agree(
        single.run("QuantizeLinear", [x, scale, zero], 21, attributes, constants=known)[0], want
    )
    back = by_reference("DequantizeLinear", [want, scale, zero], 21, attributes)
    got = single.run("DequantizeLinear", [want, scale, zero], 21, attributes, constants=known)[0]
    single.agree(got, back)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_float8(name: str, saturate: int) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    x, scale = floats(60, low=-500, high=500), np.asarray(0.7, np.float32)
    zero = np.zeros((), dtype)
    want = by_reference("QuantizeLinear", [x, scale, zero], 19, {"saturate": saturate})
    (got,) = single.run("QuantizeLinear", [x, scale, zero], 19, {"saturate": saturate})
    single.agree(got, want)
    back = by_reference("DequantizeLinear", [want, scale, zero], 19, {})
    single.agree(single.run("DequantizeLinear", [want, scale, zero], 19)[0], back)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_halves(kind: Any) -> None:
    x, scale = floats(40).astype(kind), np.asarray(0.5, kind)
    zero = np.asarray(5, np.int8)
    want = by_reference("QuantizeLinear", [x, scale, zero], 21, {})
    single.agree(single.run("QuantizeLinear", [x, scale, zero], 21)[0], want)
    back = by_reference("DequantizeLinear", [want, scale, zero], 21, {})
    single.agree(single.run("DequantizeLinear", [want, scale, zero], 21)[0], back, rtol=0, atol=0)


def test_types_by_attribute() -> None:
    x, scale = floats(20), np.asarray(0.5, np.float32)
    int16, half = onnx.TensorProto.INT16, onnx.TensorProto.FLOAT16
    want = by_reference("QuantizeLinear", [x, scale], 23, {"output_dtype": int16})
    single.agree(single.run("QuantizeLinear", [x, scale], 23, {"output_dtype": int16})[0], want)
    attributes = {"precision": half}
    want = by_reference("QuantizeLinear", [x, scale], 23, attributes)
    single.agree(single.run("QuantizeLinear", [x, scale], 23, attributes)[0], want)
    q = want
    want = by_reference("DequantizeLinear", [q, scale], 23, {"output_dtype": half})
    single.agree(single.run("DequantizeLinear", [q, scale], 23, {"output_dtype": half})[0], want)


def test_computes_as_written_in_lower_precisions() -> None:
    x, scale, zero = floats(200), np.asarray(0.013, np.float32), np.asarray(-3, np.int8)
    (want,) = single.run("QuantizeLinear", [x, scale, zero], 13)
    single.agree(
        single.run("QuantizeLinear", [x, scale, zero], 13, precision="bf16")[0], want.numpy()
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30))
def test_ranges_found_while_running(values: list[float]) -> None:
    x = np.asarray(values, np.float32)
    if x.max() - x.min() > 1e-20:  # below, scales lose their bits
        single.check("DynamicQuantizeLinear", [x], 11, n_outputs=3)


def test_a_range_of_nothing() -> None:
    single.check("DynamicQuantizeLinear", [np.zeros(3, np.float32)], 11, n_outputs=3)
