"""Modelled devices on the command line: a user's own file, and what the commands say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Dioe, UseBackends, is_told

VARIABLE = "DIOE_NULL_DEVICES"
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "null_devices.yaml"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_backends: UseBackends) -> str:
    """The reason that a file of devices with a misspelt key is refused for."""
    path = tmp_path / "devices.yaml"
    text = EXAMPLE.read_text(encoding="utf-8").replace("launch_us: 5 ", "lunch_us: 5 ", 1)
    path.write_text(text, encoding="utf-8")
    line = next(i for i, each in enumerate(text.splitlines(), 1) if "lunch" in each)
    monkeypatch.setenv(VARIABLE, str(path))
    use_backends(installed=("null", "onnxruntime"))
    return f"{path}:{line}:5: unknown key 'lunch_us'; did you mean 'launch_us'?"


@pytest.mark.parametrize("columns", [80, 200])
def test_a_broken_file_is_told_by_devices(
    dioe: Dioe, broken: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("devices")
    assert shown.code == 0
    squeezed = shown.out.replace("\n", "").replace(" ", "")
    assert f"null is failed: {broken}".replace(" ", "") in squeezed
    assert any("onnxruntime" in line and "ready" in line for line in shown.out.splitlines())
    found = {b["name"]: b for b in dioe("devices", "--json").json["backends"]}
    assert (found["null"]["state"], found["null"]["reason"]) == ("failed", broken)


def test_a_broken_file_hurts_only_who_names_its_devices(
    dioe: Dioe, broken: str, model: Path
) -> None:
    is_told(dioe("plan", model, "--devices", "cpu,npu:0/null"), 19, "'null'", broken)
    assert dioe("plan", model, "--tuning-budget", "0").code == 0


@pytest.mark.parametrize("columns", [80, 200])
def test_the_devices_of_a_file_are_listed(
    dioe: Dioe, monkeypatch: pytest.MonkeyPatch, use_backends: UseBackends, columns: int
) -> None:
    monkeypatch.setenv(VARIABLE, str(EXAMPLE))
    monkeypatch.setenv("COLUMNS", str(columns))
    use_backends(installed=("null", "onnxruntime"))
    shown = dioe("devices").out
    assert max(map(len, shown.splitlines())) <= columns
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "npu:0 modelled NPU (Core Ultra, Lunar Lake) 4.0 GiB 20 GB/s, 50 µs" in lines
    assert "gpu:0 modelled GPU (L4) 24.0 GiB 24 GB/s, 10 µs" in lines


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, use_backends: UseBackends) -> None:
    """The devices of the documentation's example, beside ONNX Runtime."""
    monkeypatch.setenv(VARIABLE, str(EXAMPLE))
    use_backends(installed=("null", "onnxruntime"))


BOTH = ("--devices", "gpu:0/null,npu:0/null", "--precision", "fp16", "--tuning-budget", "1")


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.usefixtures("example")
def test_an_explained_plan_says_modelled(
    dioe: Dioe, model: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("plan", model, "--shape", "x=4,8", "--explain", *BOTH)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert "(modelled)" in lines[0]
    for target in ("gpu:0/null/fp16", "npu:0/null/fp16"):
        assert any(target in x and ("ok modelled" in x or "slow modelled" in x) for x in lines)
    words = " ".join(shown.out.split())
    assert "they weren't compared with the reference" in words
    assert "its outputs aren't checked" in words
    assert dioe("cache", "export", "-").out == ""  # nothing was measured


@pytest.mark.usefixtures("example")
def test_auto_leaves_modelled_devices_alone(dioe: Dioe, model: Path) -> None:
    found = dioe("plan", model, "--shape", "x=4,8", "--json", "--tuning-budget", "1").json
    assert [c["target"] for c in found["candidates"]] == ["cpu/onnxruntime/fp32"]
    assert {c["known_as"] for c in found["candidates"]} == {"hardware"}


@pytest.mark.usefixtures("example")
def test_a_run_says_that_its_outputs_mean_nothing(dioe: Dioe, model: Path, x: Path) -> None:
    settings = ("--devices", "npu:0/null", "--tuning-budget", "0.5")
    shown = dioe("run", model, "--input", f"x={x}", *settings)
    assert shown.code == 0, shown.err
    assert "modelled on npu:0/null/fp32" in shown.out
    assert "outputs mean nothing" in shown.out


@pytest.mark.usefixtures("example")
def test_what_a_device_does_not_compute_in_is_told(dioe: Dioe, model: Path) -> None:
    asked = ("--devices", "npu:0/null", "--precision", "bf16")
    is_told(dioe("plan", model, *asked), 11, "npu:0/null/fp16", "npu:0/null/int8")
    asked = ("--devices", "cpu,npu:0/null", "--precision", "fp16")
    is_told(dioe("plan", model, *asked), 11, "'cpu' isn't used", "cpu/onnxruntime/fp32")
    is_told(dioe("plan", model, "--devices", "npu:0"), 11, "modelled", "npu:0/null")
