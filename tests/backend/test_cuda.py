"""The CUDA backend: why there is no device, and, where there is one, what it does on it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from dioe.precision import relative_l2
from dioe.testing.models import floats, perceptron, relu, small_network
from dioe.types import (
    DeviceInfo,
    DeviceState,
    Effect,
    HostBuffer,
    KnownAs,
    Precision,
    Precisions,
    Resources,
    Sample,
    TensorSpec,
    UnsupportedError,
)
from dioe_cuda import devices
from dioe_cuda.backend import CudaBackend
from dioe_cuda.nvml import Counters
from dioe_torch import devices as torch_devices

CPU_BUILD = """__version__ = '2.13.0+cpu'
cuda: Optional[str] = None
hip: Optional[str] = None
"""


def version_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None) -> None:
    """Make the installed torch one with this version.py."""
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('not to be imported')")
    if text is not None:
        (folder / "version.py").write_text(text)
    monkeypatch.setattr(devices, "_torch_folders", lambda: [str(folder)])
    monkeypatch.setattr(torch_devices, "version", lambda: "2.13.0+any")


def only(backend: CudaBackend) -> DeviceInfo:
    (found,) = backend.probe()
    return found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CPU_BUILD, "torch 2.13.0+any is a build for the CPU: install one with CUDA"),
        (CPU_BUILD.replace("hip: Optional[str] = None", "hip = '6.3'"), "a build for ROCm"),
        ("xpu: Optional[str] = '20250101'", "a build for Intel GPUs"),
    ],
)
def test_a_build_without_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, says: str
) -> None:
    version_file(monkeypatch, tmp_path, text)
    device = only(CudaBackend())
    assert (device.id, device.kind) == ("gpu:0", "gpu")
    assert device.state is DeviceState.ABSENT
    assert device.known_as is KnownAs.ABSENT
    assert says in device.reason


@pytest.mark.parametrize("text", ["cuda: Optional[str] = '12.8'", "cuda = '13.0'", None])
def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None) -> None:
    version_file(monkeypatch, tmp_path, text)
    monkeypatch.setattr(devices, "_DRIVER", "libno-such-driver.so.1")
    reason = only(CudaBackend()).reason
    assert reason.startswith("there is no NVIDIA driver: ")
    assert "libno-such-driver.so.1" in reason


def test_a_driver_and_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What torch itself says is the reason."""
    import torch

    def refuse() -> None:
        raise RuntimeError("No CUDA GPUs\nare available")

    version_file(monkeypatch, tmp_path, "cuda = '12.8'")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch.cuda, "init", refuse)
    assert only(CudaBackend()).reason == "No CUDA GPUs are available"
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "CUDA_VISIBLE_DEVICES" in only(CudaBackend()).reason


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_devices, "missing", lambda: "torch is not installed")
    assert only(CudaBackend()).reason == "torch is not installed"


def test_an_absent_device_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version_file(monkeypatch, tmp_path, CPU_BUILD)
    backend = CudaBackend()
    with pytest.raises(UnsupportedError, match="a build for the CPU"):
        backend.open("gpu:0", Resources())
    with pytest.raises(UnsupportedError, match="a build for the CPU"):
        backend.capabilities("gpu:0")
    for device in ("gpu:1", "cpu", "cpu:0"):
        with pytest.raises(UnsupportedError, match=f"no device '{device}' here"):
            backend.query(relu(), device, Precision.FP32)


def test_telling_a_cpu_build_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from dioe_cuda import backends, devices\n"
        "(backend,) = backends()\n"
        "built = devices.lacks_build()\n"
        "assert not built or backend.probe()[0].reason == built\n"
        "assert 'torch' not in sys.modules or not built\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Nvml:
    """What is used of ``pynvml``, on a board of numbers."""

    class NVMLError(Exception):
        """As in the package."""

    def __init__(self, **broken: str) -> None:
        self.broken, self.asked = broken, [""]

    def _tell(self, name: str, value: Any) -> Any:
        if name in self.broken:
            raise self.NVMLError(self.broken[name])
        return value

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        self._tell("init", None)

    def nvmlDeviceGetHandleByPciBusId(self, address: str) -> str:  # noqa: N802
        self.asked.append(address)
        return "board"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked.append(uuid)
        return "board"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        return self._tell("load", SimpleNamespace(gpu=37, memory=5))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return int(self._tell("power", 61_500))

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return self._tell("memory", SimpleNamespace(total=1 << 30, used=1 << 20, free=0))


def counters(monkeypatch: pytest.MonkeyPatch, module: Any, uuid: str) -> Counters:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return Counters(uuid)


