"""OpenVINO's devices: the CPU here, and others by what a Core says of them (contract level).

The fake Core answers only what the device it stands for is known to answer, and compiles for the
CPU, so that the whole way from a device's id to a result is walked.
"""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino as ov
import psutil
import pytest

from dioe.types import (
    Backend,
    BackendError,
    DeviceState,
    InputError,
    Precision,
    Precisions,
    Resources,
    TimedOut,
    UnsupportedError,
)
from dioe_openvino.backend import OpenVinoBackend
from dioe_openvino.devices import find
from tests.backend.cases import floats, model, relu, small_network
from tests.backend.conftest import Compile

PCI = SimpleNamespace(domain=0, bus=3, device=0, function=1)
COMMON = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f16",
    "NUM_STREAMS": 1,
    "PERF_COUNT": False,
}
DEVICES: dict[str, dict[str, Any]] = {
    "CPU": {
        "OPTIMIZATION_CAPABILITIES": ["FP32", "FP16", "INT8", "EXPORT_IMPORT"],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32,
        "INFERENCE_NUM_THREADS": 0,
        "ENABLE_CPU_PINNING": True,
        **COMMON,
    },
    "GPU.0": {
        "FULL_DEVICE_NAME": "Intel(R) Graphics (iGPU)",
        "OPTIMIZATION_CAPABILITIES": ["FP32", "BIN", "FP16", "INT8", "EXPORT_IMPORT"],
        "DEVICE_TYPE": ov.properties.device.Type.INTEGRATED,
        "DEVICE_UUID": "8680A04605000000000200000000000A",
        "GPU_DEVICE_TOTAL_MEM_SIZE": 8 << 30,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        **COMMON,
    },
    "GPU.1": {
        "FULL_DEVICE_NAME": "Intel(R) Arc(TM) (dGPU)",
        "OPTIMIZATION_CAPABILITIES": ["FP32", "FP16", "INT8"],
        "DEVICE_TYPE": ov.properties.device.Type.DISCRETE,
        "DEVICE_PCI_INFO": PCI,
        "DEVICE_UUID": "00000000000000000000000000000000",
        "GPU_DEVICE_TOTAL_MEM_SIZE": 16 << 30,
        **COMMON,
    },
    "NPU": {
        "FULL_DEVICE_NAME": "Intel(R) AI Boost",
        "OPTIMIZATION_CAPABILITIES": ["FP16", "INT8", "EXPORT_IMPORT"],
        "DEVICE_TYPE": ov.properties.device.Type.INTEGRATED,
        "DEVICE_UUID": "",
        **COMMON,
    },
    "TEMPLATE": {},
}


class FakeCore:
    """A Core of these devices; refuses what a real one refuses."""

    def __init__(self, log: list[tuple[str, dict[str, Any]]]) -> None:
        self.available_devices = list(DEVICES)
        self._log = log
        self._core = ov.Core()

    def get_property(self, device_name: str, property: str) -> Any:  # noqa: A002 - OpenVINO's name
        properties = DEVICES[device_name]
        if property == "SUPPORTED_PROPERTIES":
            return dict.fromkeys((*properties, property), "RO")
        if property not in properties:
            raise RuntimeError(f"Unsupported property {property} by {device_name} plugin")
        return properties[property]

    def read_model(self, source: bytes | str) -> ov.Model:
        return self._core.read_model(source)

    def compile_model(self, read: ov.Model, device: str, config: dict[str, Any]) -> Any:
        unknown = config.keys() - DEVICES[device].keys()
        if unknown:
            raise RuntimeError(f"{device}: unsupported property {unknown}")
        self._log.append((device, config))
        return self._core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def import_model(self, blob: bytes, device: str, config: dict[str, Any]) -> Any:
        self._log.append((device, config))
        return self._core.import_model(blob, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.fixture
def log() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def fake(log: list[tuple[str, dict[str, Any]]]) -> OpenVinoBackend:
    return OpenVinoBackend(lambda: FakeCore(log))


def test_devices_have_ids_and_what_tells_them_apart(fake: OpenVinoBackend) -> None:
    cpu, integrated, discrete, npu = fake.probe()
    assert (cpu.id, cpu.uuid) == ("cpu", "host-cpu")
    assert (integrated.id, integrated.kind, integrated.shares) == ("gpu:0", "gpu", "cpu")
    assert integrated.uuid == "uuid:8680a04605000000000200000000000a"
    assert (discrete.id, discrete.uuid, discrete.shares) == ("gpu:1", "pci:0000:03:00.1", None)
    assert discrete.memory_bytes == 16 << 30
    assert (npu.id, npu.uuid, npu.memory_bytes) == ("npu:0", "", None)
    assert npu.details["openvino"] == "NPU"
    assert all(d.state is DeviceState.PRESENT for d in (cpu, integrated, discrete, npu))


def test_precisions_by_device(fake: OpenVinoBackend) -> None:
    fp32, fp16, int8 = Precision.FP32, Precision.FP16, Precision.INT8
    assert fake.capabilities("cpu").computes == {fp32, int8}
    assert fake.capabilities("gpu:0").computes == {fp32, fp16, int8}
    assert fake.capabilities("gpu:1").computes == {fp32, fp16}
    assert fake.capabilities("npu:0").computes == {fp16}
    assert not fake.capabilities("gpu:0").mixes_precisions
    refused = fake.query(relu(), "npu:0", fp32).refused
    assert refused == {"y": "NPU has no fp32 arithmetic that OpenVINO uses"}
    for use in (lambda: fake.open("gpu:2", Resources()), lambda: fake.capabilities("npu:1")):
        with pytest.raises(UnsupportedError, match="no device"):
            use()


@pytest.mark.parametrize(
    ("device", "native", "precision", "hint"),
    [
        ("gpu:0", "GPU.0", Precision.FP16, "f16"),
        ("gpu:1", "GPU.1", Precision.FP32, "f32"),
        ("npu:0", "NPU", Precision.FP16, "f16"),
    ],
)
def test_settings_go_to_the_device_that_has_them(
    fake: OpenVinoBackend,
    log: list[tuple[str, dict[str, Any]]],
    device: str,
    native: str,
    precision: Precision,
    hint: str,
) -> None:
    assert fake.query(relu(), device, precision).whole
    context = fake.open(device, Resources(threads=2, cores=(0,), streams=3))
    executable = context.compile(relu(), Precisions(precision), {"profile": True})
    request: Any = executable.request()
    x = floats(2, 4)
    np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], np.maximum(x, 0))
    compiled, config = log[-1]
    assert compiled == native
    assert config["INFERENCE_PRECISION_HINT"] == hint
    assert (config["NUM_STREAMS"], config["PERF_COUNT"]) == (3, True)
    assert not {"INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING"} & config.keys()
    assert (executable.serialize() is None) == (native == "GPU.1")
    with pytest.raises(UnsupportedError, match=native):
        context.compile(relu(), Precisions(Precision.FP32, {"y": Precision.FP16}), {})
    assert context.utilization() is None
    context.close()


