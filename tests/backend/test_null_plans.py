"""Plans on modelled devices: named or not used, never checked, and marked wherever times are."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import dioe
from dioe.cli.bench import show
from dioe.cli.plan_text import print_explained
from dioe.hardware import host_pool
from dioe.planning import plan_from_json
from dioe.profiling import lock
from dioe.runtime import Runtime, Session
from dioe.tuning import Job, Settings, bench, profile_targets
from dioe.types import Basis, InputError, KnownAs, Plan, Stage, Target
from dioe_null import GPU, NPU, NullBackend, RealClock
from tests.backend.cases import floats, model, small_network
from tests.toys.backend import registry_of

FEEDS = {"x": floats(1, 3, 16, 16)}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """ONNX Runtime, and the two default devices."""
    monkeypatch.setattr(lock, "_lock_path", lambda: tmp_path / "measuring.lock")
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))
    made = Runtime(registry_of(NullBackend([NPU, GPU], RealClock()), installed=["onnxruntime"]))
    yield made
    made.close()


def job(runtime: Runtime, devices: Any, precision: str = "fp32", budget_s: float = 1.0) -> Job:
    return Job(
        small_network().to_bytes(), hardware=None, sample_inputs=FEEDS, runtime=runtime,
        settings=Settings(devices, precision=precision, tuning_budget_s=budget_s),
    )  # fmt: skip


def targets(found: Job) -> list[str]:
    return [str(c.target) for c in found.candidates(found.groups[0])]


def test_modelled_devices_are_used_only_when_named_with_their_backend(runtime: Runtime) -> None:
    assert targets(job(runtime, "auto")) == ["cpu/onnxruntime/fp32"]
    assert targets(job(runtime, "cpu")) == ["cpu/onnxruntime/fp32"]
    named = job(runtime, ["cpu", "npu:0/null"])
    assert targets(named) == ["cpu/onnxruntime/fp32", "npu:0/null/fp32"]
    assert [c.modelled for c in named.candidates(named.groups[0])] == [False, True]
    with pytest.raises(InputError, match="'npu:0' is here as a modelled device only") as caught:
        targets(job(runtime, "npu:0"))
    assert caught.value.fix.endswith("npu:0/null")
    with pytest.raises(InputError, match="'npu:7'"):
        targets(job(runtime, "npu:7"))
    assert [d.id for d in host_pool().devices] == ["cpu"]


@pytest.mark.parametrize("budget_s", [0.0, 1.0])
def test_a_plan_on_a_modelled_device_is_not_checked_and_says_so(
    runtime: Runtime, budget_s: float
) -> None:
    made = job(runtime, "npu:0/null", "fp16", budget_s)
    plan = made.tunings()[0].plan
    assert plan.targets == ("npu:0/null/fp16",)
    assert "modelled" in plan.notes[0]
    assert "weren't compared" in plan.notes[0]
    assert plan.relative_l2 is None
    (report,) = plan.candidates
    assert (report.state, report.known_as) == ("ok", KnownAs.MODELLED)
    assert plan_from_json(plan.to_json()) == plan
    if budget_s:
        assert plan.basis is plan.stages[0].basis is Basis.MODELLED
        assert "ms modelled" in plan.explain()
    with made.session([plan]) as session:
        assert not np.asarray(session.run(FEEDS)["y"]).any()


def test_modelled_times_are_marked_beside_measured_ones(runtime: Runtime) -> None:
    result = bench(
        small_network().to_bytes(), devices=["cpu", "gpu:0/null"], sample_inputs=FEEDS,
        tuning_budget_s=2, time_s=0.5, runtime=runtime,
    )  # fmt: skip
    known = {t["target"]: t["known_as"] for t in result.to_dict()["targets"]}
    assert known == {"cpu/onnxruntime/fp32": "hardware", "gpu:0/null/fp32": "modelled"}
    assert result.chosen.targets == ("cpu/onnxruntime/fp32",)
    assert result.to_dict()["plan"]["known_as"] == "hardware"
    out = Console(file=io.StringIO(), width=120)
    show(result, out)
    print_explained(out, result.chosen)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    lines = [line for line in text.splitlines() if "gpu:0/null" in line and "0." in line]
    assert len(lines) >= 2
    assert all("modelled" in line for line in lines)


def test_a_bench_of_a_modelled_plan(runtime: Runtime) -> None:
    result = bench(
        small_network().to_bytes(), devices="npu:0/null", sample_inputs=FEEDS,
        tuning_budget_s=1, time_s=0.3, runtime=runtime,
    )  # fmt: skip
    found = result.to_dict()
    assert found["plan"]["relative_l2"] is None
    for part in (found["plan"], found["best_single"], *found["targets"]):
        assert part["known_as"] == "modelled"
    assert [s["basis"] for s in found["plan"]["stages"]] == ["modelled"]
    modelled_ms = 1e-3 * (NPU.dispatch_us + 2 * NPU.link.latency_us)
    assert found["plan"]["p50_ms"] > modelled_ms


def test_per_op_times_are_marked(runtime: Runtime) -> None:
    made = job(runtime, ["cpu", "npu:0/null"])
    profiles = profile_targets(made, made.candidates(made.groups[0]), seconds=0.05)
    assert [p.known_as for p in profiles] == [KnownAs.HARDWARE, KnownAs.MODELLED]
    assert profiles[1].total_ms > 0


def test_modelled_costs_are_not_kept(runtime: Runtime, tmp_path: Path) -> None:
    bench(
        small_network().to_bytes(), devices=["cpu", "npu:0/null"], sample_inputs=FEEDS,
        tuning_budget_s=2, time_s=0.1, runtime=runtime, cache_dir=tmp_path,
    )  # fmt: skip
    from dioe.profiling import History

    text = io.StringIO()
    assert History(tmp_path).export(text)
    kept = [json.dumps(json.loads(line)["key"]) for line in text.getvalue().splitlines()]
    assert any("cpu/onnxruntime" in key for key in kept)
    assert not any("npu:0/null" in key for key in kept)


def test_a_plan_over_the_host_and_two_modelled_devices(runtime: Runtime) -> None:
    made = model(
        "g (float[4,8] x) => (float[4,8] z) { a = Abs(x) b = Neg(a) c = Exp(b) z = Add(a, c) }"
    )
    a, b, c, z = made.op_ids

    def stage(name: str, device: str, backend: str, ops: Any, reads: Any, makes: Any) -> Stage:
        return Stage(name, Target(device, backend), ops, reads, makes)

    plan = Plan(
        model_sha256=made.sha256,
        hardware="h",
        stages=(
            stage("s0", "cpu", "onnxruntime", (a,), ("x",), ("a",)),
            stage("s1", "npu:0", "null", (b,), ("a",), ("b",)),
            stage("s2", "gpu:0", "null", (c,), ("b",), ("c",)),
            stage("s3", "cpu", "onnxruntime", (z,), ("a", "c"), ("z",)),
        ),
    )
    x = floats(4, 8, seed=3)
    with Session(made, [plan], runtime=runtime) as session:
        for _ in range(2):  # exp of zeros that weren't computed is zero here, so z is |x|
            np.testing.assert_array_equal(session.run({"x": x})["z"], np.abs(x))


def test_marks_are_plain_data() -> None:
    from dioe.tuning.modelled import mark_plan

    stage = Stage("s0", Target("npu:0", "null"), ("n",), ("x",), ("y",), predicted_ms=1.0)
    plan = Plan("m", "h", (stage,), predicted_ms=1.0, basis=Basis.MEASURED, relative_l2=0.5)
    marked = mark_plan(plan, {"npu:0": KnownAs.MODELLED})
    assert mark_plan(marked, {"npu:0": KnownAs.MODELLED}) == marked
    assert asdict(marked)["basis"] == "modelled"
    assert mark_plan(plan, {}) == plan


def test_a_model_with_open_dimensions(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "_current", runtime)
    open_model = model("g (float[n, 8] x) => (float[n, 8] y) { y = Relu(x) }")
    with dioe.compile(
        open_model.to_bytes(), devices="npu:0/null", sample_inputs={"x": floats(2, 8)},
        tuning_budget_s=0.5,
    ) as session:  # fmt: skip
        for rows in (2, 3):
            outputs = session.run({"x": floats(rows, 8)})
            np.testing.assert_array_equal(np.asarray(outputs["y"]), np.zeros((rows, 8)))


def test_a_device_without_the_precision_says_so(runtime: Runtime) -> None:
    with pytest.raises(InputError, match="'cpu' isn't used with precision='fp16'") as raised:
        targets(job(runtime, ["cpu", "npu:0/null"], "fp16"))
    assert "cpu/onnxruntime/fp32" in raised.value.fix
