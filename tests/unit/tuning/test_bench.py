"""``dioe bench``: one object with exactly the documented fields, and what they mean."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dioe.runtime.staged import StagedRequest
from dioe.tuning import BenchResult, bench
from dioe.types import Array, BackendError, Target
from tests.toys import models
from tests.toys.work import Clock, WorkingBackend
from tests.unit.tuning.conftest import UseBackends

Number = (int, float)
MAYBE = (int, float, type(None))

TARGET = {
    "target": str, "state": str, "reason": str, "p50_ms": MAYBE, "p90_ms": MAYBE,
    "p99_ms": MAYBE, "spread_ms": MAYBE, "runs": int, "relative_l2": MAYBE, "noisy": bool,
    "known_as": str,
}  # fmt: skip
PLAN = {
    "p50_ms": Number, "p90_ms": Number, "p99_ms": Number, "spread_ms": Number, "runs": int,
    "noisy": bool, "name": str, "known_as": str, "predicted_ms": MAYBE, "basis": str,
    "relative_l2": MAYBE, "max_relative_l2": Number, "stages": list, "boundaries": list,
}  # fmt: skip
DOCUMENTED: dict[str, dict[str, Any]] = {
    "model": {"path": (str, type(None)), "sha256": str, "ops": int},
    "best_single": {"target": str, "p50_ms": Number, "known_as": str},
    "timings": dict.fromkeys(("profile_s", "plan_s", "compile_s", "verify_s", "bench_s"), Number),
}
STAGE = {
    "name": str, "target": str, "ops": int, "precisions": dict, "resources": dict,
    "predicted_ms": MAYBE, "basis": str, "measured_ms": MAYBE, "reason": str,
}  # fmt: skip
RESOURCES = {"cores", "threads", "spin", "streams", "memory_limit_bytes"}
BOUNDARY = {
    "value": str, "source": str, "destination": str, "nbytes": (int, type(None)),
    "predicted_ms": MAYBE, "basis": str, "measured_ms": MAYBE, "reason": str,
}  # fmt: skip
STATES = {"ok", "unsupported", "infidel", "slow", "failed"}


def rows(n: int = 16, width: int = 32, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def has_fields(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Assert that an object has exactly these fields, each of its type."""
    assert set(found) == set(wanted)
    for name, kind in wanted.items():
        assert isinstance(found[name], kind), f"{name} is {found[name]!r}"
        assert not isinstance(found[name], bool) or kind is bool, name


