"""From placements to plans that hold: of real graphs, cut, read back, put together and run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.graph import Model, OpGraph, boundaries, find_blocks, make_inputs, rebuild
from dioe.planning import (
    Cost,
    Line,
    PlacedStage,
    Placement,
    Problem,
    TargetCosts,
    build_problem,
    check_plan,
    place,
    plan_from_json,
    simulate,
    to_plan,
    tradeoff_curve,
    tradeoffs,
)
from dioe.types import Basis, Plan, Precision, Resources, Target, TargetReport
from tests.unit.graph import models

quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
NETS: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "conv": (models.conv_net, {"x": (1, 3, 8, 8)}),
    "attention": (models.attention_net, {"ids": (1, 6)}),
    "control": (models.control_net, {}),
}
NAMES = ("cpu/a/bf16", "cpu/a/fp32", "cpu/b/fp32", "gpu:0/c/fp16")


@cache
def graph_of(net: str) -> OpGraph:
    make, shapes = NETS[net]
    return OpGraph.build(Model.load(make()), shapes)


def problem_of(net: str) -> Problem:
    graph = graph_of(net)
    blocks = find_blocks(graph)
    targets = [
        TargetCosts(
            Target.parse(name),
            {
                b.id: Cost((1 + (3 * i + 5 * t) % 7) / 4, Basis.CORRECTED, 20)
                for i, b in enumerate(blocks)
            },
            Resources(threads=2, spin=False),
            mixes="/a/" in name,
            dispatch_ms=0.25,
            entry=Line(0.25, 2.0**-10),
            exit=Line(0.125, 2.0**-11),
        )
        for t, name in enumerate(NAMES)
    ]
    a, b = targets[0].context, targets[2].context
    return build_problem(graph, blocks, targets, handover={(a, b): 0.5}, switch=Line(0.0625))


def plan_of(problem: Problem, placement: Placement, graph: OpGraph, **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "hardware": "feed",
        "shapes": {"x": (1, 3, 8, 8)},
        "policy": "latency",
        "precision": "auto",
        "limit": 1e-2,
    }
    return to_plan(problem, placement, graph, **given | changes)


@st.composite
def placements(draw: st.DrawFn, problem: Problem) -> Placement:
    ids = [block.id for block in problem.blocks]
    cuts = sorted(draw(st.sets(st.integers(1, max(len(ids) - 1, 1)), max_size=3)) - {len(ids)})
    stages = []
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        group = draw(st.sampled_from(problem.groups))
        targets = tuple(draw(st.sampled_from(group)) for _ in range(start, end))
        stages.append(PlacedStage(tuple(ids[start:end]), targets))
    return Placement(tuple(stages))


@pytest.mark.parametrize("net", NETS)
@quick
@given(st.data())
def test_any_placement_makes_a_plan_that_holds(net: str, data: st.DataObject) -> None:
    problem, graph = problem_of(net), graph_of(net)
    placement = data.draw(placements(problem))
    plan = plan_of(problem, placement, graph)
    again = plan_from_json(plan.to_json())
    assert again == plan
    check_plan(replace(again, shapes={}), graph.model, hardware="feed")  # of no net but one
    built = rebuild(graph, again)
    assert built.order == tuple(f"s{i}" for i in range(len(plan.stages)))
    assert built.boundaries == plan.boundaries
    for stage in plan.stages:
        model = built.models[stage.name]
        assert stage.inputs == tuple(spec.name for spec in model.inputs)
        assert stage.outputs == tuple(spec.name for spec in model.outputs)
        assert set(stage.precisions.exceptions) <= set(stage.ops)
        assert [graph.index[op] for op in stage.ops] == sorted(graph.index[op] for op in stage.ops)
    simulation = simulate(problem, placement)
    assert plan.predicted_ms == simulation.total_ms
    handovers = sum(stage.handover_ms for stage in simulation.stages)
    assert sum(s.predicted_ms or 0.0 for s in plan.stages) + handovers == pytest.approx(
        plan.predicted_ms
    )
    for block in plan.blocks:
        stage = next(s for s in plan.stages if s.name == block.stage)
        precision = Target.parse(block.target).precisions[0]
        assert set(block.ops) <= set(stage.ops)
        assert {stage.precisions.of(op) for op in block.ops} == {precision}


@pytest.mark.parametrize("net", NETS)
def test_the_stages_compute_what_the_model_computes(net: str) -> None:
    problem, graph = problem_of(net), graph_of(net)
    plan = plan_of(problem, min(place(problem), key=lambda p: -len(p.stages)), graph)
    assert len(plan.stages) > 1
    built = rebuild(graph, plan)
    feeds = dict(make_inputs(graph.model, NETS[net][1]))
    known: dict[str, Any] = dict(feeds)
    for stage in plan.stages:
        proto = onnx.ModelProto.FromString(built.models[stage.name].to_bytes())
        known |= models.reference(proto, {name: known[name] for name in stage.inputs})
    for name, expected in models.reference(NETS[net][0](), feeds).items():
        np.testing.assert_allclose(known[name], expected, rtol=1e-5, atol=1e-6)


def test_a_mix_is_named_by_its_parts() -> None:
    problem, graph = problem_of("conv"), graph_of("conv")
    first, *rest = (block.id for block in problem.blocks)
    placement = Placement((PlacedStage((first, *rest), (1, *[0] * len(rest))),))
    (stage,) = plan_of(problem, placement, graph).stages
    assert str(stage.target) == "cpu/a/bf16+fp32"
    assert stage.precisions.default is Precision.BF16
    assert stage.precisions.exceptions == dict.fromkeys(problem.blocks[0].ops, Precision.FP32)
    # mostly fp32, bf16 is the default all the same: backends lower a model and keep some ops
    placement = Placement((PlacedStage((first, *rest), (0, *[1] * len(rest))),))
    (stage,) = plan_of(problem, placement, graph).stages
    assert str(stage.target) == "cpu/a/bf16+fp32"
    assert set(stage.precisions.exceptions) == set(graph.ids) - set(problem.blocks[0].ops)
    assert stage.resources == Resources(threads=2, spin=False)
    placement = Placement((PlacedStage((first, *rest), (1,) * (1 + len(rest))),))
    (stage,) = plan_of(problem, placement, graph).stages
    assert (str(stage.target), stage.precisions.exceptions) == ("cpu/a/fp32", {})


def test_what_a_boundary_costs() -> None:
    problem, graph = problem_of("attention"), graph_of("attention")
    ids = [block.id for block in problem.blocks]
    stages = tuple(PlacedStage((name,), (2 if i % 2 else 1,)) for i, name in enumerate(ids))
    plan = plan_of(problem, Placement(stages), graph)
    assert len(ids) > 2
    readers: dict[str, int] = {}
    for edge in plan.boundaries:
        size = edge.nbytes or 0
        exit_ms = 0.0 if edge.value in readers else 0.125 + size * 2.0**-11
        readers[edge.value] = readers.get(edge.value, 0) + 1
        assert edge.predicted_ms == pytest.approx(exit_ms + 0.25 + size * 2.0**-10)
    assert max(readers.values()) > 1
    assert tuple(replace(e, predicted_ms=None) for e in plan.boundaries) == boundaries(
        graph, plan.stages
    )


def test_the_rest_of_a_plan() -> None:
    problem, graph = problem_of("conv"), graph_of("conv")
    report = TargetReport("cpu/a/fp32", "ok", p50_ms=3.0, runs=10)
    shares = {(b.id, t.precision): 1e-6 for b in problem.blocks for t in problem.targets[::3]}
    curve = tradeoff_curve(problem, shares)
    plan = plan_of(
        problem,
        place(problem)[0],
        graph,
        relative_l2=2e-3,
        candidates=[report],
        tradeoffs=tradeoffs(problem, curve),
        notes=["a note"],
        versions={"openvino": "2026.4.1"},
    )
    assert (plan.policy, plan.precision, plan.max_relative_l2) == ("latency", "auto", 1e-2)
    assert (plan.relative_l2, plan.candidates, plan.notes) == (2e-3, (report,), ("a note",))
    assert plan.versions == {"openvino": "2026.4.1"}
    assert plan.basis is Basis.PREDICTED
    assert {stage.basis for stage in plan.stages} == {Basis.PREDICTED}
    assert len(plan.tradeoffs) > 1
    assert plan.tradeoffs[0].relative_l2 == 0.0
    assert plan.tradeoffs[-1].latency_ms == plan.predicted_ms
    assert plan_from_json(plan.to_json()) == plan
    assert "blocks on " in plan.explain()


def test_a_cost_that_nobody_knows() -> None:
    problem, graph = problem_of("conv"), graph_of("conv")
    first, *rest = (block.id for block in problem.blocks)
    placement = Placement((PlacedStage((first,), (1,)), PlacedStage(tuple(rest), (2,) * len(rest))))
    guessed = problem.with_costs(1, {first: Cost(1.0, Basis.DEFAULT)})
    plan = plan_of(guessed, placement, graph)
    assert [stage.basis for stage in plan.stages] == [Basis.DEFAULT, Basis.PREDICTED]
    assert plan.basis is Basis.DEFAULT


def test_blocks_of_another_graph() -> None:
    problem = problem_of("conv")
    with pytest.raises(ValueError, match="aren't those of the graph"):
        plan_of(problem, place(problem)[0], graph_of("attention"))
