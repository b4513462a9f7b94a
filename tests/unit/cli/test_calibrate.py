"""``dioe calibrate``, on a modelled device and a toy that nothing can be measured on."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, NoReturn

import pytest

import dioe as dioe_package
from dioe.profiling import calibration, rounds
from dioe.types import OutOfMemory, Precision, Resources
from dioe_null import DeviceModel, LinkModel, NullBackend
from tests.toys.backend import ToyBackend
from tests.toys.work import Clock, ModelledClock
from tests.unit.cli.conftest import Dioe, UseBackends, is_told

NPU = DeviceModel(
    id="npu:0",
    name="small",
    peak_tflops={Precision.FP32: 1.0, Precision.INT8: 2.0},
    memory_bytes=2**24,
    memory_gbps=100.0,
    link=LinkModel(bandwidth_gbps=10.0, latency_us=10.0),
    launch_us=1.0,
    dispatch_us=10.0,
)
QUICK = ("--devices", "npu:0/null,cpu/full", "--seconds", "0")


class Full(ToyBackend):
    def open(self, device: str, resources: Resources) -> NoReturn:
        raise OutOfMemory("no [room] at all")


@pytest.fixture(autouse=True)
def a_modelled_device(use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SIZES", (256,))
    monkeypatch.setattr(rounds, "others_share", lambda before, after: 0.0)
    clock = Clock()
    clock.patch(monkeypatch)
    use_backends(NullBackend([NPU], ModelledClock(clock)), Full("full"), installed=())


@pytest.mark.parametrize("columns", [80, 200])
def test_tables(dioe: Dioe, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("calibrate", *QUICK)
    assert shown.code == 0
    assert shown.err == ""
    assert max(map(len, shown.out.splitlines())) <= columns
    for text in ("Peaks", "null modelled", "dispatch", "2 MiB", "GB/s", "npu:0"):
        assert text in shown.out
    assert re.search(r"fp32 +~?[\d.]+ [GT]FLOPS", shown.out)
    assert re.search(r"int8 +~?[\d.]+ [GT]OPS", shown.out), "integers have no FLOPS"
    assert "cpu/full has no fp32 peak: no [room] at all" in " ".join(shown.out.split())


def test_json(dioe: Dioe) -> None:
    found = dioe("calibrate", *QUICK, "--json").json
    rows = {row["backend"]: row for row in found["backends"]}
    assert set(rows) == {"null", "full"}
    assert rows["null"]["known_as"] == "modelled"
    assert rows["null"]["peaks_per_s"]["fp32"]["value"] > 0
    assert set(rows["full"]["problems"].values()) == {"no [room] at all"}
    assert {(link["source"], link["destination"]) for link in found["links"]} == {
        ("cpu", "npu:0"),
        ("npu:0", "cpu"),
    }


def test_written_and_updated(dioe: Dioe, tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    assert dioe("devices", "--write", path).code == 0
    path.write_text(path.read_text() + "pins: {'type:Conv': cpu}\n")
    for _ in range(2):
        shown = dioe("calibrate", *QUICK, "--hardware", path, "--write", path)
        assert shown.code == 0
        assert f"written to {path}" in shown.out.replace("\n", "")
    pool = dioe_package.load_pool(path)
    assert pool.pins == (("type:Conv", "cpu"),)
    npu = pool.device("npu:0")
    assert npu.known_as == "modelled"
    assert [p.precision for p in npu.figures.peaks] == ["fp32", "int8"]
    assert dioe("validate", path).code == 0


def test_another_file_isnt_overwritten(dioe: Dioe, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    is_told(dioe("calibrate", *QUICK, "--write", path), 11, path)
    assert path.read_text() == "mine"


def test_ctrl_c_leaves_nothing_behind(
    dioe: Dioe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any, **named: Any) -> NoReturn:
        raise KeyboardInterrupt

    calibrating = importlib.import_module("dioe.tuning.calibrate")
    monkeypatch.setattr(calibrating, "measure", interrupted)
    path = tmp_path / "host.yaml"
    shown = dioe("calibrate", *QUICK, "--write", path)
    assert shown.code == 130
    assert "nothing was written" in shown.err
    assert not path.exists()


def test_a_device_that_isnt_there(dioe: Dioe) -> None:
    is_told(dioe("calibrate", "--devices", "gpu:7"), 11, "gpu:7")
    is_told(dioe("calibrate", "--seconds", "-1"), 11, "seconds")