def check_document(found: dict[str, Any]) -> None:
    assert set(found) == {
        "model", "machine", "settings", "targets", "mixed", "plan", "best_single",
        "speedup_over_best_single", "timings", "notes",
    }  # fmt: skip
    for part, fields in DOCUMENTED.items():
        has_fields(found[part], fields)
    has_fields(found["plan"], PLAN)
    for stage in found["plan"]["stages"]:
        has_fields(stage, STAGE)
        assert sum(stage["precisions"].values()) == stage["ops"]
        assert set(stage["resources"]) == RESOURCES
        assert (stage["measured_ms"] is None) == bool(stage["reason"])
    names = {stage["name"] for stage in found["plan"]["stages"]}
    for boundary in found["plan"]["boundaries"]:
        has_fields(boundary, BOUNDARY)
        assert {boundary["source"], boundary["destination"]} <= names
        assert (boundary["measured_ms"] is None) == bool(boundary["reason"])
    for target in found["targets"]:
        Target.parse(target["target"])
    for target in (*found["targets"], *found["mixed"]):
        has_fields(target, TARGET)
        assert target["state"] in STATES
        assert target["reason"] or target["state"] == "ok"
        if target["state"] == "ok" and target["runs"]:
            assert target["p50_ms"] > 0
            assert 0 < target["p90_ms"] <= target["p99_ms"]
    assert all(isinstance(note, str) for note in found["notes"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.fixture(scope="module")
def x() -> Array:
    return rows()


def test_the_object_has_the_documented_fields(x: Array) -> None:
    result = bench(
        models.dense("N", 32), sample_inputs={"x": x}, precision="auto", tuning_budget_s=0.8,
        time_s=0.8,
    )  # fmt: skip
    found = json.loads(json.dumps(result.to_dict()))
    check_document(found)
    assert found["model"]["path"] is None
    assert found["model"]["ops"] == 4
    assert found["settings"]["precision"] == "auto"
    assert found["settings"]["inputs"] == "given"
    assert found["settings"]["shapes"] == {"x": [16, 32]}
    assert "onnxruntime" in found["settings"]["versions"]
    assert found["plan"]["relative_l2"] <= 1e-2
    (stage,) = found["plan"]["stages"]
    assert stage["ops"] == 4
    assert stage["name"] == "s0"
    assert stage["measured_ms"] == found["plan"]["p50_ms"]
    assert found["plan"]["max_relative_l2"] == 1e-2
    assert found["plan"]["boundaries"] == []
    ok = [t for t in found["targets"] if t["state"] == "ok"]
    assert found["best_single"]["p50_ms"] == min(t["p50_ms"] for t in ok)
    speedup = found["best_single"]["p50_ms"] / found["plan"]["p50_ms"]
    # told by neighbouring rounds, so near the ratio of the medians and rarely equal to it
    assert 1 / 3 < found["speedup_over_best_single"] / speedup < 3
    assert found["timings"]["bench_s"] >= 0.4
    assert result.chosen.targets == (stage["target"],)


def test_a_path_is_given_back_and_shapes_bind_made_up_inputs(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.dense("N", 32).SerializeToString())
    result = bench(path, shapes={"x": (3, 32)}, tuning_budget_s=0.3, time_s=0.3)
    found = result.to_dict()
    check_document(json.loads(json.dumps(found)))
    assert found["model"]["path"] == str(path)
    assert found["settings"]["inputs"] == "made up"
    assert found["settings"]["shapes"] == {"x": [3, 32]}
    assert any("made up" in note for note in found["notes"])


def test_without_a_tuning_budget_the_default_is_timed(x: Array) -> None:
    result = bench(models.dense("N", 32), sample_inputs={"x": x}, tuning_budget_s=0, time_s=0.3)
    found = json.loads(json.dumps(result.to_dict()))
    check_document(found)
    assert found["plan"]["predicted_ms"] is None
    assert found["plan"]["stages"][0]["target"] == "cpu/onnxruntime/fp32"
    assert math.isfinite(found["speedup_over_best_single"])


def test_state_is_timed_with_explicit_feeds() -> None:
    result = bench(
        models.accumulator(), sample_inputs={"x": rows(1, 3)}, state={"s2": "s"},
        tuning_budget_s=0.3, time_s=0.3,
    )  # fmt: skip
    check_document(json.loads(json.dumps(result.to_dict())))
    assert result.plan["relative_l2"] <= 1e-4


def test_progress_is_told(x: Array) -> None:
    told: list[str] = []
    bench(
        models.dense("N", 32), sample_inputs={"x": x}, tuning_budget_s=0.2, time_s=0.2,
        progress=told.append,
    )  # fmt: skip
    assert "reference" in told
    assert "cpu/onnxruntime/fp32" in told
    assert "final timing: plan" in told


# --- plans of several stages --------------------------------------------------------------------

A, B = "cpu/a/fp32", "cpu/b/fp32"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.yaml"
    path.write_text(
        "format: dioe-pool\nversion: 1\n"
        "devices:\n- {id: cpu, kind: cpu, name: Toy CPU, capacity: 2}\n"
    )
    return path


@pytest.fixture
def toys(clock: Clock, use_backends: UseBackends) -> tuple[WorkingBackend, WorkingBackend]:
    """Each is good at one half: 12 ms alone, 4 and what lies between together."""
    made = (
        WorkingBackend("a", clock, {"MatMul": 1.5, "Gemm": 5.0}),
        WorkingBackend("b", clock, {"MatMul": 5.0, "Gemm": 0.5}),
    )
    use_backends(*made)
    return made


def bench_of_two_kinds(pool: Path) -> BenchResult:
    return bench(
        models.two_kinds(), sample_inputs={"x": rows(4, 8)}, devices=["cpu/a", "cpu/b"],
        hardware=pool, tuning_budget_s=10, time_s=2,
    )  # fmt: skip


@pytest.mark.usefixtures("toys")
def test_stages_are_timed_where_they_run(pool: Path) -> None:
    result = bench_of_two_kinds(pool)
    found = json.loads(json.dumps(result.to_dict()))
    check_document(found)
    plan = found["plan"]
    assert plan["name"] == f"{A} -> {B}"
    assert plan["basis"] == "measured"
    first, second = plan["stages"]
    assert (first["name"], second["name"]) == ("s0", "s1")
    assert (first["target"], second["target"]) == (A, B)
    assert first["precisions"] == {"fp32": 2}
    assert first["resources"]["spin"] is False
    assert first["measured_ms"] == pytest.approx(3.0, rel=0.05)
    assert second["measured_ms"] == pytest.approx(1.0, rel=0.05)
    assert first["measured_ms"] + second["measured_ms"] == pytest.approx(plan["p50_ms"], rel=0.05)
    (boundary,) = plan["boundaries"]
    assert boundary["value"] == "m1_out"
    assert boundary["nbytes"] == 4 * 8 * 4
    assert boundary["basis"] == "predicted"
    assert boundary["predicted_ms"] >= 0


@pytest.mark.usefixtures("toys")
def test_mixed_plans_that_were_tried_are_told(pool: Path) -> None:
    found = bench_of_two_kinds(pool).to_dict()
    assert {t["target"] for t in found["targets"]} == {A, B}
    chosen = next(t for t in found["mixed"] if t["target"] == f"{A} -> {B}")
    assert chosen["state"] == "ok"
    for name in ("p50_ms", "p90_ms", "p99_ms", "runs"):  # those of the final timing
        assert chosen[name] == found["plan"][name]


@pytest.mark.usefixtures("toys")
def test_stages_that_cant_be_timed_say_why(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def run_timed(self: StagedRequest) -> list[float]:
        if told:
            raise BackendError("no clock here")
        return timed(self)

    def bound(result: Any, samples: Any, reference: Any) -> Any:
        told.append("the tuning is over")
        return plan_error(result, samples, reference)

    timed = StagedRequest.run_timed
    module = importlib.import_module("dioe.tuning.bench")
    plan_error = module._plan_error
    monkeypatch.setattr(StagedRequest, "run_timed", run_timed)
    monkeypatch.setattr(module, "_plan_error", bound)
    found = bench_of_two_kinds(pool).to_dict()
    check_document(json.loads(json.dumps(found)))
    assert [s["measured_ms"] for s in found["plan"]["stages"]] == [None, None]
    assert {s["reason"] for s in found["plan"]["stages"]} == {"no clock here"}
    assert found["plan"]["p50_ms"] == pytest.approx(4.0, rel=0.05)
