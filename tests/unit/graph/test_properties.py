"""What holds for any model: random graphs, random convex partitions, run by ``onnx.reference``."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from dioe.graph import (
    Model,
    OpGraph,
    boundaries,
    find_blocks,
    is_convex,
    make_inputs,
    quotient,
    rebuild,
    stage_io,
)
from dioe.types import Plan, Stage, Target
from tests.unit.graph import models

UNARY = ("Relu", "Tanh", "Sigmoid", "Neg")
BINARY = ("Add", "Mul", "Sub", "Max")


@st.composite
def random_models(draw: st.DrawFn) -> onnx.ModelProto:
    """Graphs over [2, 4] tensors: products, multi-output and constant ops, bodies with captures."""
    values = ["x", "z"]
    nodes: list[onnx.NodeProto] = []

    def pick() -> str:
        return draw(st.sampled_from(values))

    def add(op: str, reads: list[str], *names: str, **attributes: Any) -> None:
        named = draw(st.booleans())
        name = f"op{len(nodes)}" if named else draw(st.sampled_from(["", "same"]))
        nodes.append(helper.make_node(op, reads, list(names), name=name, **attributes))

    for i in range(draw(st.integers(2, 14))):
        out = f"v{i}"
        form = draw(st.sampled_from(["unary", "binary", "matmul", "split", "constant", "if"]))
        if form == "unary":
            add(draw(st.sampled_from(UNARY)), [pick()], out)
        elif form == "binary":
            add(draw(st.sampled_from(BINARY)), [pick(), pick()], out)
        elif form == "matmul":
            add("MatMul", [pick(), draw(st.sampled_from(["w0", "w1"]))], out)
        elif form == "split":
            add("Split", [pick()], f"{out}a", f"{out}b", axis=1)
            add("Concat", [f"{out}b", f"{out}a"], out, axis=1)
        elif form == "constant":
            add("Constant", [], f"{out}c", value=models.weights(i, 2, 4))
            add("Add", [pick(), f"{out}c"], out)
        else:
            bodies = {}
            for branch, op in (("then_branch", "Add"), ("else_branch", "Sub")):
                inner = f"{out}{branch}"
                body = [helper.make_node(op, [pick(), pick()], [inner], name=inner)]
                info = helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, [2, 4])
                bodies[branch] = helper.make_graph(body, branch, [], [info])
            add("If", ["flag"], out, **bodies)
        values.append(out)
    wanted = draw(st.lists(st.sampled_from(values[2:]), min_size=1, max_size=3, unique=True))
    proto = models.model(
        nodes,
        {"x": [2, "k"], "z": [2, "k"]},
        {name: [2, 4] for name in wanted},
        [models.weights(1, 4, 4, name="w0"), models.weights(2, 4, 4, name="w1")],
    )
    proto.graph.input.append(helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []))
    return proto


def feeds_of(model: Model) -> dict[str, Any]:
    return dict(make_inputs(model, {"x": (2, 4)})) | {"flag": np.array(True)}


def run_stages(graph: OpGraph, plan: Plan, feeds: dict[str, Any]) -> dict[str, Any]:
    built = rebuild(graph, plan)
    known = dict(feeds)
    for name in built.order:
        part = built.models[name]
        proto = onnx.ModelProto.FromString(part.to_bytes())
        known |= models.reference(proto, {spec.name: known[spec.name] for spec in part.inputs})
    return known


def plan_of(graph: OpGraph, groups: list[list[str]]) -> Plan:
    stages = [
        Stage(f"s{i}", Target("cpu", "x"), tuple(ops), *stage_io(graph, ops))
        for i, ops in enumerate(groups)
        if ops
    ]
    return Plan(graph.model.sha256, "here", tuple(stages), boundaries(graph, stages))


def needed(graph: OpGraph, groups: list[list[str]]) -> bool:
    return all(stage_io(graph, ops)[1] for ops in groups if ops)


quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(random_models())
def test_blocks_cover_each_op_once_and_do_not_depend_in_a_circle(proto: onnx.ModelProto) -> None:
    graph = OpGraph.build(Model.load(proto), {"x": (2, 4)})
    blocks = find_blocks(graph)
    assert sorted(op for block in blocks for op in block.ops) == sorted(graph.ids)
    assert all(is_convex(graph, block.ops) for block in blocks)
    assert all(a < b for a, b in quotient(graph, [block.ops for block in blocks]).edges)
    assert all(stage_io(graph, block.ops)[1] for block in blocks), "a block that nothing needs"
    assert blocks == find_blocks(graph)


@quick
@given(random_models(), st.data())
def test_stages_put_together_compute_what_the_model_computes(
    proto: onnx.ModelProto, data: st.DataObject
) -> None:
    model = Model.load(proto)
    graph = OpGraph.build(model, {"x": (2, 4)} if data.draw(st.booleans()) else None)
    levels: list[int] = []
    for before in graph.predecessors:
        least = max((levels[i] for i in before), default=0)
        levels.append(min(least + data.draw(st.integers(0, 1)), 3))
    groups = [[graph.ids[i] for i, k in enumerate(levels) if k == level] for level in range(4)]
    if not needed(graph, groups):
        return  # a stage of ops that nothing reads is no stage
    feeds = feeds_of(model)
    results = run_stages(graph, plan_of(graph, groups), feeds)
    for name, expected in models.reference(proto, feeds).items():
        np.testing.assert_allclose(results[name], expected, rtol=1e-6, atol=1e-7)


@quick
@given(random_models())
def test_a_model_stays_itself(proto: onnx.ModelProto) -> None:
    model = Model.load(proto)
    bound = model.with_shapes({"x": (2, 4)})
    assert bound.with_shapes({"x": (2, 4)}).to_bytes() == bound.to_bytes()
    assert Model.load(bound.to_bytes()).sha256 == bound.sha256 == model.sha256
    feeds = feeds_of(model)
    expected = models.reference(proto, feeds)
    for same in (model, bound, Model.load(model.ir)):
        results = models.reference(onnx.ModelProto.FromString(same.to_bytes()), feeds)
        for name, value in expected.items():
            np.testing.assert_array_equal(results[name], value)


@pytest.mark.parametrize("make", [models.conv_net, models.attention_net, models.control_net])
def test_every_block_as_a_stage_computes_what_the_model_computes(make: Any) -> None:
    proto = make()
    model = Model.load(proto)
    shapes = {"x": (1, 3, 8, 8)} if make is models.conv_net else {}
    graph = OpGraph.build(model, shapes)
    feeds = dict(make_inputs(model, shapes))
    plan = plan_of(graph, [list(block.ops) for block in find_blocks(graph)])
    results = run_stages(graph, plan, feeds)
    for name, expected in models.reference(proto, feeds).items():
        np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=1e-6)
