"""``dioe bench``: the object and the table."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dioe.cli.bench import show
from dioe.tuning import BenchResult
from dioe.types import TargetReport
from tests.unit.cli.conftest import Dioe
from tests.unit.cli.test_plan_text import FP32, MIXED, ORT, plan_of, words
from tests.unit.tuning.test_bench import check_document

BUDGET = ("--tuning-budget", "0.4", "--time", "0.4")


def test_json_is_the_documented_object(dioe: Dioe, model: Path, x: Path) -> None:
    shown = dioe("bench", model, "--input", f"x={x}", "--precision", "auto", "--json", *BUDGET)
    assert shown.code == 0
    assert shown.err == ""
    check_document(shown.json)
    assert shown.json["model"]["path"] == str(model)
    assert shown.json["settings"]["precision"] == "auto"
    assert shown.json["settings"]["tuning_budget_s"] == 0.4


def test_shapes_are_bound(dioe: Dioe, model: Path) -> None:
    found = dioe("bench", model, "--shape", "x=2,8", "--json", *BUDGET).json
    check_document(found)
    assert found["settings"]["shapes"] == {"x": [2, 8]}
    assert found["settings"]["inputs"] == "made up"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits(
    dioe: Dioe, model: Path, x: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("bench", model, "--input", f"x={x}", *BUDGET)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert any("cpu/onnxruntime/fp32" in line and " ok " in line for line in lines)
    assert "plan: cpu/" in shown.out
    assert "best single target: cpu/" in shown.out


def test_without_a_budget_the_default_is_timed(dioe: Dioe, model: Path) -> None:
    shown = dioe("bench", model, "--tuning-budget", "0", "--time", "0.2")
    assert shown.code == 0
    assert "plan: cpu/onnxruntime/fp32" in shown.out


# --- what is shown of a mixed plan --------------------------------------------------------------


def result(measured: list[float | None], reason: str = "", **machine: Any) -> BenchResult:
    """A bench that chose ``plan_of()``."""
    plan = plan_of()
    chosen = next(c for c in plan.candidates if c.target == f"{MIXED} -> {ORT}")
    other = TargetReport(MIXED, "ok", p50_ms=6.25, runs=12)
    stages = [
        {"name": s.name, "measured_ms": ms, "reason": "" if ms else reason}
        for s, ms in zip(plan.stages, measured, strict=True)
    ]
    return BenchResult(
        model={"path": "/models/m.onnx", "sha256": "0" * 64, "ops": 7},
        machine={"name": "A CPU", "capacity": 2.0, "known_as": "hardware"} | machine,
        settings={},
        targets=tuple(c for c in plan.candidates if c.target in (ORT, FP32)),
        mixed=(replace(chosen, p50_ms=4.5), other),
        plan={
            "name": chosen.target, "p50_ms": 4.5, "known_as": "hardware", "predicted_ms": 4.25,
            "relative_l2": 0.004, "stages": stages,
        },
        best_single={"target": ORT, "p50_ms": 6.5, "known_as": "hardware"},
        speedup_over_best_single=1.4,
        timings={},
        notes=("a [note]",),
        chosen=plan,
    )  # fmt: skip


def shown(found: BenchResult, columns: int) -> str:
    out = Console(file=io.StringIO(), width=columns, highlight=False)
    show(found, out)
    text = str(out.file.getvalue())  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= columns
    return text


@pytest.mark.parametrize("columns", [80, 200])
def test_a_mixed_plan_stands_among_the_targets_with_what_its_stages_took(columns: int) -> None:
    text = shown(result([1.625, 2.8125]), columns)
    lines = text.splitlines()
    assert any(line.startswith(f" > {MIXED} -> ") and " 4.50 " in line for line in lines)
    for stage, predicted, measured in (("s0", "1.50", "1.62"), ("s1", "2.75", "2.81")):
        row = next(line for line in lines if line.startswith(f" {stage} "))
        assert row.split()[-2:] == [predicted, measured]
    assert "on A CPU, 2 cores (hardware)" in lines
    others = [line.split()[0] for line in lines if line.startswith((" > cpu", "   cpu", " * cpu"))]
    assert others.index("*") > others.index(">")  # timed at another time, so not in their order
    assert any(line.startswith(f" * {MIXED} ") and " 6.25 " in line for line in lines)
    assert "* as the tuning timed it: at another time than the others" in lines
    assert "stages not timed" not in text
    found = words(text)
    assert f"plan: {MIXED} -> {ORT}, 4.50 ms through Session.run (predicted 4.25)" in found
    assert "the plan is 1.40 times as fast (-2.000 ms a run)" in found
    assert "note: a [note]" in found


def test_it_says_why_stages_have_no_times_and_how_the_machine_is_known() -> None:
    text = shown(result([None, None], "no [clock]", capacity=None, known_as="modelled"), 100)
    assert text.count("stages not timed: no [clock]") == 1
    assert "on A CPU (modelled)" in text
