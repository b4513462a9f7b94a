"""The CUDA backend: why there is no device, and, where there is one, what it does on it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from dioe.testing.models import relu
from dioe.types import DeviceInfo, DeviceState, KnownAs, Precision, Resources, UnsupportedError
from dioe_cuda import devices
from dioe_cuda.backend import CudaBackend
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
