"""A second real device on any machine: WebGPU on SwiftShader, the Vulkan driver in software that
Debian's chromium package has."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dioe_onnxruntime.backend import OnnxRuntimeBackend
from dioe_onnxruntime.providers import PLUGINS, Provider, providers

FOLDERS = (Path("/usr/lib/chromium"), Path("/usr/lib64/chromium-browser"), Path("/opt/chromium"))
DEVICE = "gpu:0"


def _driver() -> Path | None:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    beside = [Path(program).resolve().parent] if program else []
    for folder in (*beside, *FOLDERS):
        file = folder / "libvk_swiftshader.so"
        if file.is_file():
            return file
    return None


def missing() -> str:
    """What the software GPU lacks here; empty if nothing."""
    if importlib.util.find_spec("onnxruntime_ep_webgpu") is None:
        return "no onnxruntime-ep-webgpu: install the extra 'webgpu'"
    if _driver() is None:
        return "no SwiftShader (libvk_swiftshader.so): install chromium"
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return "no Vulkan loader (libvulkan.so.1): install libvulkan1"
    return ""


def environment(folder: Path) -> dict[str, str]:
    """The variables that switch the software GPU on; ``folder`` gets the driver's description."""
    icd = folder / "swiftshader_icd.json"
    driver = {"library_path": str(_driver()), "api_version": "1.1.0"}
    icd.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": driver}))
    names = ("VK_ICD_FILENAMES", "VK_DRIVER_FILES")  # the old name and the new
    return dict.fromkeys(names, str(icd)) | {"ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1"}


@contextmanager
def software_gpu(folder: Path) -> Iterator[OnnxRuntimeBackend]:
    """The backend ``onnxruntime.webgpu`` with a device, ``gpu:0``, inside the ``with`` only.

    ``folder`` gets the driver's description. Skips the test, with the reason, where a piece is
    missing. Everything compiled has to be closed and let go of inside; what a test that failed
    still holds keeps the library loaded, until ``unload_left`` of a later test.
    """
    reason = missing()
    if reason:
        pytest.skip(reason)
    provider = next(p for p in providers() if p.name == PLUGINS["webgpu"].name)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        try:
            yield OnnxRuntimeBackend(provider)
        finally:
            _left.append(provider)
            unload_left()


_left: list[Provider] = []


def unload_left() -> None:
    """Unload what is no longer used, so that no other test sees a GPU."""
    if not _left:
        return
    from dioe_onnxruntime.libraries import unload

    for name in ("last_exc", "last_value", "last_traceback"):  # pytest's, of a test that failed
        vars(sys).pop(name, None)
    gc.collect()
    _left[:] = [provider for provider in _left if not unload(provider)]