def test_a_blob_goes_back_to_its_device(
    fake: OpenVinoBackend, log: list[tuple[str, dict[str, Any]]]
) -> None:
    context = fake.open("gpu:0", Resources())
    blob = context.compile(relu(), Precisions(Precision.FP16), {}).serialize()
    assert blob is not None
    request: Any = context.deserialize(blob).request()
    assert log[-1][0] == "GPU.0"
    assert log[-1][1]["INFERENCE_PRECISION_HINT"] == "f16"
    x = floats(2, 4)
    np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], np.maximum(x, 0))
    assert context.memory_info() == {"total_bytes": 8 << 30}
    context.close()


def test_the_real_core_answers_what_is_asked() -> None:
    core = ov.Core()
    found = find(core)
    assert [device.native for device in found.values()] == [
        name for name in core.available_devices if name.partition(".")[0] in ("CPU", "GPU", "NPU")
    ]
    cpu = found["cpu"]
    assert cpu.host
    assert Precision.FP32 in cpu.computes
    assert {"ENABLE_CPU_PINNING", "INFERENCE_NUM_THREADS", "NUM_STREAMS"} <= cpu.keys


def heavy(count: int = 40) -> Any:
    steps = " ".join(f"v{i + 1} = MatMul(v{i}, x)" for i in range(count))
    return model(
        f"g (float[384,384] x) => (float[384,384] y) {{ v0 = Abs(x) {steps} y = Abs(v{count}) }}"
    )


def test_asynchronous_runs(openvino: Backend, compile_on: Compile) -> None:
    executable = compile_on(openvino, heavy(), options={"asynchronous": True})
    request = executable.request()
    x, y = floats(384, 384) / 40, np.empty((384, 384), np.float32)
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    expected = y.copy()
    y[...] = 0
    event = request.run()
    assert not event.done()
    with pytest.raises(TimedOut):
        event.wait(timeout_ms=1)
    while not event.done():
        time.sleep(0.001)
    event.wait()
    np.testing.assert_array_equal(y, expected)
    first, second = request.run(), request.run()  # the second waits for the first
    assert first.done()
    request.bind({"x": x})  # and this for the second
    assert second.done()
    request.run()
    np.testing.assert_array_equal(request.outputs["y"], expected)
    request.run()
    executable.close()
    with pytest.raises(BackendError, match="closed"):
        request.run()


def test_what_an_asynchronous_run_fails_with_comes_when_waiting(
    openvino: Backend, compile_on: Compile
) -> None:
    request = compile_on(openvino, relu("N"), options={"asynchronous": True}).request()
    request.bind({"x": floats(2, 4)}, {"y": np.empty((3, 4), np.float32)})
    event = request.run()
    for _ in range(2):
        with pytest.raises(InputError, match="y"):
            event.wait()
    assert event.done()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are needed")
@pytest.mark.parametrize("backend_name", ["openvino", "onnxruntime"])
def test_a_context_of_one_thread_stays_on_its_core(
    request: pytest.FixtureRequest, backend_name: str, compile_on: Compile
) -> None:
    """Each context computes in its caller's thread only, on the core where that is."""
    backend: Backend = request.getfixturevalue(backend_name)
    cores = sorted(os.sched_getaffinity(0))[:2]
    used: dict[int, dict[int, float]] = {}
    errors: list[BaseException] = []

    def times() -> dict[int, float]:
        return {t.id: t.user_time + t.system_time for t in psutil.Process().threads()}

    def work(core: int) -> None:
        try:
            os.sched_setaffinity(0, {core})
            resources = Resources(cores=(core,), threads=1, spin=False)
            made = compile_on(backend, small_network(), resources=resources).request()
            made.bind({"x": floats(1, 3, 16, 16)})
            made.run()
            before, end = times(), time.perf_counter() + 0.4
            while time.perf_counter() < end:
                made.run()
            spent = {tid: t - before.get(tid, 0) for tid, t in times().items()}
            used[core] = {tid: t for tid, t in spent.items() if t > 0.1}
            assert set(used[core]) == {threading.get_native_id()}
            assert os.sched_getaffinity(0) == {core}
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    for core in cores:
        thread = threading.Thread(target=work, args=(core,))
        thread.start()
        thread.join()
    assert not errors
    assert set(used) == set(cores)
