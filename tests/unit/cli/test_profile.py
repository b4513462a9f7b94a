"""``dioe profile``: per-op times on every target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dioe.profiling import BlockTiming, History, blocks
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
    assert {f"cpu/{name}/fp32" for name in ("onnxruntime", "openvino", "reference")} <= set(targets)
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
    left = [line for line in one if line.startswith("and ")]
    assert len(left) == 1
    assert re.fullmatch(r"and \d+ more of \S+ ms \(\d+\.\d%\); --top 0 shows all", left[0])
    assert not [line for line in everything if line.startswith("and ")]
    assert len(one) == len(everything) - int(left[0].split()[1]) + 1
    assert any(line.startswith("the model has 4 ops") for line in everything)


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


# --- blocks -------------------------------------------------------------------------------------

BLOCKS = ("--blocks", "--seconds", "4", "--devices", "cpu/onnxruntime,cpu/openvino/fp32")
TARGETS = ["cpu/onnxruntime/fp32", "cpu/openvino/fp32"]


@pytest.fixture
def one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of one core: one way to run beside others for each target."""
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        "format: dioe-pool\nversion: 1\n"
        "devices:\n- {id: cpu, kind: cpu, name: Toy CPU, capacity: 1}\n"
    )
    monkeypatch.setenv("DIOE_HARDWARE", str(pool))


@pytest.mark.usefixtures("one_core")
def test_blocks_are_measured_once(
    dioe: Dioe, model: Path, x: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["profile", model, "--input", f"x={x}", *BLOCKS]
    shown = dioe(*call, "--json")
    assert shown.code == 0
    assert shown.err == ""
    found = shown.json
    assert set(found) == {"model", "blocks", "not_reached"}
    assert found["not_reached"] == 0
    assert sum(entry["times"] * len(entry["ops"]) for entry in found["blocks"]) == 4
    for entry in found["blocks"]:
        assert [cost["target"] for cost in entry["costs"]] == TARGETS
        assert entry["best"]["target"] in TARGETS
        for cost in entry["costs"]:
            assert cost["alone"]["p50_ms"] > 0
            assert cost["alone"]["runs"] > 0
            assert cost["context_ms"] is None or cost["context_ms"] >= 0
        assert any(cost["context_ms"] is not None for cost in entry["costs"])

    again = dioe(*call, "--json").json
    told = [
        {entry["structure_hash"]: [cost["alone"] for cost in entry["costs"]]
         for entry in each["blocks"]}
        for each in (found, again)
    ]  # fmt: skip
    for structure, timings in told[0].items():
        for timing, repeated in zip(timings, told[1][structure], strict=True):
            assert timing["noisy"] or timing == repeated

    for columns in (80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        table = dioe(*call)
        assert (table.code, table.err) == (0, "")
        lines = table.out.splitlines()
        assert max(map(len, lines)) <= columns
        assert any("matmul: MatMul" in line for line in lines)
        assert any(line.lstrip().startswith("> cpu/") for line in lines)
        assert any(line.split()[-1:] == ["n"] for line in lines)
        assert "distinct blocks, ms of one" in table.out


@pytest.mark.usefixtures("one_core")
def test_ctrl_c_keeps_what_was_measured(
    dioe: Dioe, model: Path, x: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    timed: list[str] = []

    def time_once(*given: object, **settings: object) -> BlockTiming:
        if timed:
            raise KeyboardInterrupt
        timed.append("one")
        return BlockTiming(1.25, 1.5, 2.0, 0.1, 9, noisy=False)

    monkeypatch.setattr(blocks, "time_block", time_once)
    outcome = dioe("profile", model, "--input", f"x={x}", *BLOCKS)
    assert outcome.code == 130
    assert outcome.out == ""
    assert "costs measured so far, which are kept" in outcome.err
    assert History(tmp_path / "dioe-cache").info().entries["block"] == 1
