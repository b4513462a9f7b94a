"""The CUDA devices that the installed torch can use, or the reason why there are none."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dioe.types import DeviceInfo, DeviceState, KnownAs
from dioe_torch import devices as torch_devices
from dioe_torch.devices import TorchDevice

_BUILT_FOR = re.compile(r"^(cuda|hip|xpu)\b[^=]*=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
"""Lines of torch/version.py such as ``cuda: Optional[str] = '12.8'``."""

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""The driver's library, which comes with the driver and not with CUDA's toolkit or torch."""

_NAMES = {"hip": "ROCm", "xpu": "Intel GPUs"}


def devices() -> list[TorchDevice]:
    """Every CUDA device, under torch's names too; else ``gpu:0`` as absent, with the reason.

    Imports torch only where that is a build for CUDA and a driver is there.
    """
    reason = torch_devices.missing() or lacks_build() or lacks_driver()
    if not reason:
        reason = lacks_device()
    if reason:
        return [TorchDevice(absent(reason), "cuda:0")]
    every = torch_devices.accelerators()
    return [each for each in every if each.native.startswith("cuda:")]


def absent(reason: str) -> DeviceInfo:
    """What stands for the devices where there are none."""
    return DeviceInfo(
        "gpu:0", "gpu", "NVIDIA GPU", DeviceState.ABSENT, reason, known_as=KnownAs.ABSENT
    )


def lacks_build() -> str:
    """Why the installed torch can't use CUDA at all; empty if it can. Doesn't import it."""
    text = _version_file()
    if text is None:  # a layout that isn't known: torch itself will say
        return ""
    built_for = dict(_BUILT_FOR.findall(text))
    if "cuda" in built_for:
        return ""
    names = " and ".join(_NAMES[key] for key in built_for) or "the CPU"
    return (
        f"torch {torch_devices.version()} is a build for {names}: install one with CUDA "
        "(https://pytorch.org/get-started/locally names the index for your driver)"
    )


def _torch_folders() -> Sequence[str]:
    spec = importlib.util.find_spec("torch")
    return [] if spec is None else spec.submodule_search_locations or []


def _version_file() -> str | None:
    for folder in _torch_folders():
        file = Path(folder) / "version.py"
        if file.is_file():
            return file.read_text(errors="replace")
    return None


def lacks_driver() -> str:
    """Why NVIDIA's driver can't be used; empty if its library can be loaded."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError as error:
        return f"there is no NVIDIA driver: {error}"
    return ""


def lacks_device() -> str:
    """Why torch finds no CUDA device, in its own words; empty if it finds any."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())
    if not torch.cuda.device_count():
        return "there is a driver, but no device (CUDA_VISIBLE_DEVICES may hide them)"
    return ""
