"""``dioe plan``: the choice, as a file and as a person reads it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from dioe import Pipeline, load_plan
from dioe import compile as compile_model
from dioe.types import Array, Plan, PlanMismatch, Precision, Value
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.unit.cli.conftest import QUICK, Dioe, UseBackends, files_in, is_told

BUDGET = ("--tuning-budget", "0.4")


def test_the_plan_is_written_whole(dioe: Dioe, model: Path, x: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    before = files_in(tmp_path)
    shown = dioe("plan", model, "--input", f"x={x}", "-o", path, *BUDGET)
    assert shown.code == 0
    assert shown.err == ""
    new = files_in(tmp_path) - before - {"measuring.lock", "dioe-cache/history.sqlite"}
    assert new == {"plan.json"}
    plan = load_plan(path)
    assert isinstance(plan, Plan)
    assert plan.shapes["x"] == (4, 8)
    assert f"> {plan.targets[0]}" in shown.out
    assert str(path) in shown.out.replace("\n", "")


def test_the_file_has_the_users_mask(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    before = os.umask(0o027)
    try:
        assert dioe("plan", model, "-o", path, *QUICK).code == 0
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_json_is_the_plan(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    shown = dioe("plan", model, "-o", path, "--json", *QUICK)
    assert shown.code == 0
    assert shown.json["format"] == "dioe-plan"
    assert path.read_text() == shown.out


def test_explain_tells_every_candidate(dioe: Dioe, model: Path) -> None:
    shown = dioe("plan", model, "--explain", *BUDGET)
    assert shown.code == 0
    assert shown.out.startswith("plan: cpu/")
    for target in ("cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32"):
        assert target in shown.out
    assert "made up" in shown.out


def test_what_was_measured_is_not_measured_again(
    dioe: Dioe, model: Path, x: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("rounds", "blocks"):  # what is measured on a busy machine is measured again
        monkeypatch.setattr(f"dioe.profiling.{module}.others_share", lambda before, after: 0.0)
    call = ["plan", model, "--input", f"x={x}", "--json", "--tuning-budget", "6"]
    first, second = dioe(*call).json, dioe(*call).json
    singles = [
        [c for c in found["candidates"] if "->" not in c["target"] and c["state"] == "ok"]
        for found in (first, second)
    ]
    assert singles[0] == singles[1]  # to the last digit: from the history
    assert singles[0]


# --- a plan made before -------------------------------------------------------------------------


def test_a_plan_made_before_is_explained(dioe: Dioe, model: Path, plan: Path) -> None:
    alone = dioe("plan", "--from", plan)
    assert alone.code == 0
    assert alone.err == ""
    assert alone.out.startswith("plan: cpu/onnxruntime/fp32, not measured")
    assert "Stages" in alone.out
    assert dioe("plan", model, "--from", plan).out == alone.out
    assert dioe("plan", "--from", plan, "--json").out == plan.read_text()


@pytest.mark.parametrize(
    "given",
    [
        ["--devices", "cpu"], ["--pin", "type:Relu=cpu"], ["--strict"], ["--precision", "bf16"],
        ["--max-relative-l2", "0.1"], ["--shape", "x=1,8"], ["--input", "x=x.npy"],
        ["--tuning-budget", "9"],
    ],
)  # fmt: skip
def test_what_would_need_a_new_plan_is_11(dioe: Dioe, plan: Path, given: list[str]) -> None:
    is_told(dioe("plan", "--from", plan, *given), 11, given[0], "--from", "leave")


def test_a_plan_may_be_copied(dioe: Dioe, plan: Path, tmp_path: Path) -> None:
    assert dioe("plan", "--from", plan, "-o", tmp_path / "copy.json").code == 0
    assert (tmp_path / "copy.json").read_text() == plan.read_text()


def test_a_plan_of_another_model_is_14(dioe: Dioe, plan: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(models.relu(), other)
    is_told(dioe("plan", other, "--from", plan), 14, "another model")
    is_told(dioe("plan", "--from", tmp_path / "none.json"), 14, "none.json")


def test_without_a_model_or_a_plan_is_wrong_usage(dioe: Dioe) -> None:
    outcome = dioe("plan", "--explain")
    assert outcome.code == 2
    assert "--from" in outcome.err


def test_shapes_bind_made_up_inputs(dioe: Dioe, model: Path) -> None:
    found = dioe("plan", model, "--shape", "x=3,8", "--json", *QUICK).json
    assert found["shapes"] == {"x": [3, 8]}


def test_settings_may_come_from_the_environment(
    dioe: Dioe, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIOE_TUNING_BUDGET", "0")
    monkeypatch.setenv("DIOE_DEVICES", "cpu/openvino")
    monkeypatch.setenv("DIOE_PRECISION", "auto")
    found = dioe("plan", model, "--json").json
    assert found["basis"] == "default"
    assert found["precision"] == "auto"
    assert {c["target"].rpartition("/")[0] for c in found["candidates"]} == {"cpu/openvino"}
    assert dioe("plan", model, "--json", "--precision", "fp32").json["precision"] == "fp32"


def test_the_plan_its_shapes_and_its_fate_are_told(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    shown = dioe("plan", model, *QUICK).out
    assert shown.startswith("plan: cpu/onnxruntime/fp32, not measured (default)")
    assert "\nfor inputs x [" in shown
    assert shown.endswith("the plan was not written: no --output\n")
    kept = dioe("plan", model, "--shape", "x=3,8", "-o", tmp_path / "plan.json", *QUICK).out
    assert "\nfor inputs x [3, 8]\n" in kept
    assert "not written" not in kept


def test_ops_are_counted_alike_everywhere(dioe: Dioe, tmp_path: Path) -> None:
    """Those that a plan places: constants are none of them."""
    path = tmp_path / "model.onnx"
    onnx.save(
        models.parse("""
            g (float[N, 4] x) => (float[N, 4] y) {
                one = Constant<value_float = 1.0>()
                a = Add(x, one)
                b = Sigmoid(a)
                y = Mul(b, one)
            }
        """),
        path,
    )
    told = dioe("plan", path, "--precision", "int8", *QUICK)
    assert told.code == 12
    assert "(3 ops, such as " in told.err
    assert dioe("inspect", path, "--json").json["model"]["ops"] == 3
    assert dioe("profile", path, "--json", "--time", "0.01").json["model"]["ops"] == 3
    assert "the model has 3 ops" in dioe("profile", path, "--time", "0.01").out


def test_inspect_shows_shapes_as_declared_and_as_assumed(
    dioe: Dioe, model: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    shown = dioe("inspect", model, "--html", page).out
    assert "float32[N, 8], here [" in page.read_text(encoding="utf-8")
    assert "x: float32[N, 8], here [" in shown
    assert "open shapes of inputs were assumed; --shape or --input gives others" in shown
    bound = dioe("inspect", model, "--shape", "x=3,8")
    assert "x: float32[N, 8], here [3, 8]" in bound.out
    assert "assumed" not in bound.out
    (declared,) = dioe("inspect", model, "--json").json["model"]["declared_inputs"]
    assert declared["shape"] == ["N", 8]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits(
    dioe: Dioe, model: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("plan", model, "--precision", "auto", *BUDGET)
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert any("cpu/onnxruntime/fp32" in line and " ok " in line for line in lines)


@pytest.mark.parametrize("where", ["", "no/such/plan.json", "file/plan.json"])
def test_a_place_that_cant_be_written_is_19_before_any_work(
    dioe: Dioe, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = files_in(tmp_path)
    # the model isn't even there: the place is looked at first
    is_told(dioe("plan", "missing.onnx", "-o", tmp_path / where), 19, tmp_path / where)
    assert files_in(tmp_path) == before


def test_a_failed_plan_leaves_the_old_file(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert dioe("plan", model, "-o", path, *QUICK).code == 0
    before = path.read_bytes()
    is_told(dioe("plan", model, "-o", path, "--devices", "gpu:3", *QUICK), 11, "gpu:3")
    assert path.read_bytes() == before


# --- low precision ------------------------------------------------------------------------------


@pytest.fixture
def overflowing(use_backends: UseBackends) -> ToyBackend:
    """A backend that overflows in bf16."""
    backend = ToyBackend("acme", precisions=(Precision.FP32, Precision.BF16))

    def adjust(precision: Precision, results: list[Value]) -> list[Value]:
        if precision is Precision.FP32:
            return results
        return [np.full_like(np.asarray(result), np.nan) for result in results]

    backend.adjust = adjust
    use_backends(backend)
    return backend


def test_nan_in_low_precision_is_13(
    dioe: Dioe, overflowing: ToyBackend, model: Path, x: Path, tmp_path: Path
) -> None:
    call = ["plan", model, "--input", f"x={x}", "--devices", "cpu/acme", *BUDGET]
    path = tmp_path / "plan.json"
    outcome = dioe(*call, "--precision", "bf16", "-o", path)
    is_told(outcome, 13, "cpu/acme/bf16", "NaN or Inf", "max_relative_l2")
    assert not path.exists()


def test_nan_in_low_precision_is_infidel_beside_others(
    dioe: Dioe, overflowing: ToyBackend, model: Path, x: Path
) -> None:
    call = ["plan", model, "--input", f"x={x}", "--devices", "cpu/acme", *BUDGET]
    shown = dioe(*call, "--precision", "auto")
    assert shown.code == 0
    assert "> cpu/acme/fp32" in shown.out
    assert "cpu/acme/bf16 is infidel: output 'y'" in shown.out
    found = dioe(*call, "--precision", "auto", "--json").json
    states = {c["target"]: c["state"] for c in found["candidates"]}
    assert states == {"cpu/acme/fp32": "ok", "cpu/acme/bf16": "infidel"}


# --- plans of pipelines -------------------------------------------------------------------------


def test_the_plan_of_a_pipeline_is_explained(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    pipeline = Pipeline({"net": model, "post": np_sum}, [("net.y", "post.y")])
    with compile_model(pipeline, sample_inputs={"x": x}, tuning_budget_s=0.3) as session:
        made = session.plan
    path, copy = tmp_path / "pipeline.json", tmp_path / "copy.json"
    path.write_text(made.to_json())
    shown = dioe("plan", "--from", path, "--explain", "-o", copy)
    assert shown.code == 0
    for word in ("pipeline: net -> post", "host", "edge: net.y -> post.y", "cpu/onnxruntime/fp32"):
        assert word in shown.out
    assert copy.read_text() == path.read_text()
    assert dioe("plan", "--from", path, "--json").json["format"] == "dioe-pipeline-plan"
    refused = dioe("plan", model, "--from", path)
    is_told(refused, PlanMismatch.exit_code)
    assert "of a pipeline" in refused.err


def np_sum(y: Array) -> Array:
    total: Array = y.sum(axis=0)
    return total
