"""Plans of pipelines: what is tuned, chosen and kept, and what they are refused for."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dioe
from dioe.planning import pipeline_plan_from_json
from dioe.runtime import Pipeline, Runtime, Session
from dioe.tuning.pipeline_plans import BESIDE, check_pipeline_plan
from dioe.types import (
    BackendError,
    InputError,
    PipelinePlan,
    PlanMismatch,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.pipelines import DENSE, X, by_hand, chain, close, positive


@pytest.fixture
def plan() -> PipelinePlan:
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0) as session:
        return session.plan


# --- made before ----------------------------------------------------------------------------------


def test_a_plan_made_before_measures_nothing(plan: PipelinePlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert dioe.load_plan(path) == plan
    for form in (plan, path, str(path)):
        with dioe.compile(chain(), plan=form) as session:
            assert session.plan == plan
            close(session.run({"x": X})["b.y"], by_hand(X))
    assert "positive" not in path.read_text()  # never code, nor its name


MISMATCHES: dict[str, tuple[Pipeline, str, str]] = {
    "another model": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": models.dense(seed=3)},
            [("a.y", "post.x"), ("post.out", "b.x")],
        ),
        "node 'b': plan",
        "made for another model",
    ),
    "another edge": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": DENSE[1]}, [("a.y", "b.x"), ("b.y", "post.x")]
        ),
        "node '",
        "edge ",
    ),
    "another parameter": (
        Pipeline(
            {"a": DENSE[0], "post": lambda x, least: x, "b": DENSE[1]},
            [("a.y", "post.x"), ("post.out", "b.x")],
        ),
        "node 'post'",
        "is given least, x, in the plan x",
    ),
    "a callable for a model": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": positive},
            [("a.y", "post.x"), ("post.out", "b.x")],
        ),
        "node 'b'",
        "has a model of this name",
    ),
    "one more": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": DENSE[1], "c": positive},
            [("a.y", "post.x"), ("post.out", "b.x"), ("b.y", "c.x")],
        ),
        "node 'c'",
        "the plan has none",
    ),
    "one more output": (chain(outputs=["a.y"]), "node 'a'", "isn't asked for in the plan"),
    "one edge less": (
        Pipeline({"a": DENSE[0], "post": positive, "b": DENSE[1]}, [("a.y", "post.x")]),
        "node 'b'",
        "edge post.out -> b.x isn't in the pipeline",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_plan_of_something_else(name: str, plan: PipelinePlan) -> None:
    pipeline, place, message = MISMATCHES[name]
    with pytest.raises(PlanMismatch) as caught:
        dioe.compile(pipeline, plan=plan)
    assert caught.value.place.startswith(place)
    assert message in caught.value.cause
    assert "session.plan.to_json()" in caught.value.fix
    assert "dioe plan" not in caught.value.fix


def test_a_plan_with_other_calls(plan: PipelinePlan) -> None:
    called = replace(plan, calls={"post.net": "b"})
    with pytest.raises(PlanMismatch, match=r"post\.net calls nothing, in the plan b"):
        check_pipeline_plan(called, chain())


def test_plans_of_models_and_of_pipelines_are_told_apart(plan: PipelinePlan) -> None:
    alone = plan.models["a"].plans[0]
    with pytest.raises(PlanMismatch, match="the plan of a model, not of a pipeline"):
        dioe.compile(chain(), plan=alone)
    with pytest.raises(PlanMismatch, match="the plan of a pipeline, not of a model"):
        dioe.compile(DENSE[0], plan=plan)
    for model, found in ((chain(), plan), (DENSE[0], alone)):
        with pytest.raises(InputError, match="the text of a plan") as caught:
            dioe.compile(model, plan=found.to_json())
        assert "session.plan" in caught.value.fix
    with pytest.raises(InputError, match="plan is a int"):
        dioe.compile(chain(), plan=3)  # type: ignore[call-overload]


def test_json_of_another_version(plan: PipelinePlan) -> None:
    data = json.loads(plan.to_json())
    for change, message in (
        ({"version": 99}, "plan version 99"),
        ({"order": ["a"]}, "order isn't of its nodes"),
        ({"format": "dioe-plan"}, "the plan of a model"),
        ({"format": "other"}, "not a DIOE plan"),
        ({"code": "import os"}, "unknown key"),
        ({"edges": [{"source": "z.y", "destination": "a.x"}]}, "unknown node"),
        ({"tasks": {"post": {"parameters": "x"}}}, "a list is wanted"),
    ):
        with pytest.raises(PlanMismatch, match=message):
            pipeline_plan_from_json(json.dumps(data | change))
    broken = json.loads(plan.to_json())
    broken["models"]["b"]["plans"][0]["stages"] = []
    with pytest.raises(PlanMismatch, match="has no stages") as caught:
        pipeline_plan_from_json(json.dumps(broken))
    assert "node 'b'" in caught.value.place
    assert "session.plan.to_json()" in caught.value.fix
    with pytest.raises(PlanMismatch) as caught:
        pipeline_plan_from_json(json.dumps(data | {"version": 99}))
    assert "session.plan.to_json()" in caught.value.fix


# --- choosing -------------------------------------------------------------------------------------


def test_what_was_tuned_is_found_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dioe")  # a command may have set it otherwise
    call: dict[str, Any] = {"sample_inputs": {"x": X}, "tuning_budget_s": 1.0}
    with dioe.compile(chain(), **call) as session:
        first = session.plan
    with dioe.compile(chain(), **call) as session:
        assert session.plan == first
        close(session.run({"x": X})["b.y"], by_hand(X))
    assert "plan of the pipeline found in the cache" in caplog.text
    with dioe.compile(chain(outputs=["a.y"]), **call) as session:
        assert session.plan != first


def test_pins_name_the_node(use_backends: UseBackends) -> None:
    use_backends(ToyBackend(), installed=("onnxruntime", "reference"))

    def targets(*pins: str, **settings: Any) -> dict[str, str]:
        with dioe.compile(
            chain(), sample_inputs={"x": X}, tuning_budget_s=0, pins=pins, **settings
        ) as session:
            close(session.run({"x": X})["b.y"], by_hand(X))
            return {name: session.plan.where(name) for name in session.plan.costs}

    assert targets("a=cpu/toy") == {
        "a": "cpu/toy/fp32", "post": "host", "b": "cpu/onnxruntime/fp32",
    }  # fmt: skip
    assert targets("b.*=cpu/toy")["b"] == "cpu/toy/fp32"
    mixed = targets("b.type:MatMul=cpu/toy", "b.type:Add=cpu/onnxruntime")["b"]
    assert set(mixed.split(" -> ")) == {"cpu/toy/fp32", "cpu/onnxruntime/fp32"}
    for pins, message in (
        (["post=cpu/toy"], "'post' is a callable"),
        (["nobody.x=cpu/toy"], "names no model"),
        (["b.=cpu/toy"], "names no model"),
        (["b.nothing=cpu/toy"], "matches no op"),
    ):
        with pytest.raises(InputError, match=message):
            targets(*pins)


def test_a_pin_that_is_not_kept_is_told_with_its_node(caplog: pytest.LogCaptureFixture) -> None:
    pins = {"b": "npu:7", "a.type:Add": "npu:7", "a": "cpu"}
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0, pins=pins) as session:
        notes = {name: node.plans[0].notes for name, node in session.plan.models.items()}
    for node, pin in (("b", "b=npu:7"), ("a", "a.type:Add=npu:7")):
        assert any(note.startswith(f"pin {pin} isn't kept") for note in notes[node])
        assert f"pin {pin} isn't kept" in caplog.text
    assert "pinned: a=cpu" in notes["a"]


def test_a_pools_pins_name_the_node_too() -> None:
    pool = replace(dioe.host_pool(), pins=(("a", "cpu/openvino"),))
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0, hardware=pool) as session:
        assert session.plan.where("a") == "cpu/openvino/fp32"


def test_threads_do_not_spin_beside_another_unless_that_is_faster() -> None:
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=1.5) as session:
        plan = session.plan
    assert {report.target for report in plan.candidates} >= {BESIDE}
    chosen = plan.candidates[0]
    assert chosen.relative_l2 == plan.relative_l2
    assert chosen.p50_ms == plan.predicted_ms
    spins = [s.resources.spin for n in plan.models.values() for p in n.plans for s in p.stages]
    assert (chosen.target == BESIDE) == all(spin is False for spin in spins)


def test_one_model_has_nobody_beside_it() -> None:
    pipeline = Pipeline({"a": DENSE[0], "post": positive}, [("a.y", "post.x")])
    with dioe.compile(pipeline, sample_inputs={"x": X}, tuning_budget_s=0.5) as session:
        assert len(session.plan.candidates) == 1


def test_a_backend_that_fails_in_the_whole_is_told(
    use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_backends(ToyBackend())
    real = Session.run

    def broken(self: Session, *args: Any) -> dict[str, Value]:
        if threading.current_thread() is threading.main_thread() and armed:
            raise BackendError("lost")
        return real(self, *args)

    armed: list[int] = []
    from dioe.tuning import pipelines, trial

    rounds = trial.time_surviving

    def arming(*args: Any, **settings: Any) -> Any:
        armed.append(1)
        return rounds(*args, **settings)

    monkeypatch.setattr(pipelines, "time_surviving", arming)
    monkeypatch.setattr(Session, "run", broken)
    with pytest.raises(BackendError, match=r"can't be run.*lost"):
        dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0.5, devices=["cpu/toy"])
    assert not Runtime.current()._contexts
