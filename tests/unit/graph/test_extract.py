from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from dioe.graph import GraphError, Model, OpGraph, boundaries, extract, stage_io
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


# --- types of values that no file declares

STRINGS = """test (int64[n] x) => (float[n] y) {
  [a] s = Cast <to = 8> (x)
  [b] t = Identity (s)
  [c] y = Cast <to = 1> (t)
}"""
SEQUENCES = """test (float[n,4] x) => (float[m,4] y) {
  [a] h = Neg (x)
  [b] s = SequenceConstruct (x, h)
  [c] t = Identity (s)
  [d] y = ConcatFromSequence <axis = 0> (t)
}"""
STRINGS_IN_SEQUENCES = """test (int64[n] x) => (float[m] y) {
  [a] h = Cast <to = 8> (x)
  [b] s = SequenceConstruct (h, h)
  [c] t = ConcatFromSequence <axis = 0> (s)
  [d] y = Cast <to = 1> (t)
}"""
OPTIONALS = """test (float[n,4] x) => (float[n,4] y) {
  [a] o = Optional (x)
  [b] p = Identity (o)
  [c] y = OptionalGetElement (p)
}"""
OPTIONAL_SEQUENCES = """test (float[n,4] x) => (float[m,4] y) {
  [a] s = SequenceConstruct (x, x)
  [b] o = Optional (s)
  [c] t = OptionalGetElement (o)
  [d] y = ConcatFromSequence <axis = 0> (t)
}"""
TENSOR, TEXT = "tensor(float)", "tensor(string)"
CUTS = [
    (STRINGS, {"s": TEXT, "t": TEXT}),
    (SEQUENCES, {"h": TENSOR, "s": f"seq({TENSOR})", "t": f"seq({TENSOR})"}),
    (STRINGS_IN_SEQUENCES, {"h": TEXT, "s": f"seq({TEXT})", "t": TEXT}),
    (OPTIONALS, {"o": f"optional({TENSOR})", "p": f"optional({TENSOR})"}),
    (
        OPTIONAL_SEQUENCES,
        {"s": f"seq({TENSOR})", "o": f"optional(seq({TENSOR}))", "t": f"seq({TENSOR})"},
    ),
]


def type_text(proto: onnx.TypeProto) -> str:
    """As operator schemas write it."""
    form = proto.WhichOneof("value")
    if form == "tensor_type":
        name = onnx.TensorProto.DataType.Name(proto.tensor_type.elem_type)
        return f"tensor({name.lower()})"
    if form == "map_type":
        key = onnx.TensorProto.DataType.Name(proto.map_type.key_type).lower()
        return f"map({key}, {type_text(proto.map_type.value_type)})"
    assert form in ("sequence_type", "optional_type")
    inner = type_text(getattr(proto, form).elem_type)
    return f"{form.removesuffix('_type').replace('sequence', 'seq')}({inner})"


@pytest.mark.parametrize("shapes", [None, {"x": (2, 4)}], ids=["open", "bound"])
@pytest.mark.parametrize(("text", "types"), CUTS)
def test_types_that_nothing_declares_are_inferred(
    text: str, types: dict[str, str], shapes: dict[str, tuple[int, ...]] | None
) -> None:
    proto = models.parse(text)
    rank = len(proto.graph.input[0].type.tensor_type.shape.dim)
    bound = None if shapes is None else {"x": shapes["x"][:rank]}
    graph = OpGraph.build(Model.load(proto), bound)
    x = np.random.default_rng(5).integers(-9, 9, (2, 4)[:rank])
    dtype = np.float32 if rank == 2 else np.int64
    values = {"x": x.astype(dtype)}
    found: dict[str, str] = {}
    for op in graph.ids:
        part = extract(graph, [op], op)
        made = onnx.ModelProto.FromString(part.to_bytes())
        onnx.checker.check_model(made, full_check=True)
        assert [(s.kind, s.dtype) for s in Model.load(made).inputs] == [
            (s.kind, s.dtype) for s in part.inputs
        ]
        for info in (*made.graph.input, *made.graph.output):
            assert found.setdefault(info.name, type_text(info.type)) == type_text(info.type)
        feeds = {info.name: values[info.name] for info in made.graph.input}
        values |= models.reference(made, feeds)
    assert {name: found[name] for name in types} == types
    np.testing.assert_array_equal(values["y"], models.reference(proto, {"x": values["x"]})["y"])


def test_shapes_of_what_is_inside_are_kept() -> None:
    graph = OpGraph.build(Model.load(models.parse(SEQUENCES)), {"x": (2, 4)})
    part = extract(graph, ["d"], "part")
    (spec,) = part.inputs
    assert (spec.kind, spec.dtype, spec.shape) == ("sequence", np.dtype(np.float32), (2, 4))


def test_a_map_that_nothing_declares_crosses_a_cut() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        test (float[1,3] x) => (int64 y) {
          [a] m = ai.onnx.ml.ZipMap <classlabels_int64s = [4, 5, 6]> (x)
          [b] y = SequenceLength (m)
        }
    """)
    graph = OpGraph.build(Model.load(proto))
    for op in graph.ids:
        part = extract(graph, [op], op).to_proto().graph
        (info,) = [i for i in (*part.input, *part.output) if i.name == "m"]
        assert type_text(info.type) == "seq(map(int64, tensor(float)))"


def test_text_keeps_its_type_where_shapes_fail() -> None:
    proto = models.parse("""test (int64[n] x, int64[m] s) => (float[a] y) {
      [a] t = Cast <to = 8> (x)
      [b] r = Reshape (t, s)
      [c] u = Transpose (r)
      [d] y = Cast <to = 1> (u)
    }""")
    graph = OpGraph.build(Model.load(proto))
    for name in ("t", "r", "u"):
        (reader,) = graph.consumers[name]
        infos = extract(graph, [reader], "part").to_proto().graph.input
        assert {i.name: type_text(i.type) for i in infos}[name] == "tensor(string)"


def test_what_has_no_type_is_not_cut_off() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17, "elsewhere" : 1]>
        test (float[2] x) => (float[2] y) %s {
          [a] h = elsewhere.Odd (x)
          [b] y = Relu (h)
        }
    """
    graph = OpGraph.build(Model.load(onnx.parser.parse_model(text % "")))
    extract(graph, ["a"], "first")  # its maker knows what it makes
    extract(graph, ["a", "b"], "both")
    with pytest.raises(GraphError, match="the type of h, made by Odd a, is neither") as caught:
        extract(graph, ["b"], "second")
    assert "value_info" in caught.value.fix
    assert caught.value.place == graph.model.place
    declared = OpGraph.build(Model.load(onnx.parser.parse_model(text % "<float[2] h>")))
    (spec,) = extract(declared, ["b"], "second").inputs
    assert (spec.dtype, spec.shape) == (np.dtype(np.float32), (2,))
