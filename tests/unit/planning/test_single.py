"""The plan of one stage."""

from __future__ import annotations

from typing import Any

from dioe.planning import single_target_plan
from dioe.types import Basis, Plan, Precision, Resources, Target, TargetReport

REPORT = TargetReport("cpu/openvino/bf16", "ok", p50_ms=3.25, runs=40, relative_l2=0.004)


def make(**changes: Any) -> Plan:
    arguments: dict[str, Any] = {
        "model_sha256": "ab" * 32,
        "hardware": "0123",
        "ops": ["conv", "relu"],
        "inputs": ["x"],
        "outputs": ["y"],
        "shapes": {"x": (1, "height", 3)},
        "resources": Resources(threads=2),
        "policy": "latency",
        "precision": "auto",
        "limit": 1e-2,
        "versions": {"openvino": "2026.4.1"},
    }
    return single_target_plan(Target.parse("cpu/openvino/bf16"), **arguments | changes)


def test_a_measured_plan() -> None:
    plan = make(report=REPORT, candidates=[REPORT], notes=["a note"])
    (stage,) = plan.stages
    assert str(stage.target) == "cpu/openvino/bf16"
    assert (stage.ops, stage.inputs, stage.outputs) == (("conv", "relu"), ("x",), ("y",))
    assert stage.precisions.default is Precision.BF16
    assert stage.resources.threads == 2
    assert (stage.predicted_ms, stage.basis) == (3.25, Basis.MEASURED)
    assert (plan.predicted_ms, plan.basis) == (3.25, Basis.MEASURED)
    assert (plan.relative_l2, plan.max_relative_l2) == (0.004, 1e-2)
    assert plan.candidates == (REPORT,)
    assert plan.boundaries == ()
    assert plan.shapes == {"x": (1, "height", 3)}
    assert (plan.notes, plan.versions) == (("a note",), {"openvino": "2026.4.1"})


def test_without_measurements_no_cost_is_claimed() -> None:
    for report in (None, TargetReport("cpu/openvino/bf16", "ok")):
        plan = make(report=report)
        assert (plan.predicted_ms, plan.basis) == (None, Basis.DEFAULT)
        assert (plan.stages[0].predicted_ms, plan.stages[0].basis) == (None, Basis.DEFAULT)
        assert plan.relative_l2 is None
