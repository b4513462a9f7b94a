"""Calibration: a modelled device is found to be what its description says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dioe
from dioe.hardware import load_pool
from dioe.hardware.figures import Arithmetic, FigureKind
from dioe.hardware.reached import compute_rate, dispatch_s, launch_s, memory_rate
from dioe.runtime import Runtime
from dioe.tuning.calibrate import Calibration, run_calibration
from dioe.types import Precision
from dioe_null import DeviceModel, LinkModel, NullBackend
from tests.toys.backend import registry_of
from tests.toys.work import Clock, ModelledClock

NPU = DeviceModel(
    id="npu:0",
    name="round numbers",
    peak_tflops={Precision.FP32: 1.0, Precision.FP16: 4.0, Precision.INT8: 8.0},
    memory_bytes=2**30,
    memory_gbps=100.0,
    link=LinkModel(bandwidth_gbps=8.0, latency_us=100.0),
    compute_efficiency=0.5,
    memory_efficiency=0.5,
    launch_us=10.0,
    dispatch_us=300.0,
)
TARGET = "npu:0/null"


@pytest.fixture
def modelled(clock: Clock) -> Iterator[Runtime]:
    runtime = Runtime(registry_of(NullBackend([NPU], ModelledClock(clock))))
    yield runtime
    runtime.close()


@pytest.fixture
def found(modelled: Runtime) -> Calibration:
    return run_calibration(devices=TARGET, seconds=10.0, runtime=modelled)


def test_a_modelled_device_is_what_its_description_says(found: Calibration) -> None:
    npu = found.pool.device("npu:0")
    assert npu.known_as == "modelled"
    for precision, peak in NPU.peak_tflops.items():
        rate = compute_rate(npu, precision, backend="null")
        assert rate is not None
        assert rate.measured
        assert rate.per_s == pytest.approx(0.5e12 * peak, rel=0.05)
    bandwidth = memory_rate(npu, backend="null")
    assert bandwidth is not None
    assert bandwidth.per_s == pytest.approx(50e9, rel=0.02)
    for nbytes in (4 << 20, 16 << 20):
        cached = memory_rate(npu, nbytes, backend="null")
        assert cached is not None
        assert cached.per_s == pytest.approx(50e9, rel=0.02)
    assert launch_s(npu, "null") == pytest.approx(10e-6, rel=0.02)
    assert dispatch_s(npu, "null") == pytest.approx(300e-6, rel=0.05)
    for way in (("cpu", "npu:0"), ("npu:0", "cpu")):
        link = found.pool.link(*way)
        assert link is not None
        assert link.bandwidth.value == pytest.approx(8e9, rel=0.02)
        assert link.latency is not None
        assert link.latency.value == pytest.approx(100e-6, rel=0.05)


def test_every_figure_tells_where_it_comes_from(found: Calibration) -> None:
    figures = dict(found.pool.device("npu:0").figures.all_figures())
    assert figures
    version = found.rows[-1].version
    for figure in figures.values():
        assert figure.kind is FigureKind.MEASURED
        assert figure.source.startswith(f"dioe calibrate {dioe.__version__}, null {version}, 20")
        assert "median of " in figure.source
        assert figure.note.startswith("modelled")
    (int8,) = [
        p for p in found.pool.device("npu:0").figures.peaks if p.precision is Arithmetic.INT8
    ]
    assert int8.backend == "null"


def test_written_and_read_back(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    found.write(path)
    assert load_pool(path) == found.pool
