"""Cases that ONNX's own lack: small networks, types one by one, values beside tensors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from dioe.graph import Model
from dioe.testing.judging import limit
from dioe.testing.models import floats, int8_network, load, model, perceptron, rng, small_network
from dioe.types import Array, Precision


@dataclass(frozen=True)
class Case:
    """A model, a feed, and what has to come out.

    ``continuous``: small errors of the input stay small, so that it can be judged in lower
    precisions than fp32 too.
    """

    name: str
    model: Model
    feeds: dict[str, Any]
    expected: dict[str, Any]
    continuous: bool = False

    def limit(self, precision: Precision) -> float:
        """The largest error allowed in ``precision``."""
        quantised = "DequantizeLinear" in self.model.op_types
        return limit(precision, self.feeds, self.expected, quantised=quantised)


def _typed(name: str, element: int, values: Array) -> Case:
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Identity", ["x"], ["t"]), helper.make_node("Identity", ["t"], ["y"])],
        [info("x", element, list(values.shape))],
        [info("y", element, list(values.shape))],
        opset=21,
    )
    return Case(f"identity-{name}", made, {"x": values}, {"y": values})


def _network(name: str, made: Model, *shape: int) -> Case:
    """A network with what onnx.reference computes."""
    from onnx.reference import ReferenceEvaluator

    feeds = {"x": floats(*shape, seed=11)}
    expected = ReferenceEvaluator(onnx.load_from_string(made.to_bytes())).run(None, feeds)
    names = [spec.name for spec in made.outputs]
    return Case(name, made, feeds, dict(zip(names, expected, strict=True)), continuous=True)


@functools.cache
def cases() -> tuple[Case, ...]:
    """Networks, ops and types worth a look."""
    r = rng(7)
    a, b = floats(2, 3, seed=1), floats(3, 2, seed=2)
    scalar = np.asarray(r.standard_normal(), np.float32)
    indices = np.array([2, 0, 1, 2], np.int64)
    words = np.array(["a", "", "ünïcödé", "longer than the others"], dtype=object)
    return (
        _network("convolutions", small_network(), 1, 3, 16, 16),
        _network("perceptron", perceptron(), 5, 32),
        _network("int8-weights", int8_network(), 8, 64),
        Case(
            "matmul",
            model("g (float[2,3] a, float[3,2] b) => (float[2,2] y) { y = MatMul(a, b) }"),
            {"a": a, "b": b},
            {"y": a @ b},
            continuous=True,
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
            "data-dependent-shape",
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
            "constant-output",
            model(
                "g (float[2,3] a) => (float[2,3] y, float[2] c) {"
                " y = Neg(a) c = Constant<value_floats = [1.5, 2.5]>() }"
            ),
            {"a": a},
            {"y": -a, "c": np.array([1.5, 2.5], np.float32)},
        ),
        Case(
            "input-given-on",
            model(
                "g (float[2,3] a) => (float[2,3] y, float[2,3] z) { y = Identity(a) z = Neg(a) }"
            ),
            {"a": a},
            {"y": a, "z": -a},
        ),
        _typed("strings", TensorProto.STRING, words),
        _typed("bfloat16", TensorProto.BFLOAT16, a.astype(ml_dtypes.bfloat16)),
        _typed("float8", TensorProto.FLOAT8E4M3FN, a.astype(ml_dtypes.float8_e4m3fn)),
        _typed(
            "int4",
            TensorProto.INT4,
            r.integers(-8, 8, (3, 3)).astype(ml_dtypes.int4),
        ),
        _typed(
            "uint4",
            TensorProto.UINT4,
            r.integers(0, 16, (5,)).astype(ml_dtypes.uint4),
        ),
        *(
            _typed(
                np.dtype(t).name,
                helper.np_dtype_to_tensor_dtype(np.dtype(t)),
                r.integers(0, 100, (2, 5)).astype(t),
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
    )


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
    )


def _optional_case(a: Array) -> Case:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3])
    made = load(
        [helper.make_node("OptionalGetElement", ["o"], ["y"])],
        [helper.make_value_info("o", helper.make_optional_type_proto(tensor))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    return Case("optional", made, {"o": a}, {"y": a})


def _branches(a: Array) -> Case:
    made = model(
        "g (bool c, float[2,3] a) => (float[2,3] y) { y = If (c) <"
        " then_branch = p () => (float[2,3] t) { t = Neg(a) },"
        " else_branch = q () => (float[2,3] e) { e = Abs(a) }> }"
    )
    return Case("if", made, {"c": np.array(False), "a": a}, {"y": np.abs(a)})
