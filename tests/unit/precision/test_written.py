"""The precisions that a model is written in."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.precision import written_precisions
from dioe.types import Precision
from tests.toys import models

INFO = helper.make_tensor_value_info


def of(nodes: list[onnx.NodeProto], *weights: onnx.TensorProto, opset: int = 21) -> set[Precision]:
    ends = [INFO("x", TensorProto.FLOAT, [4, 8])], [INFO("y", TensorProto.FLOAT, [4, 8])]
    graph = helper.make_graph(nodes, "g", *ends, list(weights))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return set(written_precisions(Model.load(proto)))


def test_a_model_of_floats() -> None:
    assert written_precisions(Model.load(models.dense())) == frozenset()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(TensorProto.FLOAT16, Precision.FP16), (TensorProto.BFLOAT16, Precision.BF16)],
)
def test_ops_on_halves(kind: int, expected: Precision) -> None:
    casts = [
        helper.make_node("Cast", ["x"], ["h"], to=kind),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    assert of(casts) == set()  # nothing computes in it
    casts.insert(1, helper.make_node("Tanh", ["h"], ["t"]))
    casts[2].input[0] = "t"
    assert of(casts) == {expected}


def test_quantised_weights() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    rng = np.random.default_rng(2)
    scale = numpy_helper.from_array(np.full(8, 0.1, np.float32), "s")
    ints = rng.integers(-8, 8, (8, 8)).astype(np.int8)
    assert of(nodes, numpy_helper.from_array(ints, "w"), scale) == {Precision.INT8}
    narrow = helper.make_tensor("w", TensorProto.INT4, [8, 8], ints.ravel())
    assert of(nodes, narrow, scale) == {Precision.INT4}
