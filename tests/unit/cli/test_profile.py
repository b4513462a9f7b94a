"""``dioe profile``: per-op times on every target."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.types import Value
from tests.toys.backend import ToyBackend
from tests.unit.cli.conftest import Dioe, UseBackends

QUICK = ("--time", "0.05")


def test_json(dioe: Dioe, model: Path, x: Path) -> None:
    shown = dioe("profile", model, "--input", f"x={x}", "--precision", "fp32", "--json", *QUICK)
    assert shown.code == 0
    assert shown.err == ""
    assert set(shown.json) == {"model", "targets"}
    assert shown.json["model"]["ops"] == 4
    targets = {entry["target"]: entry for entry in shown.json["targets"]}
    assert set(targets) == {"cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32"}
    for target in ("cpu/onnxruntime/fp32", "cpu/openvino/fp32"):
        assert not targets[target]["reason"]
        assert targets[target]["ops"]
        for op in targets[target]["ops"]:
            assert set(op) == {"name", "op_type", "source_ops", "mean_ms", "runs", "precision"}
            assert op["mean_ms"] >= 0
            assert op["runs"] >= 1
    assert targets["cpu/reference/fp32"]["ops"] == []
    assert "last resort" in targets["cpu/reference/fp32"]["reason"]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits(
    dioe: Dioe, model: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("profile", model, "--shape", "x=64,8", *QUICK)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= columns
    assert "MatMul" in shown.out
    assert "cpu/openvino/fp32: " in shown.out


def test_top_limits_the_rows(dioe: Dioe, model: Path) -> None:
    call = ["profile", model, "--devices", "cpu/onnxruntime", *QUICK]
    one = dioe(*call, "--top", "1").out.splitlines()
    everything = dioe(*call, "--top", "0").out.splitlines()
    assert len(one) < len(everything)


def test_a_target_that_fails_has_its_reason(
    dioe: Dioe, model: Path, use_backends: UseBackends
) -> None:
    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise RuntimeError("sulks [today]")

    use_backends(ToyBackend("acme", during=fail))
    shown = dioe("profile", model, *QUICK)
    assert shown.code == 0
    assert "sulks [today]" in shown.out
    assert "cpu/onnxruntime/fp32: " in shown.out