@pytest.mark.parametrize(
    ("uuid", "asked"),
    [
        ("pci:0000:65:00.0", "0000:65:00.0"),
        ("GPU-5e3", "GPU-5e3"),
        ("5e3", "GPU-5e3"),
    ],
)
def test_counters(monkeypatch: pytest.MonkeyPatch, uuid: str, asked: str) -> None:
    nvml = Nvml()
    found = counters(monkeypatch, nvml, uuid)
    assert found.utilization() == Sample(37.0, "percent", "nvml")
    assert found.power() == Sample(61.5, "watt", "nvml")
    assert found.used_bytes() == 1 << 20
    assert nvml.asked[-1] == asked
    assert found.reason == ""


def test_no_counter_is_none_and_never_0(monkeypatch: pytest.MonkeyPatch) -> None:
    one = counters(monkeypatch, Nvml(power="not supported"), "pci:0000:65:00.0")
    assert one.power() is None
    assert one.reason == "not supported"
    assert one.utilization() is not None
    none = counters(monkeypatch, Nvml(init="no permission"), "pci:0000:65:00.0")
    assert (none.utilization(), none.power(), none.used_bytes()) == (None, None, None)
    assert none.reason == "no permission"
    missing = counters(monkeypatch, None, "pci:0000:65:00.0")
    assert (missing.utilization(), missing.power(), missing.used_bytes()) == (None, None, None)
    assert "dioe[cuda]" in missing.reason


def test_options() -> None:
    resolved = CudaBackend().resolve({"cuda_graphs": True, "threads": 2, "colour": "red"})
    assert resolved["cuda_graphs"].effect is Effect.APPLIED
    assert resolved["cuda_graphs"].native_key == "torch.cuda.CUDAGraph"
    assert "op by op" in resolved["cuda_graphs"].note
    assert resolved["threads"].effect is Effect.APPLIED
    assert resolved["colour"].effect is Effect.REJECTED
    assert CudaBackend().resolve({"cuda_graphs": 3})["cuda_graphs"].effect is Effect.REJECTED


@pytest.fixture
def gpu() -> CudaBackend:
    """The backend, where there is a device."""
    backend = CudaBackend()
    device = backend.probe()[0]
    if device.state is not DeviceState.PRESENT:
        pytest.skip(device.reason)
    return backend


@pytest.mark.gpu
def test_a_network_on_a_gpu(gpu: CudaBackend) -> None:
    """Right in fp32, replayed from a graph after the second run, the same bits each time."""
    from onnx.reference import ReferenceEvaluator

    made = small_network()
    evaluator = ReferenceEvaluator(onnx.load_from_string(made.to_bytes()))
    with closing(gpu.open("gpu:0", Resources())) as context:
        executable = context.compile(made, Precisions(), {})
        request: Any = executable.request()
        for seed in (0, 1, 2, 1):
            x = floats(1, 3, 16, 16, seed=seed)
            request.bind({"x": x})
            request.run().wait()
            (wanted,) = evaluator.run(None, {"x": x})
            assert relative_l2(request.outputs["y"], np.asarray(wanted)) < 1e-4
        assert request.graph_note == ""
        assert gpu.capabilities("gpu:0").graph_capture


@pytest.mark.gpu
def test_two_streams_and_a_chain_on_a_gpu(gpu: CudaBackend) -> None:
    """What one context computes, another goes on with, and only the end is waited for."""
    made = perceptron(2, 64)
    shape = TensorSpec("x", np.dtype(np.float32), (8, 64))
    x = floats(8, 64)
    with (
        closing(gpu.open("gpu:0", Resources())) as first,
        closing(gpu.open("gpu:0", Resources())) as second,
    ):
        one = first.compile(made, Precisions(), {}).request()
        two = second.compile(made, Precisions(), {}).request()
        between, end = first.alloc(shape), second.alloc(shape)
        back = np.empty((8, 64), np.float32)
        one.bind({"x": x}, {"y": between})
        two.bind({"x": between}, {"y": end})
        for seed in range(20):
            x[...] = floats(8, 64, seed=seed)
            one.run()
            two.run()
            second.copy(end, HostBuffer(back)).wait()
            alone = first.compile(made, Precisions(), {"cuda_graphs": False}).request()
            alone.bind({"x": x})
            alone.run().wait()
            alone.bind({"x": np.asarray(alone.outputs["y"])})
            alone.run().wait()
            assert relative_l2(back, np.asarray(alone.outputs["y"])) < 1e-4


@pytest.mark.gpu
def test_what_a_gpu_tells_of_itself(gpu: CudaBackend) -> None:
    with closing(gpu.open("gpu:0", Resources())) as context:
        memory = context.memory_info()
        assert 0 < memory["available_bytes"] <= memory["total_bytes"]
        for sample in (context.power(), context.utilization()):
            assert sample is None or sample.value >= 0


@pytest.mark.gpu
def test_the_kit_on_a_gpu(gpu: CudaBackend) -> None:
    from dioe.cli.verification.kit import run_kit

    found = run_kit("cuda", "gpu:0", timeout_s=1800)
    assert found["state"] == "passed", (found["reason"], found.get("failures"))
