"""Sessions whose later shapes are tuned in the background, from ``dioe.compile`` on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dioe
from dioe.graph import Model
from dioe.hardware import host_pool
from dioe.runtime import Runtime, Session
from dioe.runtime import background as runtime_background
from dioe.tuning import shape_options
from dioe.tuning.background import BackgroundTuner
from dioe.types import Basis, TargetReport
from tests.toys import models
from tests.toys.backend import registry_of
from tests.toys.stages import staged_plan
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.timed import ROWS, Timed, check_shapes, rows

WAIT_S = 60.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_background, "MAX_QUIET_WAIT_S", 0.2)


def compiled(proto: onnx.ModelProto, **settings: Any) -> Session:
    defaults: dict[str, Any] = {"sample_inputs": {"x": rows(ROWS)}, "tuning_budget_s": 1.0}
    session: Session = dioe.compile(proto, **(defaults | settings))
    return session


@pytest.mark.usefixtures("impatient")
def test_sessions_tune_later_shapes(use_backends: UseBackends) -> None:
    fast = Timed("fast", lambda n: n / 16)
    use_backends(fast)
    proto = models.dense()
    with compiled(proto, devices="cpu/fast") as session:
        check_shapes(session, [40, 5, 40], proto)
        assert session.wait_for_tuning(WAIT_S)
        check_shapes(session, [40, 5, 16], proto)
        found = {plan.shapes["x"][0]: plan for plan in session.plans}
    assert set(found) == {16, "N", 40, 5}
    assert fast.count("compile") == fast.count("close executable")


@pytest.mark.usefixtures("impatient")
def test_real_backends_tune_later_shapes() -> None:
    proto = models.dense()
    with compiled(proto, tuning_budget_s=1.5) as session:
        check_shapes(session, [40, 5, 7, 40], proto)
        assert session.wait_for_tuning(WAIT_S)
        check_shapes(session, [40, 5, 7, 16, 3], proto)
        assert session.wait_for_tuning(WAIT_S)


@pytest.mark.parametrize("settings", [{"tune_shapes": False}, {"tuning_budget_s": 0}])
def test_tuning_for_shapes_can_be_left_out(settings: dict[str, Any]) -> None:
    proto = models.dense()
    with compiled(proto, **settings) as session:
        check_shapes(session, [40, 5], proto)
        assert session.wait_for_tuning(0)
        assert [plan.shapes["x"][0] for plan in session.plans] == [16, "N"]


def test_a_plan_made_before_measures_nothing(tmp_path: Path) -> None:
    proto = models.dense()
    with compiled(proto, tuning_budget_s=0.5) as session:
        plan = session.plan
    with dioe.compile(proto, plan=plan) as session:
        check_shapes(session, [40], proto)
        assert session.wait_for_tuning(0)
        assert len(session.plans) == 2


def test_models_of_fixed_shapes_have_nothing_to_tune() -> None:
    with dioe.compile(models.relu(), tuning_budget_s=0.5) as session:
        assert session.wait_for_tuning(0)
        session.run({"x": np.ones((1, 4), np.float32)})


def test_models_too_large_for_variants_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_options, "MEMORY_SHARE", 0.0)
    proto = models.dense()
    with compiled(proto, tuning_budget_s=0.5) as session:
        check_shapes(session, [40], proto)
        assert session.wait_for_tuning(0)
        assert len(session.plans) == 2


def test_a_plan_of_several_stages_goes_on_to_other_shapes() -> None:
    front, back = Timed("front", lambda n: 0.2), Timed("back", lambda n: 0.2)
    proto = models.dense()
    model = Model.load(proto)
    first, *others = model.op_ids
    plan = staged_plan(model, [("front", [first]), ("back", others)], {"x": (ROWS, 8)})
    whole = TargetReport("cpu/front/fp32", "infidel")
    plan = replace(plan, predicted_ms=0.5, basis=Basis.MEASURED, candidates=(whole,))
    runtime = Runtime(registry_of(front, back, installed=("onnxruntime",)))
    tuner = BackgroundTuner(model, [plan], pool=host_pool(), runtime=runtime, budget_s=2.0)
    with Session(model, [plan], runtime=runtime, tuner=tuner) as session:
        check_shapes(session, [40], proto)
        assert session.wait_for_tuning(WAIT_S)
        check_shapes(session, [40], proto)
        assert session.plan.targets == ("cpu/front/fp32", "cpu/back/fp32")
        assert session.plan.shapes == {"x": (40, 8)}
    assert front.count("compile") == front.count("close executable") == 3
