"""``dioe bench``: one object with exactly the documented fields, and what they mean."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from dioe.tuning import bench
from dioe.types import Array, Target
from tests.toys import models

Number = (int, float)
MAYBE = (int, float, type(None))

TARGET = {
    "target": str, "state": str, "reason": str, "p50_ms": MAYBE, "p90_ms": MAYBE,
    "p99_ms": MAYBE, "spread_ms": MAYBE, "runs": int, "relative_l2": MAYBE, "noisy": bool,
}  # fmt: skip
PLAN = {
    "p50_ms": Number, "p90_ms": Number, "p99_ms": Number, "spread_ms": Number, "runs": int,
    "noisy": bool, "predicted_ms": MAYBE, "relative_l2": MAYBE, "stages": list,
}  # fmt: skip
DOCUMENTED: dict[str, dict[str, Any]] = {
    "model": {"path": (str, type(None)), "sha256": str, "ops": int},
    "best_single": {"target": str, "p50_ms": Number},
    "timings": dict.fromkeys(("profile_s", "plan_s", "compile_s", "verify_s", "bench_s"), Number),
}
STAGE = {"target": str, "ops": int, "predicted_ms": MAYBE, "measured_ms": MAYBE}
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
        "model", "machine", "settings", "targets", "plan", "best_single",
        "speedup_over_best_single", "timings", "notes",
    }  # fmt: skip
    for part, fields in DOCUMENTED.items():
        has_fields(found[part], fields)
    has_fields(found["plan"], PLAN)
    for stage in found["plan"]["stages"]:
        has_fields(stage, STAGE)
    for target in found["targets"]:
        has_fields(target, TARGET)
        Target.parse(target["target"])
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
    assert stage["measured_ms"] == found["plan"]["p50_ms"]
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
