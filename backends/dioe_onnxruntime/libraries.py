"""Plugin libraries of providers: loaded into ONNX Runtime once, and named by what they say."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import onnxruntime as ort

from dioe.types import UnsupportedError
from dioe_onnxruntime.lanes import in_use
from dioe_onnxruntime.providers import Provider

_lock = threading.Lock()
_loaded: set[str] = set()


def load(provider: Provider) -> list[Any]:
    """The OrtEpDevices of a plugin provider, its library registered with ONNX Runtime.

    Where there are none, the library is let go of again: what it sees of the machine (environment
    variables, drivers) it looks up as it is registered, and the next probe looks again. Raises
    UnsupportedError where the package or its library fails.
    """
    with _lock:
        try:
            path, names = _described(provider)
            if path not in _loaded:
                ort.register_execution_provider_library(provider.backend, path)
                _loaded.add(path)
            devices = [d for d in ort.get_ep_devices() if _is_of(d, path, names)]
            if not devices:
                ort.unregister_execution_provider_library(provider.backend)
                _loaded.discard(path)
        except Exception as error:
            raise UnsupportedError(
                f"its plugin library can't be loaded: {type(error).__name__}: {error}",
                place=provider.backend,
            ) from error
    return devices


def unload(provider: Provider) -> bool:
    """Let go of a plugin library that was loaded; False where something still uses its devices,
    for then its code must stay: WebGPU's ends the process otherwise."""
    with _lock:
        path, _ = _described(provider)
        if path in _loaded:
            if in_use(provider.backend):
                return False
            ort.unregister_execution_provider_library(provider.backend)
            _loaded.discard(path)
        return True


def _described(provider: Provider) -> tuple[str, set[str]]:
    """The library's path, and the names of its providers as far as they are known."""
    native = {provider.native} - {""}
    if provider.library:
        return provider.library, native
    package = importlib.import_module(provider.module)
    names = getattr(package, "get_ep_names", None)
    return str(package.get_library_path()), native or set(names() if names else ())


def _is_of(device: Any, path: str, names: set[str]) -> bool:
    if names:
        return device.ep_name in names
    return bool(dict(device.ep_metadata).get("library_path") == path)
