"""Small models and feeds that the tests of all backends share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from dioe.graph import Model
from dioe.types import Array


def model(text: str) -> Model:
    """A model from ONNX text: the body of a graph with its signature."""
    return Model.load(parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]>\n{text}'))


def load(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto] | None = None,
    opset: int = 18,
) -> Model:
    """A model from protobuf parts."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights or [])
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return Model.load(helper.make_model(graph, ir_version=9, opset_imports=opsets))


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
    )


@dataclass(frozen=True)
class Case:
    """A model, a feed, what has to come out, and which backends take it."""

    name: str
    model: Model
    feeds: dict[str, Any]
    expected: dict[str, Any]
    backends: frozenset[str] = frozenset({"onnxruntime", "openvino", "reference"})


def _typed(name: str, element: int, values: Array, backends: set[str]) -> Case:
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Identity", ["x"], ["t"]), helper.make_node("Identity", ["t"], ["y"])],
        [info("x", element, list(values.shape))],
        [info("y", element, list(values.shape))],
        opset=21,
    )
    return Case(f"identity of {name}", made, {"x": values}, {"y": values}, frozenset(backends))


def cases() -> list[Case]:
    """Ops and types worth a look."""
    r = rng(7)
    a, b = floats(2, 3, seed=1), floats(3, 2, seed=2)
    scalar = np.asarray(r.standard_normal(), np.float32)
    indices = np.array([2, 0, 1, 2], np.int64)
    words = np.array(["a", "", "ünïcödé", "longer than the others"], dtype=object)
    every = {"onnxruntime", "openvino", "reference"}
    return [
        Case(
            "matmul",
            model("g (float[2,3] a, float[3,2] b) => (float[2,2] y) { y = MatMul(a, b) }"),
            {"a": a, "b": b},
            {"y": a @ b},
        ),
        Case(
            "scalar",
            model(
                "g (float s, float[2,3] a) => (float[2,3] y, float z) {"
                " y = Mul(s, a) z = Add(s, s) }"
            ),
            {"s": scalar, "a": a},
            {"y": scalar * a, "z": scalar + scalar},
        ),
        Case(
            "indices",
            model("g (float[3,2] b, int64[4] i) => (float[4,2] y) { y = Gather(b, i) }"),
            {"b": b, "i": indices},
            {"y": b[indices]},
        ),
        Case(
            "boolean",
            model(
                "g (float[2,3] a) => (bool[2,3] y) {"
                " z = Constant<value_float = 0.0>() y = Greater(a, z) }"
            ),
            {"a": a},
            {"y": a > 0},
        ),
        Case(
            "data-dependent shape",
            model("g (float[2,3] a) => (int64[2,N] y) { r = Relu(a) y = NonZero(r) }"),
            {"a": a},
            {"y": np.stack(np.nonzero(np.maximum(a, 0)))},
        ),
        Case(
            "empty",
            model("g (float[N,3] a) => (float[N,3] y) { y = Relu(a) }"),
            {"a": np.empty((0, 3), np.float32)},
            {"y": np.empty((0, 3), np.float32)},
        ),
        Case(
            "constant output",
            model(
                "g (float[2,3] a) => (float[2,3] y, float[2] c) {"
                " y = Neg(a) c = Constant<value_floats = [1.5, 2.5]>() }"
            ),
            {"a": a},
            {"y": -a, "c": np.array([1.5, 2.5], np.float32)},
        ),
        Case(
            "input given on",
            model(
                "g (float[2,3] a) => (float[2,3] y, float[2,3] z) { y = Identity(a) z = Neg(a) }"
            ),
            {"a": a},
            {"y": a, "z": -a},
        ),
        _typed("strings", TensorProto.STRING, words, {"onnxruntime", "reference"}),
        _typed("bfloat16", TensorProto.BFLOAT16, a.astype(ml_dtypes.bfloat16), every),
        _typed("float8", TensorProto.FLOAT8E4M3FN, a.astype(ml_dtypes.float8_e4m3fn), every),
        _typed(
            "int4",
            TensorProto.INT4,
            r.integers(-8, 8, (3, 3)).astype(ml_dtypes.int4),
            {"openvino", "reference"},
        ),
        _typed(
            "uint4",
            TensorProto.UINT4,
            r.integers(0, 16, (5,)).astype(ml_dtypes.uint4),
            {"openvino", "reference"},
        ),
        *(
            _typed(
                np.dtype(t).name,
                helper.np_dtype_to_tensor_dtype(np.dtype(t)),
                r.integers(0, 100, (2, 5)).astype(t),
                every,
            )
            for t in (
                np.float16,
                np.float64,
                np.int8,
                np.uint8,
                np.int16,
                np.uint16,
                np.int32,
                np.uint32,
                np.int64,
                np.uint64,
                np.bool_,
            )
        ),
        _sequence_case(a),
        _optional_case(a),
        _branches(a),
    ]


def _sequence_case(a: Array) -> Case:
    sequence = helper.make_tensor_sequence_value_info
    info = helper.make_tensor_value_info
    made = load(
        [
            helper.make_node("SequenceAt", ["s", "i"], ["y"]),
            helper.make_node("SequenceInsert", ["s", "y"], ["t"]),
        ],
        [sequence("s", TensorProto.FLOAT, [2, 3]), info("i", TensorProto.INT64, [])],
        [info("y", TensorProto.FLOAT, [2, 3]), sequence("t", TensorProto.FLOAT, None)],
    )
    return Case(
        "sequence",
        made,
        {"s": [a, 2 * a], "i": np.array(1)},
        {"y": 2 * a, "t": [a, 2 * a, 2 * a]},
        frozenset({"onnxruntime", "reference"}),
    )


def _optional_case(a: Array) -> Case:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3])
    made = load(
        [helper.make_node("OptionalGetElement", ["o"], ["y"])],
        [helper.make_value_info("o", helper.make_optional_type_proto(tensor))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    return Case("optional", made, {"o": a}, {"y": a}, frozenset({"onnxruntime", "reference"}))


def _branches(a: Array) -> Case:
    made = model(
        "g (bool c, float[2,3] a) => (float[2,3] y) { y = If (c) <"
        " then_branch = p () => (float[2,3] t) { t = Neg(a) },"
        " else_branch = q () => (float[2,3] e) { e = Abs(a) }> }"
    )
    return Case("if", made, {"c": np.array(False), "a": a}, {"y": np.abs(a)})
