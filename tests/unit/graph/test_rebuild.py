from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import networkx as nx
import pytest

from dioe.graph import Model, OpGraph, boundaries, rebuild, stage_io
from dioe.types import Plan, PlanMismatch, Precision, Stage, Target
from tests.unit.graph import models


@pytest.fixture(scope="module")
def graph() -> OpGraph:
    return OpGraph.build(Model.load(models.conv_net()), {"x": (1, 3, 8, 8)})


def plan_of(graph: OpGraph, cuts: tuple[int, ...], targets: tuple[Target, ...]) -> Plan:
    edges = (0, *cuts, len(graph.ids))
    stages = []
    for i, (start, stop) in enumerate(pairwise(edges)):
        ops = graph.ids[start:stop]
        stages.append(Stage(f"s{i}", targets[i], ops, *stage_io(graph, ops)))
    return Plan(graph.model.sha256, "here", tuple(stages), boundaries(graph, stages))


CPU = Target("cpu", "onnxruntime")
GPU = Target("gpu:0", "onnxruntime")


def test_one_stage_is_the_model_itself(graph: OpGraph) -> None:
    built = rebuild(graph, plan_of(graph, (), (CPU,)))
    assert built.models == {"s0": graph.model}
    assert built.order == ("s0",)
    assert not built.boundaries


def test_transfers_conversions_and_plain_edges(graph: OpGraph) -> None:
    bf16 = Target("cpu", "openvino", (Precision.BF16,))
    plan = plan_of(graph, (2, 6, 9, 10), (GPU, CPU, bf16, bf16, bf16))
    predicted = replace(plan.boundaries[0], predicted_ms=0.5)
    built = rebuild(graph, replace(plan, boundaries=(predicted, *plan.boundaries[1:])))
    kinds = nx.get_node_attributes(built.digraph, "kind")
    assert kinds["s0>s1:n1"] == "transfer"
    assert kinds["s1>s2:d1"] == "conversion"
    assert built.digraph.edges["s2", "s3"]["boundaries"][0].value == "y1"
    assert built.digraph.nodes["s0>s1:n1"]["boundary"].predicted_ms == 0.5
    assert built.digraph.nodes["s2"]["model"] is built.models["s2"]
    assert nx.is_directed_acyclic_graph(built.digraph)


def test_order_is_topological_whatever_the_plan_says(graph: OpGraph) -> None:
    plan = plan_of(graph, (6,), (CPU, GPU))
    assert rebuild(graph, replace(plan, stages=plan.stages[::-1])).order == ("s0", "s1")


def test_constants_in_a_plan_are_ignored() -> None:
    proto = models.parse("""test (float[2] x) => (float[2] y) {
      c = Constant <value_floats = [1.0, 2.0]> ()
      h = Add (x, c)
      y = Mul (h, c)
    }""")
    graph = OpGraph.build(Model.load(proto))
    stages = (
        Stage("a", CPU, ("c", "h"), ("x",), ("h",)),
        Stage("b", GPU, ("c", "y"), ("h",), ("y",)),
    )
    built = rebuild(graph, Plan(graph.model.sha256, "here", stages))
    assert built.models["b"].op_ids == ("c", "y")


def test_plans_that_do_not_fit_are_refused(graph: OpGraph) -> None:
    plan = plan_of(graph, (6,), (CPU, GPU))
    first, second = plan.stages

    def refused(message: str, **changes: object) -> None:
        with pytest.raises(PlanMismatch, match=message) as caught:
            rebuild(graph, replace(plan, **changes))  # type: ignore[arg-type]
        assert caught.value.fix

    refused("is for model ffff", model_sha256="f" * 64)
    refused("is in two stages", stages=(first, replace(second, ops=(*second.ops, "bn"))))
    refused("'s0' is there twice", stages=(first, replace(second, name="s0")))
    refused("places 'ghost'", stages=(first, replace(second, ops=(*second.ops, "ghost"))))
    refused("1 ops are in no stage", stages=(first, replace(second, ops=second.ops[:-1])))
    mixed = (first.ops[::2] + second.ops, first.ops[1::2])
    refused("circle", stages=(replace(first, ops=mixed[0]), replace(second, ops=mixed[1])))
