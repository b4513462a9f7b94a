"""Colours: by plan, by cost, by support, and what blocks of several ops get."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dioe.types import Precision, Precisions, Target
from dioe_inspect import inspect_model
from dioe_inspect.groups import group_ops, letters
from tests.unit.inspect.models import OPENVINO, ORT, answers, graph_of, plan_of


def test_by_support() -> None:
    graph = graph_of()
    grouping = group_ops(inspect_model(graph, answers(graph)))
    # A target that takes nothing tells ops apart in nothing.
    assert grouping.labels == (f"all of {ORT}, {OPENVINO}", f"only {ORT}")
    assert grouping.group_of["first"] == 0
    assert grouping.group_of["pool"] == 1
    assert grouping.refused == {"pool"}
    assert grouping.of(["first", "relu1"]) == 0
    assert grouping.of(["first", "pool"]) == 1  # both together: only one target is left


def test_by_support_without_targets() -> None:
    grouping = group_ops(inspect_model(graph_of(), {}))
    assert grouping.labels == ()
    assert grouping.of(["first", "pool"]) is None


def test_by_plan() -> None:
    graph = graph_of()
    grouping = group_ops(inspect_model(graph, answers(graph), plan=plan_of(graph)))
    assert grouping.labels == (f"s0 on {OPENVINO}", f"s1 on {ORT}")
    assert grouping.of(["first", "pool"]) is None


def test_by_plan_of_one_stage_that_mixes_precisions() -> None:
    graph = graph_of()
    plan = plan_of(graph)
    stage = replace(
        plan.stages[0], target=Target.parse("cpu/openvino/bf16+fp32"), ops=tuple(graph.ids),
        precisions=Precisions(Precision.BF16, {"pool": Precision.FP32}),
    )  # fmt: skip
    mixed = replace(plan, stages=(stage,))
    grouping = group_ops(inspect_model(graph, answers(graph), plan=mixed))
    assert grouping.labels == ("cpu/openvino/bf16", OPENVINO)
    assert grouping.group_of["pool"] == 1


def test_by_cost_of_the_block() -> None:
    """ONNX Runtime has no time of its own for the fused Relu; its Conv is dearer all the same."""
    graph = graph_of()
    support = {**answers(graph)}
    costs = {ORT: {"first": 3.0}, OPENVINO: {"first": 1.0, "relu1": 1.0, "pool": 0.1}}
    inspection = inspect_model(graph, support, costs)
    grouping = group_ops(inspection)
    blocks = {op.id: op.block for op in inspection.ops}
    assert blocks["first"] == blocks["relu1"]
    assert grouping.group_of["first"] == grouping.group_of["relu1"]
    assert grouping.labels[grouping.group_of["first"] or 0] == OPENVINO
    assert blocks["pool"] == blocks["second"]
    assert grouping.of(["second", "pool"]) is None  # OpenVINO can't take it all, ORT has no times


@pytest.mark.parametrize(("index", "text"), [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ")])
def test_letters(index: int, text: str) -> None:
    assert letters(index) == text
