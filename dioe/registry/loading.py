"""Importing one plugin and looking at what it gives, in a net: whatever it raises is a status.

Used by the application for the plugins it loads itself, and by workers for those they try or serve.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

from dioe.registry.status import PluginState, PluginStatus
from dioe.types import ABI_VERSION, Backend, DeviceInfo, DeviceState


def load_plugin(
    point: importlib.metadata.EntryPoint, source: str
) -> tuple[list[Any], PluginStatus | None]:
    """What a plugin gives as its backends, not looked at yet; or none, and why."""
    try:
        return list(point.load()()), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return [], failed(point.name, "failed to load", error, source)


def inspect_backend(backend: Any, name: str, source: str) -> tuple[PluginStatus, Backend | None]:
    """The status of what a plugin returned as a backend; None if it can't be used."""
    try:
        name, abi = str(backend.name), backend.abi_version
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return failed(name, "not a backend", error, source), None
    if abi != ABI_VERSION:
        reason = f"made for ABI version {abi}, this DIOE has {ABI_VERSION}: update the plugin"
        return PluginStatus(name, PluginState.INCOMPATIBLE, reason, source), None
    try:
        devices = tuple(backend.probe())
        version = str(backend.version)
        for device in devices:
            _check_device(device)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return failed(name, "probe failed", error, source), None
    if any(device.state is DeviceState.PRESENT for device in devices):
        return PluginStatus(name, PluginState.READY, "", source, version, devices), backend
    reason = "; ".join(d.reason for d in devices if d.reason) or "no device found"
    return PluginStatus(name, PluginState.ABSENT, reason, source, version, devices), backend


def _check_device(device: object) -> None:
    """Raise TypeError for what the merging of devices could choke on."""
    if not isinstance(device, DeviceInfo):
        raise TypeError(f"{type(device).__name__} instead of DeviceInfo was returned")
    if not isinstance(device.state, DeviceState):
        raise TypeError(f"the state of a device is {device.state!r:.40}, no DeviceState")
    for name in ("id", "kind", "reason", "uuid"):
        if not isinstance(getattr(device, name), str):
            raise TypeError(f"the {name} of a device is no text")


def failed(name: str, action: str, error: BaseException, source: str) -> PluginStatus:
    """The status for what was raised."""
    reason = f"{action}: {type(error).__name__}: {error}".strip()
    return PluginStatus(name, PluginState.FAILED, reason, source)
