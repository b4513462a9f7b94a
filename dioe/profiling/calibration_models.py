"""Models whose work is known exactly, to find out what a backend on a device reaches.

Each is a chain in which every op needs the one before it, on random numbers of variance about 1, so
that nothing can be left out, folded away or run at once.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import Array

_OPSET, _IR = 17, 8
_QUANTISED_OPSET, _QUANTISED_IR = 19, 9
_FLOATS: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"

LAYERS = 4
"""Products in a model of large ones, so that a run's dispatch and first touches don't count."""

CHECKED_ROWS = 8
"""Of a product that are compared with a reference: all are computed alike."""

_SIGMAS = 4.0
"""Standard deviations that 8 bits have to hold."""


class Form(enum.StrEnum):
    """How products are written in ONNX."""

    FLOAT = "float"
    QDQ = "QDQ"  # float products between QuantizeLinear and DequantizeLinear
    QLINEAR = "QLinearMatMul"


@dataclass(frozen=True, slots=True)
class Work:
    """A model with its inputs, and what a run of it does.

    ``ops`` count what has to be launched; ``flops`` those of the products, a multiply-add counting
    2; ``nbytes`` what one op of a chain reads and writes, by the types in the file. ``expected``
    gives the first rows of the output ``y``, in float64.
    """

    model: Model
    feeds: Mapping[str, Array]
    ops: int
    flops: int = 0
    nbytes: int = 0
    expected: Callable[[], Array] | None = None


@functools.lru_cache(maxsize=64)
def products(n: int, form: Form = Form.FLOAT) -> Work:
    """``LAYERS`` products of n × n matrices, the right ones constant."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, n), np.float32)
    weights = [rng.standard_normal((n, n), np.float32) * np.float32(n**-0.5) for _ in range(LAYERS)]
    parts = {Form.FLOAT: _float, Form.QDQ: _qdq, Form.QLINEAR: _qlinear}[form](weights)

    def expected() -> Array:
        y = x[:CHECKED_ROWS].astype(np.float64)
        for weight in weights:
            y = y @ weight.astype(np.float64)
        return y

    model = _model("products", *parts, {"x": (n, n)}, (n, n))
    return Work(model, {"x": x}, LAYERS, flops=2 * LAYERS * n**3, expected=expected)


_Parts: TypeAlias = "tuple[list[onnx.NodeProto], list[onnx.TensorProto]]"


def _float(weights: list[_FLOATS]) -> _Parts:
    nodes, constants, value = [], [], "x"
    for i, weight in enumerate(weights):
        result = "y" if i == len(weights) - 1 else f"h{i}"
        constants.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [result], f"matmul{i}"))
        value = result
    return nodes, constants


