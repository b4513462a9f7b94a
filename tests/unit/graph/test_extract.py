from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from dioe.graph import Model, OpGraph, boundaries, extract, stage_io
from dioe.types import Boundary, Stage, Target
from tests.unit.graph import models


@pytest.fixture(scope="module")
def graph() -> OpGraph:
    return OpGraph.build(Model.load(models.conv_net()), {"x": (1, 3, 8, 8)})


def test_what_crosses_a_cut(graph: OpGraph) -> None:
    assert stage_io(graph, graph.ids) == (("x",), ("y",))
    assert stage_io(graph, ["conv2", "residual"]) == (("d1",), ("r",))
    assert stage_io(graph, ["gate", "conv1", "bn"]) == (("x", "k1"), ("n1", "m1"))
    with pytest.raises(ValueError, match="no op 'ghost'"):
        stage_io(graph, ["ghost"])


def test_a_part_has_shapes_types_and_shared_weights(graph: OpGraph) -> None:
    part = extract(graph, ["conv2", "residual"], "middle")
    assert part.op_ids == ("conv2", "residual")
    assert [(s.name, s.dtype, s.shape) for s in part.inputs] == [
        ("d1", np.dtype(np.float32), (1, 4, 8, 8))
    ]
    assert part.outputs[0].shape == (1, 4, 8, 8)
    assert list(part.ir.graph.initializers) == ["w2"]
    whole = graph.model.ir.graph.initializers["w2"].const_value
    assert part.ir.graph.initializers["w2"].const_value is whole
    onnx.checker.check_model(part.to_bytes(), full_check=True)


def test_constant_nodes_and_captured_values_come_along() -> None:
    proto = models.control_net()
    constant = helper.make_node("Constant", [], ["half"], name="half", value_float=0.5)
    proto.graph.node.insert(0, constant)
    proto.graph.node[3].attribute[0].g.node[0].input[1] = "half"  # t1 = Add(a, half)
    graph = OpGraph.build(Model.load(proto))
    part = extract(graph, ["branch"], "branch")
    assert [spec.name for spec in part.inputs] == ["flag", "a", "b"]
    assert part.op_ids == ("half", "branch")
    assert list(part.ir.graph.initializers) == ["w"]
    onnx.checker.check_model(part.to_bytes())
    assert Model.load(part.to_bytes()).op_ids == part.op_ids


def test_symbols_stay_and_made_up_ones_do_not() -> None:
    graph = OpGraph.build(Model.load(models.conv_net()))
    part = extract(graph, ["conv2", "residual"], "part")
    shape = part.inputs[0].shape
    assert shape is not None
    assert shape[:2] == ("n", 4)
    assert not any(isinstance(dim, str) and dim.startswith("unk") for dim in shape)


def test_ids_survive_a_name_that_is_another_output() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="b"),  # named as the next one's output
        helper.make_node("Neg", ["a"], ["b"], name=""),
        helper.make_node("Abs", ["b"], ["y"], name=""),
    ]
    graph = OpGraph.build(Model.load(models.model(nodes, {"x": [2]}, {"y": [2]})))
    assert graph.ids == ("a", "b", "y")
    for op in graph.ids:
        part = extract(graph, [op], "part")
        assert part.op_ids == (op,)
        assert Model.load(part.to_bytes()).op_ids == (op,)


def test_functions_come_along() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        test (float[2,4] x) => (float[2,4] y) { [a] h = Relu (x)  [b] y = mine.twice (h) }
        <domain: "mine", opset_import: ["" : 17]>
        twice (v) => (w) { w = Add (v, v) }
    """)
    part = extract(OpGraph.build(Model.load(proto)), ["b"], "part")
    feed = {"h": np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)}
    result = models.reference(onnx.ModelProto.FromString(part.to_bytes()), feed)
    np.testing.assert_array_equal(result["y"], 2 * feed["h"])


def test_ops_that_nothing_needs_are_no_stage() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="r")]
    nodes.append(helper.make_node("Neg", ["x"], ["unused"], name="dead"))
    graph = OpGraph.build(Model.load(models.model(nodes, {"x": [2]}, {"y": [2]})))
    with pytest.raises(ValueError, match="nothing that is needed"):
        extract(graph, ["dead"], "part")


def test_boundaries_have_sizes(graph: OpGraph) -> None:
    cut = graph.index["conv2"]
    parts = {"a": graph.ids[:cut], "b": graph.ids[cut:]}
    stages = [
        Stage(name, Target("cpu", "x"), ops, *stage_io(graph, ops)) for name, ops in parts.items()
    ]
    assert boundaries(graph, stages) == (Boundary("d1", "a", "b", nbytes=4 * 8 * 8 * 4),)
