"""Measured figures over a pool, and over its file: what a person wrote stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dioe.hardware import Pool, load_pool
from dioe.hardware.descriptor import BackendFigures, Figures
from dioe.hardware.figures import (
    Arithmetic,
    BandwidthFigure,
    FigureKind,
    OpFactor,
    Peak,
    TimeFigure,
)
from dioe.hardware.measured import SOURCE, Measured, without_calibration, write_measured
from dioe.hardware.spec import BoundaryCost, DeviceSpec, Link


def told(day: str) -> dict[str, Any]:
    return {"source": f"{SOURCE}0.1, one 1, {day}", "kind": FigureKind.MEASURED}


def found(gflops: float, day: str = "2026-01-02") -> Measured:
    """A calibration of the backend ``one`` on the CPU."""
    speed = BandwidthFigure(value=gflops * 1e8, **told(day))
    return Measured(
        figures={
            "cpu": Figures(
                peaks=(
                    Peak(precision=Arithmetic.FP32, value=gflops * 1e9, backend="one", **told(day)),
                ),
                by_backend=(BackendFigures(backend="one", bandwidth=speed),),
            )
        },
        backends={"cpu": ["one"]},
        links=[
            Link("cpu", "gpu:0", speed, TimeFigure(value=1e-6, **told(day))),
            Link("gpu:0", "cpu", speed),
        ],
        boundaries=[BoundaryCost("cpu/one", "cpu/two", TimeFigure(value=1e-6, **told(day)))],
        devices=[DeviceSpec("cpu"), DeviceSpec("gpu:0")],
    )


WRITTEN = """\
# by hand
format: dioe-pool
version: 1
name: mine
devices:
- id: cpu
  name: A CPU
  memory_bytes: 1024
  figures:
    peaks:
    - {precision: bf16, value: 2 TFLOPS, source: a page, kind: vendor}
    - {precision: fp32, value: 1 TFLOPS, backend: two, source: by hand, kind: measured}
    - {precision: int8, value: 9 TOPS, backend: one, source: 'dioe calibrate 0.0', kind: measured}
- id: gpu:0
links:
- {source: cpu, destination: gpu:0, both_ways: true, name: PCIe,
   bandwidth: {value: 8 GB/s, source: by hand, kind: unverified}}
pins: {'type:Conv': gpu:0}
limits: {max_stages: 3, memory: {gpu:0: 2 GiB}}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "host.yaml"
    path.write_text(WRITTEN)
    return path


def peaks(pool: Pool) -> dict[str, float]:
    return {f"{p.precision} {p.backend}".strip(): p.value for p in pool.device("cpu").figures.peaks}


def test_a_file_is_updated(written: Path) -> None:
    before = load_pool(written)
    measured = found(100)
    write_measured(measured, before, written, written)
    after = load_pool(written)
    assert after == measured.over(before)
    assert peaks(after) == {"fp32 one": 100e9, "bf16": 2e12, "fp32 two": 1e12}
    assert after.links == before.links  # by hand, both of them
    assert after.boundaries == tuple(measured.boundaries)
    assert (after.name, after.pins, after.limits) == (before.name, before.pins, before.limits)
    text = yaml.safe_load(written.read_text())
    assert text["limits"] == {"max_stages": 3, "memory": {"gpu:0": "2 GiB"}}  # as it was written
    assert text["links"] == yaml.safe_load(WRITTEN)["links"]


def test_a_second_calibration_replaces_the_first(written: Path) -> None:
    for gflops in (100, 200):
        write_measured(found(gflops), load_pool(written), written, written)
    after = load_pool(written)
    assert peaks(after)["fp32 one"] == 200e9
    assert after == found(200).over(load_pool(written))
    (part,) = after.device("cpu").figures.by_backend
    assert part.bandwidth is not None
    assert part.bandwidth.value == 20e9
    assert len(after.boundaries) == 1


def learned(backend: str, op_class: str, value: float) -> OpFactor:
    return OpFactor(
        op_class=op_class, precision=Arithmetic.FP32, backend=backend, value=value, ops=3,
        **told("2026-01-02"),
    )  # fmt: skip


def test_factors_of_backends_that_teach_none_anew_hold() -> None:
    by_hand = learned("one", "pool", 9.0).model_copy(update={"source": "by hand"})
    earlier = Figures(
        op_factors=(learned("one", "conv", 2.0), learned("two", "conv", 4.0), by_hand)
    )
    pool = Pool((DeviceSpec("cpu", figures=earlier), DeviceSpec("gpu:0")))
    none = found(100).over(pool).device("cpu").figures
    assert none.op_factors == earlier.op_factors
    anew = found(100)
    taught = anew.figures["cpu"].model_copy(update={"op_factors": (learned("one", "matmul", 1.0),)})
    figures = replace(anew, figures={"cpu": taught}).over(pool).device("cpu").figures
    factors = {(f.backend, f.op_class): f.value for f in figures.op_factors}
    assert factors == {("one", "matmul"): 1.0, ("two", "conv"): 4.0, ("one", "pool"): 9.0}


def test_links_of_a_calibration_are_replaced() -> None:
    pool = found(200).over(found(100).over(Pool((DeviceSpec("cpu"), DeviceSpec("gpu:0")))))
    assert [link.bandwidth.value for link in pool.links] == [20e9, 20e9]


def test_what_a_file_includes_stays_there(tmp_path: Path, written: Path) -> None:
    path = tmp_path / "more.yaml"
    path.write_text("include: [host.yaml]\n")
    before, measured = load_pool(path), found(100)
    write_measured(measured, before, path, path)
    after = load_pool(path)
    # an earlier calibration there isn't this file's to take out
    assert peaks(after) == {"fp32 one": 100e9} | peaks(before)
    assert after.links == before.links
    assert after.boundaries == tuple(measured.boundaries)
    text = yaml.safe_load(path.read_text())
    assert text["include"] == ["host.yaml"]
    assert [device["id"] for device in text["devices"]] == ["cpu"]
    assert written.read_text() == WRITTEN
    write_measured(found(200), load_pool(path), path, path)
    assert peaks(load_pool(path))["fp32 one"] == 200e9


def test_in_another_folder_all_is_written_out(tmp_path: Path, written: Path) -> None:
    path = tmp_path / "more.yaml"
    path.write_text("include: [host.yaml]\n")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = tmp_path / "elsewhere" / "all.yaml"
    before, measured = load_pool(path), found(100)
    write_measured(measured, before, elsewhere, path)
    assert load_pool(elsewhere) == measured.over(before)
    assert "include" not in yaml.safe_load(elsewhere.read_text())


def test_a_machine_without_a_file(tmp_path: Path) -> None:
    pool, path = Pool((DeviceSpec("cpu"),)), tmp_path / "host.yaml"
    write_measured(found(100), pool, path)
    assert load_pool(path) == found(100).over(pool)
    assert {device.id for device in load_pool(path).devices} == {"cpu", "gpu:0"}


def test_only_what_is_measured_again_goes() -> None:
    figures = found(100).figures["cpu"]
    assert without_calibration(figures, ["two"]) == figures
    assert without_calibration(figures, ["one"]) == Figures()
    by_hand = BackendFigures(
        backend="one",
        launch_overhead=TimeFigure(value=1e-6, source="by hand", kind=FigureKind.MEASURED),
        bandwidth=figures.by_backend[0].bandwidth,
    )
    (left,) = without_calibration(Figures(by_backend=(by_hand,)), ["one"]).by_backend
    assert left.launch_overhead == by_hand.launch_overhead
    assert left.bandwidth is None