def _scalar(value: np.generic, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def _quantised(weights: list[_FLOATS]) -> list[onnx.TensorProto]:
    """Weights in 8 bits with their scales, and what activations are quantised with."""
    constants = [
        _scalar(np.float32(_SIGMAS / 128), "scale"),
        _scalar(np.uint8(128), "zero"),
        _scalar(np.int8(0), "weight_zero"),
    ]
    for i, weight in enumerate(weights):
        scale = np.float32(np.abs(weight).max() / 127)
        constants.append(_scalar(scale, f"scale{i}"))
        rounded = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        constants.append(numpy_helper.from_array(rounded, f"w{i}"))
    return constants


def _qdq(weights: list[_FLOATS]) -> _Parts:
    node = helper.make_node
    nodes, value = [], "x"
    for i in range(len(weights)):
        result = "y" if i == len(weights) - 1 else f"h{i}"
        nodes += [
            node("QuantizeLinear", [value, "scale", "zero"], [f"q{i}"], f"quantize{i}"),
            node("DequantizeLinear", [f"q{i}", "scale", "zero"], [f"d{i}"], f"dequantize{i}"),
            node(
                "DequantizeLinear", [f"w{i}", f"scale{i}", "weight_zero"], [f"v{i}"], f"weight{i}"
            ),
            node("MatMul", [f"d{i}", f"v{i}"], [result], f"matmul{i}"),
        ]
        value = result
    return nodes, _quantised(weights)


def _qlinear(weights: list[_FLOATS]) -> _Parts:
    node, last = helper.make_node, len(weights) - 1
    nodes = [node("QuantizeLinear", ["x", "scale", "zero"], ["q0"], "quantize")]
    for i in range(len(weights)):
        reads = [f"q{i}", "scale", "zero", f"w{i}", f"scale{i}", "weight_zero", "scale", "zero"]
        nodes.append(node("QLinearMatMul", reads, [f"q{i + 1}"], f"matmul{i}"))
    nodes.append(node("DequantizeLinear", [f"q{last + 1}", "scale", "zero"], ["y"], "dequantize"))
    return nodes, _quantised(weights)


_SMALL = 16


@functools.lru_cache(maxsize=64)
def launches(length: int) -> Work:
    """So many products of a row by a 16 × 16 matrix: next to no work, and none that could be fused,
    for nobody multiplies weights out."""
    rng = np.random.default_rng(length)
    # rotations, so that values neither grow nor fade, however long the chain
    weights, _ = np.linalg.qr(rng.standard_normal((length, _SMALL, _SMALL)))
    x = rng.standard_normal((1, _SMALL), np.float32)
    parts = _float(list(weights.astype(np.float32)))
    model = _model("launches", *parts, {"x": (1, _SMALL)}, (1, _SMALL))
    return Work(model, {"x": x}, length)


@functools.lru_cache(maxsize=64)
def sums(nbytes: int, length: int) -> Work:
    """So many sums of two float32 tensors, whose operands and result take ``nbytes`` together.

    Every second one is of another shape, by reshaping, which copies nothing: so they aren't fused
    into one op that reads its operands once.
    """
    columns = 1 << max(1, (max(nbytes // 12, 16).bit_length() - 1) // 2)
    rows = max(2, round(nbytes / 12 / columns))
    rows += rows == columns  # the other shape has to be another one
    shapes = ((rows, columns), (columns, rows))
    node = helper.make_node
    constants = [
        numpy_helper.from_array(np.array(shape, np.int64), f"shape{i}")
        for i, shape in enumerate(shapes)
    ]
    nodes = [node("Reshape", ["y", "shape1"], ["y1"], "other")]
    operands, value = ("y", "y1"), "x"
    for i in range(length):
        result = "z" if i == length - 1 else f"s{i}"
        nodes.append(node("Add", [value, operands[i % 2]], [result], f"add{i}"))
        value = result
        if i < length - 1:
            nodes.append(node("Reshape", [value, f"shape{(i + 1) % 2}"], [f"r{i}"], f"reshape{i}"))
            value = f"r{i}"
    rng = np.random.default_rng(rows)
    feeds = {name: rng.random(shapes[0], np.float32) for name in "xy"}
    model = _model(
        "sums", nodes, constants, dict.fromkeys("xy", shapes[0]), shapes[(length - 1) % 2], "z"
    )
    return Work(model, feeds, length, nbytes=12 * rows * columns)


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    inputs: Mapping[str, tuple[int, ...]],
    shape: tuple[int, ...],
    output: str = "y",
) -> Model:
    quantised = any(node.op_type == "QuantizeLinear" for node in nodes)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [info(n, TensorProto.FLOAT, of) for n, of in inputs.items()],
        [info(output, TensorProto.FLOAT, shape)],
        constants,
    )
    opset, version = (_QUANTISED_OPSET, _QUANTISED_IR) if quantised else (_OPSET, _IR)
    opsets = [helper.make_opsetid("", opset)]
    return Model.load(helper.make_model(graph, opset_imports=opsets, ir_version=version))


def forget() -> None:
    """Give back the memory of the models made so far: they are kept to be shared by subjects."""
    for make in (products, launches, sums):
        make.cache_clear()
