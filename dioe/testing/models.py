"""Small models and data for tests of backends: built in code, random, never zeros."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from dioe.graph import Model
from dioe.types import Array

IR_VERSION = 9
OPSET = 18
"""What every runtime of the last years reads; ONNX 1.14 of May 2023."""


def model(text: str) -> Model:
    """A model from ONNX text: the body of a graph with its signature."""
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'
    return Model.load(parser.parse_model(f"{header}\n{text}"))


def load(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto] | None = None,
    opset: int = OPSET,
) -> Model:
    """A model from protobuf parts."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights or [])
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return Model.load(helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets))


def rng(seed: int = 0) -> np.random.Generator:
    """The generator of a test's data."""
    return np.random.default_rng(seed)


def floats(*shape: int, seed: int = 0) -> Array:
    """Standard normal float32 data."""
    return rng(seed).standard_normal(shape, dtype=np.float32)


def relu(rows: int | str = 2) -> Model:
    """y = Relu(x), 4 columns."""
    return model(f"g (float[{rows},4] x) => (float[{rows},4] y) {{ y = Relu(x) }}")


def small_network() -> Model:
    """Conv + BatchNorm + Relu + pooling + MatMul + Add + LayerNorm + Softmax, all ops named."""
    r = rng(3)

    def weight(name: str, *shape: int, low: float = -0.4, high: float = 0.4) -> onnx.TensorProto:
        return numpy_helper.from_array(r.uniform(low, high, shape).astype(np.float32), name)

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="bn"),
        node("Relu", ["n"], ["r"], name="relu"),
        node("Conv", ["r", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["c1"], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("MatMul", ["f", "w2"], ["d"], name="matmul"),
        node("Add", ["d", "b2"], ["a"], name="add"),
        node("LayerNormalization", ["a", "ls", "lb"], ["l"], name="norm"),
        node("Softmax", ["l"], ["y"], name="softmax"),
    ]
    weights = [
        weight("w", 8, 3, 3, 3),
        weight("s", 8, low=0.5, high=1.5),
        weight("b", 8),
        weight("m", 8),
        weight("v", 8, low=0.5, high=1.5),
        weight("w1", 16, 8, 3, 3),
        weight("w2", 16, 12),
        weight("b2", 12),
        weight("ls", 12, low=0.5, high=1.5),
        weight("lb", 12),
    ]
    info = helper.make_tensor_value_info
    return load(
        nodes,
        [info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [info("y", TensorProto.FLOAT, [1, 12])],
        weights,
    )


def perceptron(depth: int = 3, width: int = 32) -> Model:
    """A chain of MatMul, Add and Relu over any number of rows, all ops named."""
    r = rng(5)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "x"
    for i in range(depth):
        scale = np.sqrt(2 / width)  # keeps the variance over layers with Relu (He et al. 2015)
        matrix = (r.standard_normal((width, width)) * scale).astype(np.float32)
        bias = r.uniform(-0.1, 0.1, width).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{i}"),
            numpy_helper.from_array(bias, f"b{i}"),
        ]
        last = "y" if i == depth - 1 else f"r{i}"
        nodes += [
            helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"], name=f"matmul{i}"),
            helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"], name=f"add{i}"),
            helper.make_node("Relu", [f"a{i}"], [last], name=f"relu{i}"),
        ]
        value = last
    info = helper.make_tensor_value_info
    return load(
        nodes,
        [info("x", TensorProto.FLOAT, ["N", width])],
        [info("y", TensorProto.FLOAT, ["N", width])],
        weights,
    )


def int8_network() -> Model:
    """A product with weights kept in int8 and dequantised in the graph."""
    r = rng(4)
    weights = [
        numpy_helper.from_array(r.integers(-100, 100, (64, 64)).astype(np.int8), "w"),
        numpy_helper.from_array(np.array(0.01, np.float32), "scale"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["wf"], name="dequantize"),
        helper.make_node("MatMul", ["x", "wf"], ["y"], name="matmul"),
    ]
    info = helper.make_tensor_value_info
    return load(
        nodes,
        [info("x", TensorProto.FLOAT, [8, 64])],
        [info("y", TensorProto.FLOAT, [8, 64])],
        weights,
        opset=19,  # the first that onnx.reference has DequantizeLinear of
    )
