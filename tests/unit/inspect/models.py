"""Small models to inspect, and answers of backends that aren't there."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dioe.graph import Model, OpGraph
from dioe.types import Basis, Plan, Stage, Support, Target

HOSTILE = "</script><img src=x onerror=\"alert('1')\">&amp;[red]\x1b[2J"
"""A name that is dangerous in HTML, in a script, in rich's markup, and to a terminal."""

ORT, OPENVINO, INT8 = "cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/openvino/int8"


def small(name: str = "first") -> Model:
    """Two equal convolutions with ReLU, a residual addition, and a Mul on dynamic batch."""
    random = np.random.default_rng(7)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name=name, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("Add", ["d", "x"], ["e"], name="sum"),
        helper.make_node("GlobalAveragePool", ["e"], ["y"], name="pool"),
    ]
    weights = [
        numpy_helper.from_array(random.normal(size=(4, 4, 3, 3)).astype("f4"), f"w{i}")
        for i in (1, 2)
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["n", 4, 8, 8])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 4, 1, 1])],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    return Model.load(
        helper.make_model(graph, opset_imports=[opset], ir_version=9, producer_name="maker")
    )


def graph_of(model: Model | None = None, batch: int | None = 1) -> OpGraph:
    """The graph of a model, its batch bound."""
    shapes = None if batch is None else {"x": (batch, 4, 8, 8)}
    return OpGraph.build(model or small(), shapes)


def answers(graph: OpGraph) -> dict[str, Support]:
    """One target takes all, one refuses the pooling, one refuses everything."""
    ids = frozenset(graph.ids)
    return {
        ORT: Support(ids),
        OPENVINO: Support(ids - {"pool"}, {"pool": "no pooling here"}),
        INT8: Support(frozenset(), dict.fromkeys(graph.ids, "nothing is quantised")),
    }


def plan_of(graph: OpGraph) -> Plan:
    """Two stages: the pooling on ONNX Runtime, the rest on OpenVINO."""
    rest = tuple(op for op in graph.ids if op != "pool")
    return Plan(
        model_sha256=graph.model.sha256,
        hardware="none",
        stages=(
            Stage("s0", Target.parse(OPENVINO), rest, ("x",), ("e",)),
            Stage("s1", Target.parse(ORT), ("pool",), ("e",), ("y",)),
        ),
        predicted_ms=1.25,
        basis=Basis.MEASURED,
    )
