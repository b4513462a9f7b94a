"""Calibration: a modelled device is found to be what its description says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from onnx import helper

import dioe
from dioe.hardware import DeviceSpec, Pool, fingerprint, host_pool, load_pool
from dioe.hardware.figures import Arithmetic, FigureKind, Peak
from dioe.hardware.reached import compute_rate, dispatch_s, launch_s, memory_rate
from dioe.profiling import calibration, rounds
from dioe.runtime import Runtime
from dioe.tuning.calibrate import LAST_RESORT, LONG_COMPILER, NOT_HERE, Calibration, run_calibration
from dioe.types import Capabilities, InputError, ModelError, OutOfMemory, Precision, Resources
from dioe_null import DeviceModel, LinkModel, NullBackend
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.work import Clock, ModelledClock
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.test_predict import model as matmuls

NPU = DeviceModel(
    id="npu:0",
    name="round numbers",
    peak_tflops={Precision.FP32: 1.0, Precision.FP16: 4.0, Precision.INT8: 8.0},
    memory_bytes=2**28,
    memory_gbps=100.0,
    link=LinkModel(bandwidth_gbps=8.0, latency_us=100.0),
    compute_efficiency=0.5,
    memory_efficiency=0.5,
    launch_us=10.0,
    dispatch_us=300.0,
)
TARGET = "npu:0/null"


@pytest.fixture(scope="module")
def found() -> Calibration:
    """What is found of the NPU, on a clock that goes on only as it works."""
    clock = Clock()
    runtime = Runtime(registry_of(NullBackend([NPU], ModelledClock(clock))))
    with pytest.MonkeyPatch.context() as patched:
        clock.patch(patched)
        patched.setattr(rounds, "others_share", lambda before, after: 0.0)
        made = run_calibration(devices=TARGET, seconds=2.0, runtime=runtime)
    runtime.close()
    return made


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


# --- what is measured at all ------------------------------------------------------------------


class Toy(ToyBackend):
    """A backend that nobody gets to open: what is chosen is all that is looked at."""

    def __init__(self, name: str, capabilities: Capabilities, **settings: Any) -> None:
        super().__init__(name, **settings)
        self._capabilities = capabilities

    def capabilities(self, device: str) -> Capabilities:
        return self._capabilities

    def open(self, device: str, resources: Resources) -> NoReturn:
        raise OutOfMemory(f"no room for {self.name}")


class Silent(Toy):
    def capabilities(self, device: str) -> Capabilities:
        raise OSError("no answer")


@pytest.fixture
def several(use_backends: UseBackends) -> Runtime:
    return use_backends(
        Toy("usual", Capabilities()),
        Toy("slow", Capabilities(dynamic_shapes=False)),
        Toy("last", Capabilities(last_resort=True)),
        Silent("silent", Capabilities()),
        installed=(),
    )


def chosen(runtime: Runtime, devices: str) -> dict[str, str]:
    rows = run_calibration(devices=devices, seconds=0.0, runtime=runtime).rows
    return {row.backend: row.reason for row in rows}


@pytest.mark.parametrize("devices", ["auto", "cpu"])
def test_what_is_measured_unless_named(several: Runtime, devices: str) -> None:
    assert chosen(several, devices) == {
        "usual": "",
        "slow": LONG_COMPILER,
        "last": LAST_RESORT,
        "silent": "it can't tell what it can do: OSError: no answer",
    }


def test_what_is_named_is_measured(several: Runtime) -> None:
    assert chosen(several, "cpu/last,cpu/slow") == {"last": "", "slow": ""}


def test_a_backend_that_fails_at_everything_has_its_reasons(several: Runtime) -> None:
    found = run_calibration(devices="cpu/usual", seconds=0.0, runtime=several)
    (row,) = found.rows
    assert set(row.findings.problems.values()) == {"no room for usual"}
    assert not found.pool.device("cpu").figures.by_backend
    assert not found.measured.boundaries


@pytest.mark.parametrize(
    ("devices", "error", "says"),
    [
        ("gpu:7", InputError, "gpu:7"),
        ("cpu/nobody", InputError, "cpu/nobody"),
        ("", InputError, "matches the device"),
        ([], InputError, "no device is named"),
    ],
)
def test_names_that_match_nothing(
    several: Runtime, devices: str | list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run_calibration(devices=devices, runtime=several)


def test_simulated_backends_have_to_be_named(use_backends: UseBackends) -> None:
    runtime = use_backends(NullBackend([NPU]), Toy("usual", Capabilities()), installed=())
    assert chosen(runtime, "auto") == {"usual": ""}
    with pytest.raises(InputError, match="npu:0"):
        run_calibration(devices="npu:0", runtime=runtime)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), "1"])
def test_seconds(seconds: float) -> None:
    with pytest.raises(InputError, match="seconds"):
        dioe.calibrate(seconds=seconds)


def test_this_machine_for_a_moment(
    use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(calibration, "SIZES", (256, 512))
    monkeypatch.setattr(calibration, "BEYOND_CACHE", 1)  # what caches hold will do
    use_backends(installed=("onnxruntime", "openvino"))
    path = tmp_path / "host.yaml"
    pool = dioe.calibrate(devices="cpu/onnxruntime,cpu/openvino", seconds=0.0, write=path)
    assert load_pool(path) == pool
    cpu = pool.device("cpu")
    for backend in ("onnxruntime", "openvino"):
        fp32 = compute_rate(cpu, Precision.FP32, backend=backend)
        assert fp32 is not None
        assert fp32.measured
        assert isinstance(fp32.figure, Peak)
        assert fp32.figure.backend == backend
        assert 1e9 < fp32.per_s < 1e14
        assert 1e-8 < (launch_s(cpu, backend) or 0) < 1e-3
        assert (dispatch_s(cpu, backend) or 0) < 1e-2
        memory = memory_rate(cpu, 1 << 20, backend=backend)
        assert memory is None or 1e8 < memory.per_s < 1e13
    assert pool.boundary("cpu/onnxruntime/fp32", "cpu/openvino/fp32") is not None
    assert fingerprint(pool) == fingerprint(host_pool())


def test_a_device_that_isnt_here_is_told(several: Runtime) -> None:
    pool = Pool((DeviceSpec("cpu"), DeviceSpec("gpu:0")))
    rows = run_calibration(hardware=pool, seconds=0.0, runtime=several).rows
    assert ("gpu:0", "", NOT_HERE) in [(row.name, row.backend, row.reason) for row in rows]


def test_models_teach_how_far_classes_of_ops_stay_from_their_rooflines(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    devices = "cpu/onnxruntime"
    pool = dioe.calibrate(devices=devices, seconds=0.0, models=[matmuls()], write=path)
    learned = {f.op_class: f for f in pool.device("cpu").figures.op_factors}
    assert set(learned) == {"matmul.few_rows", "fused", "launch"}  # its open batch is 1
    assert learned["matmul.few_rows"].ops == 2
    assert learned["matmul.few_rows"].value > 0
    assert learned["matmul.few_rows"].backend == "onnxruntime"
    assert learned["matmul.few_rows"].source.endswith("from 1 model")
    assert load_pool(path).device("cpu").figures.op_factors == tuple(learned.values())
    again = dioe.calibrate(hardware=path, devices=devices, seconds=0.0, write=path)
    assert again.device("cpu").figures.op_factors == tuple(learned.values()), "none were learned"
    found = dioe.predict(matmuls(), hardware=path, devices="cpu")
    own = {p.precision: p for p in found.predictions if p.backend == "onnxruntime"}
    measured = {str(p.precision) for p in pool.device("cpu").figures.peaks if p.backend}
    assert set(own) == measured, "not in what other backends may compute in"
    assert "learned from" in own[Precision.FP32].basis


def test_a_model_that_cant_be_read_is_told_before_anything_is_measured() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx"):
        dioe.calibrate(models=["nowhere.onnx"])


def test_a_model_that_nothing_runs_costs_no_figure() -> None:
    odd = matmuls()
    odd.graph.node[1].op_type, odd.graph.node[1].domain = "Nonesuch", "nowhere"
    odd.opset_import.append(helper.make_opsetid("nowhere", 1))
    found = run_calibration(devices="cpu/onnxruntime", seconds=0.0, models=[odd, matmuls()])
    (reason,) = found.model_problems.values()
    assert reason == "no target runs it"
    assert found.to_dict()["model_problems"] == dict(found.model_problems)
    factors = found.pool.device("cpu").figures.op_factors
    assert {factor.source.rpartition(", ")[2] for factor in factors} == {"from 1 model"}
