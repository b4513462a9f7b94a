"""``dioe.compile``: what is chosen, what is refused, and what it says about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import dioe
from dioe.planning import choose
from dioe.types import (
    Array,
    Basis,
    ConfigError,
    FidelityError,
    InputError,
    ModelError,
    Plan,
    PlanMismatch,
    Precision,
    TargetReport,
    UnsupportedError,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.toys.values import close, tensor
from tests.unit.tuning.conftest import UseBackends

STATES = {"ok", "unsupported", "infidel", "slow", "failed"}


def rows(n: int = 4, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def sleeping(ms: float) -> Callable[[dict[str, Value]], dict[str, Value]]:
    def during(outputs: dict[str, Value]) -> dict[str, Value]:
        time.sleep(ms / 1e3)
        return outputs

    return during


def report(plan: Plan, target: str) -> TargetReport:
    return next(c for c in plan.candidates if c.target == target)


# --- the real backends --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["proto", "bytes", "ir", "path", "str"])
def test_every_form_of_a_model_is_compiled(form: str, tmp_path: Path) -> None:
    proto = models.dense()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    given = {
        "proto": proto, "bytes": proto.SerializeToString(), "ir": ir.from_proto(proto),
        "path": path, "str": str(path),
    }[form]  # fmt: skip
    with dioe.compile(given, tuning_budget_s=0) as session:
        close(tensor(session.run({"x": rows()})), models.dense_output(proto, rows()))


def test_without_a_budget_it_starts_on_a_default() -> None:
    with dioe.compile(models.dense(), sample_inputs={"x": rows()}, tuning_budget_s=0) as session:
        plan = session.plan
        assert plan.basis is Basis.DEFAULT
        assert plan.predicted_ms is None
        assert plan.targets == ("cpu/onnxruntime/fp32",)
        assert plan.shapes["x"] == (4, 8)
        assert any("nothing was measured" in note for note in plan.notes)
        assert [c.target for c in plan.candidates if c.state == "ok"] == list(plan.targets)
        assert all(c.p50_ms is None for c in plan.candidates)
        assert "not measured" in plan.explain()


def test_the_fastest_fidel_target_is_chosen() -> None:
    proto = models.dense("N", 64)
    x = rows(16, 64)
    with dioe.compile(proto, sample_inputs={"x": x}, tuning_budget_s=1.5) as session:
        plan = session.plan
        close(tensor(session.run({"x": x})), models.dense_output(proto, x), 1e-4)
    assert plan.basis is Basis.MEASURED
    assert {c.state for c in plan.candidates} <= STATES
    for target in ("cpu/onnxruntime/fp32", "cpu/openvino/fp32"):
        tried = report(plan, target)
        assert tried.state in ("ok", "slow")
        assert tried.p50_ms is not None
        if tried.state == "ok":
            assert tried.p90_ms is not None
            assert tried.p99_ms is not None
            assert tried.relative_l2 is not None
            assert tried.p90_ms <= tried.p99_ms
            assert tried.runs >= 5
            assert tried.relative_l2 <= 1e-4
    # near equals are told apart by neighbouring rounds, so the least median need not be chosen
    chosen = next(c for c in plan.candidates if c.p50_ms == plan.predicted_ms)
    best = choose(plan.candidates, limit=1e-4)
    assert chosen.state == "ok"
    assert chosen.p50_ms is not None
    assert best.p50_ms is not None
    assert chosen.p50_ms <= 2 * best.p50_ms
    assert plan.relative_l2 == chosen.relative_l2
    resort = report(plan, "cpu/reference/fp32")
    assert resort.state == "unsupported"
    assert "last resort" in resort.reason
    assert plan.explain().count("\n  cpu/") == len(plan.candidates)


def test_made_up_inputs_are_said_to_be() -> None:
    with dioe.compile(models.dense(), tuning_budget_s=0.5) as session:
        assert any("made up" in note for note in session.plan.notes)
        assert all(isinstance(d, int) for d in session.plan.shapes["x"])


def test_a_model_that_only_one_backend_takes_runs_there() -> None:
    proto = models.parse("g (string[N] t) => (string[N] u) { u = StringConcat(t, t) }", opset=20)
    t = np.array(["a", "b"], dtype=object)
    with dioe.compile(proto, sample_inputs={"t": t}, tuning_budget_s=0.5) as session:
        assert session.plan.targets == ("cpu/onnxruntime/fp32",)
        refused = report(session.plan, "cpu/openvino/fp32")
        assert refused.state == "unsupported"
        assert refused.reason
        assert tensor(session.run({"t": t}), "u").tolist() == ["aa", "bb"]


def test_a_model_nobody_takes_is_refused_with_every_reason() -> None:
    proto = models.parse("g (float[2] x) => (float[2] y) { y = acme.Wobble(x) }")
    proto.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    for budget in (0, 0.5):
        with pytest.raises(UnsupportedError) as caught:
            dioe.compile(proto, sample_inputs={"x": rows(1, 2)[0]}, tuning_budget_s=budget)
        assert "dioe inspect" in caught.value.fix
        assert "Wobble" in caught.value.cause


def test_two_sample_shapes_are_two_variants() -> None:
    proto = models.dense()
    samples = [{"x": rows(4)}, {"x": rows(2)}, {"x": rows(4, seed=5)}]
    with dioe.compile(
        proto, sample_inputs=samples, tuning_budget_s=1, tune_shapes=False
    ) as session:
        assert [plan.shapes["x"] for plan in session.plans] == [(4, 8), (2, 8)]
        for n in (2, 4, 3):
            close(tensor(session.run({"x": rows(n)})), models.dense_output(proto, rows(n)))
        assert len(session.plans) == 3


def test_state_is_declared_and_made_up_where_samples_leave_it_out() -> None:
    x = rows(2, 3)
    with dioe.compile(
        models.accumulator("N, 3"), sample_inputs={"x": x}, state={"s2": "s"}, tuning_budget_s=0.5
    ) as session:
        for i in range(1, 4):
            close(tensor(session.run({"x": x})), i * x)


# --- toy backends: what the choice depends on ---------------------------------------------------


def test_the_faster_of_two_is_chosen(use_backends: UseBackends) -> None:
    fast, slow = ToyBackend("b_fast", during=sleeping(1)), ToyBackend("a_slow", during=sleeping(2))
    use_backends(fast, slow)
    with dioe.compile(
        models.dense(), sample_inputs={"x": rows()}, devices=["cpu/a_slow", "cpu/b_fast"],
        tuning_budget_s=1,
    ) as session:  # fmt: skip
        assert session.plan.targets == ("cpu/b_fast/fp32",)
        assert report(session.plan, "cpu/a_slow/fp32").state == "ok"


def test_what_is_three_times_slower_is_dropped(use_backends: UseBackends) -> None:
    use_backends(ToyBackend("slow", during=sleeping(30)), ToyBackend("fast", during=sleeping(1)))
    with dioe.compile(
        models.dense(), sample_inputs={"x": rows()}, devices="cpu/slow, cpu/fast",
        tuning_budget_s=1,
    ) as session:  # fmt: skip
        slow = report(session.plan, "cpu/slow/fp32")
        assert slow.state == "slow"
        assert "3 times" in slow.reason
        assert slow.p50_ms is not None
        assert slow.p50_ms > 25


@pytest.mark.parametrize(
    ("devices", "targets"),
    [
        ("auto", {"cpu/onnxruntime/fp32", "cpu/toy/fp32"}),
        ("cpu", {"cpu/onnxruntime/fp32", "cpu/toy/fp32"}),
        (["cpu"], {"cpu/onnxruntime/fp32", "cpu/toy/fp32"}),
        ("cpu/toy", {"cpu/toy/fp32"}),
        ("cpu/toy/fp32", {"cpu/toy/fp32"}),
        ("cpu/toy, cpu/onnxruntime", {"cpu/onnxruntime/fp32", "cpu/toy/fp32"}),
        (("cpu/onnxruntime",), {"cpu/onnxruntime/fp32"}),
    ],
)
def test_devices_name_what_may_be_used(
    use_backends: UseBackends, devices: Any, targets: set[str]
) -> None:
    use_backends(ToyBackend())
    with dioe.compile(models.relu(), devices=devices, tuning_budget_s=0) as session:
        assert {c.target for c in session.plan.candidates} == targets


@pytest.mark.parametrize("devices", ["gpu:0", "cpu/nothing", "cpu/to", "", [], ["cpu", "npu"]])
def test_devices_that_match_nothing_are_an_input_error(
    use_backends: UseBackends, devices: Any
) -> None:
    use_backends(ToyBackend())
    for budget in (0, 1):
        with pytest.raises(InputError, match="device"):
            dioe.compile(models.relu(), devices=devices, tuning_budget_s=budget)


def test_simulated_backends_are_used_only_when_named(use_backends: UseBackends) -> None:
    use_backends(ToyBackend(simulated=True))
    with dioe.compile(models.relu(), tuning_budget_s=0) as session:
        assert [c.target for c in session.plan.candidates] == ["cpu/onnxruntime/fp32"]
    with dioe.compile(models.relu(), devices="cpu/toy", tuning_budget_s=0) as session:
        assert session.plan.targets == ("cpu/toy/fp32",)


# --- precision ----------------------------------------------------------------------------------


class LossyBackend(ToyBackend):
    """Two precisions: fp32 takes over 2 ms, bf16 over one and an error of its own."""

    def __init__(self, error: float) -> None:
        super().__init__("lossy", precisions=(Precision.FP32, Precision.BF16))
        self.error = error
        self.adjust = self.computed_in

    def computed_in(self, precision: Precision, results: list[Value]) -> list[Value]:
        if precision is Precision.FP32:
            time.sleep(2e-3)
            return results
        time.sleep(1e-3)
        return [np.asarray(result) * np.float32(1 + self.error) for result in results]


def compile_lossy(**settings: Any) -> Plan:
    defaults: dict[str, Any] = {"sample_inputs": {"x": rows()}, "devices": "cpu/lossy"}
    session: dioe.Session = dioe.compile(
        models.dense(), tuning_budget_s=0.8, **(defaults | settings)
    )
    with session:
        return session.plan


def test_auto_lowers_precision_within_the_limit(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(5e-3))
    plan = compile_lossy(precision="auto")
    assert plan.targets == ("cpu/lossy/bf16",)
    assert plan.relative_l2 == pytest.approx(5e-3, rel=0.01)
    assert plan.max_relative_l2 == 1e-2
    assert plan.stages[0].precisions.default is Precision.BF16


def test_auto_keeps_the_precision_where_the_error_is_too_large(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(2e-2))
    plan = compile_lossy(precision="auto")
    assert plan.targets == ("cpu/lossy/fp32",)
    lossy = report(plan, "cpu/lossy/bf16")
    assert lossy.state == "infidel"
    assert lossy.relative_l2 == pytest.approx(2e-2, rel=0.01)
    assert "limit 0.01" in lossy.reason
    assert compile_lossy(precision="auto", max_relative_l2=0.03).targets == ("cpu/lossy/bf16",)


def test_made_up_inputs_lower_nothing_and_say_what_real_ones_might_gain(
    use_backends: UseBackends,
) -> None:
    use_backends(LossyBackend(5e-3))
    plan = compile_lossy(precision="auto", sample_inputs=None)
    assert plan.targets == ("cpu/lossy/fp32",)
    assert report(plan, "cpu/lossy/bf16").state == "infidel"
    (note,) = [note for note in plan.notes if "would be" in note]
    assert "cpu/lossy/bf16" in note
    assert "give sample inputs" in note


@pytest.mark.parametrize(
    "x", [np.full((4, 8), np.nan, np.float32), np.empty((0, 8), np.float32)], ids=["nan", "empty"]
)
def test_samples_that_tell_nothing_lower_nothing(use_backends: UseBackends, x: Array) -> None:
    use_backends(LossyBackend(5e-3))
    plan = compile_lossy(precision="auto", sample_inputs={"x": x})
    assert plan.targets == ("cpu/lossy/fp32",)
    assert plan.relative_l2 is None
    assert all(each.relative_l2 is None for each in plan.candidates)
    lossy = report(plan, "cpu/lossy/bf16")
    assert lossy.state == "infidel"
    assert "'y'" in lossy.reason
    (note,) = [note for note in plan.notes if "empty or NaN throughout" in note]
    assert note.startswith("y: ")


def test_one_sample_that_tells_something_is_enough(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(5e-3))
    samples = [{"x": np.full((4, 8), np.nan, np.float32)}, {"x": rows(4, 8)}]
    plan = compile_lossy(precision="auto", sample_inputs=samples)
    assert plan.targets == ("cpu/lossy/bf16",)
    assert plan.relative_l2 == pytest.approx(5e-3, rel=0.01)


def test_fp32_never_tries_lower_precision(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(5e-3))
    assert [c.target for c in compile_lossy().candidates] == ["cpu/lossy/fp32"]


def test_a_precision_may_be_asked_for_by_name(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(5e-3))
    assert compile_lossy(precision="bf16").targets == ("cpu/lossy/bf16",)


def test_nothing_within_the_limit_is_a_fidelity_error(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(5e-3))
    with pytest.raises(FidelityError, match=r"limit 0\.001") as caught:
        compile_lossy(precision="bf16", max_relative_l2=1e-3)
    assert "cpu/lossy/bf16" in caught.value.cause
    assert "max_relative_l2" in caught.value.fix


def test_a_precision_nobody_has_is_refused(use_backends: UseBackends) -> None:
    use_backends(LossyBackend(5e-3))
    for budget in (0, 0.5):
        with pytest.raises((UnsupportedError, InputError), match=r"int4|no target"):
            dioe.compile(models.dense(), precision="int4", tuning_budget_s=budget)


def test_openvinos_bf16_is_held_to_the_limit() -> None:
    proto = models.dense("N", 64)
    x = rows(16, 64)
    with dioe.compile(
        proto, sample_inputs={"x": x}, precision="auto", max_relative_l2=1e-5, tuning_budget_s=1
    ) as session:
        lowered = [c for c in session.plan.candidates if c.target == "cpu/openvino/bf16"]
        assert all(c.state in ("infidel", "slow", "unsupported") for c in lowered)
        assert session.plan.targets[0].endswith("/fp32")


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"policy": "luck"}, "policy 'luck'"),
        ({"tuning_budget_s": -1}, "tuning_budget_s is -1"),
        ({"tuning_budget_s": float("nan")}, "tuning_budget_s is nan"),
        ({"precision": "fp31"}, "precision 'fp31'"),
        ({"max_relative_l2": 0}, "max_relative_l2 is 0"),
        ({"max_relative_l2": -1e-3}, "max_relative_l2 is -0.001"),
        ({"max_relative_l2": float("inf")}, "max_relative_l2 is inf"),
        ({"sample_inputs": {"y": rows()}}, "no input 'y'"),
        ({"sample_inputs": {"x": rows().astype(np.float64)}}, "dtype float64"),
        ({"sample_inputs": {"x": rows(4, 9)}}, "shape"),
        ({"sample_inputs": [{"x": rows()}, {}]}, "missing input"),
        ({"sample_inputs": [rows()]}, "sample"),
        ({"sample_inputs": rows()}, "sample"),
        ({"sample_inputs": 3}, "sample"),
        ({"hardware": 3}, "hardware is a int"),
        ({"state": {"y": "nope"}}, "no such output or input"),
    ],
)
def test_a_wrong_setting_is_an_input_error(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        dioe.compile(models.dense(), **({"tuning_budget_s": 0.2} | settings))
    assert caught.value.fix


def test_what_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    wrong: Any
    for wrong in (b"", b"no model", tmp_path, tmp_path / "missing.onnx", 3, None):
        with pytest.raises(ModelError) as caught:
            dioe.compile(wrong, tuning_budget_s=0)
        assert caught.value.fix


def test_a_pool_file_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("devices: 3\n")
    with pytest.raises(ConfigError, match=r"pool\.yaml"):
        dioe.compile(models.relu(), hardware=path, tuning_budget_s=0)


# --- plans --------------------------------------------------------------------------------------


def test_a_plan_is_loaded_without_measuring(use_backends: UseBackends, tmp_path: Path) -> None:
    toy = ToyBackend()
    use_backends(toy)
    proto = models.dense()
    with dioe.compile(
        proto, sample_inputs={"x": rows()}, devices="cpu/toy", tuning_budget_s=0.3
    ) as session:
        plan = session.plan
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert dioe.load_plan(path) == plan
    for given in (plan, path, str(path)):
        toy.log.clear()
        toy.received.clear()
        with dioe.compile(proto, plan=given) as session:
            assert session.plan == plan
            assert toy.log == ["open", "compile"]
            assert toy.received == []
            close(tensor(session.run({"x": rows()})), models.dense_output(proto, rows()))


@pytest.mark.parametrize(
    "given",
    [
        {"devices": "cpu/reference"}, {"precision": "auto"}, {"max_relative_l2": 0.1},
        {"pins": {"type:Relu": "cpu"}}, {"strict": True},
    ],
)  # fmt: skip
def test_what_a_plan_has_decided_is_refused_beside_it(given: dict[str, Any]) -> None:
    with dioe.compile(models.dense(), tuning_budget_s=0) as session:
        plan = session.plan
    (name,) = given
    with pytest.raises(InputError, match=f"{name}=.* is given beside plan=") as caught:
        dioe.compile(models.dense(), plan=plan, **given)
    assert f"leave {name} out" in caught.value.fix
    with pytest.raises(InputError, match=f"{name}=.* is given beside plan="):
        dioe.compile(dioe.Pipeline({"m": models.dense()}, []), plan=plan, **given)


def test_a_plan_of_another_model_is_refused() -> None:
    with dioe.compile(models.dense(), tuning_budget_s=0) as session:
        plan = session.plan
    with pytest.raises(PlanMismatch, match="another model") as caught:
        dioe.compile(models.dense(seed=9), plan=plan)
    assert "dioe plan" in caught.value.fix


def test_a_plan_of_another_machine_is_refused(tmp_path: Path) -> None:
    with dioe.compile(models.dense(), tuning_budget_s=0) as session:
        plan = session.plan
    pool = dioe.host_pool()
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json().replace(plan.hardware, "0" * len(plan.hardware)))
    with pytest.raises(PlanMismatch, match="other hardware"):
        dioe.compile(models.dense(), plan=path, hardware=pool)


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"format": "dioe-plan"}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanMismatch, match=r"plan\.json"):
        dioe.compile(models.dense(), plan=path)
    with pytest.raises(PlanMismatch):
        dioe.compile(models.dense(), plan=tmp_path / "missing.json")
    with pytest.raises(PlanMismatch):
        dioe.compile(models.dense(), plan=tmp_path)
