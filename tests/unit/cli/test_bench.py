"""``dioe bench``: the object and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Dioe
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
