"""Importing one plugin and looking at what it gives, in a net: whatever it raises is a status.

Used by the application for the plugins it loads itself, and by workers for those they try or serve.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

from dioe.registry.reports import (
    MAX_BACKENDS,
    MAX_VERSION,
    checked_devices,
    checked_name,
    one_line,
    some,
)
from dioe.registry.status import PluginState, PluginStatus
from dioe.types import ABI_VERSION, Backend, ConfigError, DeviceState


def load_plugin(
    point: importlib.metadata.EntryPoint, source: str
) -> tuple[list[Any], PluginStatus | None]:
    """What a plugin gives as its backends, not looked at yet; or none, and why."""
    try:
        found = some(point.load()(), MAX_BACKENDS, "backends")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return [], failed(point.name, "failed to load", error, source)
    if not found:
        return [], PluginStatus(point.name, PluginState.ABSENT, "it gives no backend", source)
    return found, None


def inspect_backend(backend: Any, name: str, source: str) -> tuple[PluginStatus, Backend | None]:
    """The status of what a plugin returned as a backend; None if it can't be used."""
    try:
        name, abi = checked_name(backend.name), backend.abi_version
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return failed(name, "not a backend", error, source), None
    if abi != ABI_VERSION:
        made_for = one_line(str(abi))
        reason = f"made for ABI version {made_for}, this DIOE has {ABI_VERSION}: update the plugin"
        return PluginStatus(name, PluginState.INCOMPATIBLE, reason, source), None
    try:
        devices = checked_devices(backend.probe())
        version = one_line(str(backend.version), MAX_VERSION)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return failed(name, "probe failed", error, source), None
    if any(device.state is DeviceState.PRESENT for device in devices):
        return PluginStatus(name, PluginState.READY, "", source, version, devices), backend
    reason = "; ".join(d.reason for d in devices if d.reason) or "no device found"
    return PluginStatus(name, PluginState.ABSENT, reason, source, version, devices), backend


def failed(name: str, action: str, error: BaseException, source: str) -> PluginStatus:
    """The status for what was raised."""
    if isinstance(error, ConfigError):
        place = f"{error.place}: " if error.place else ""
        reason = "; ".join(part for part in (f"{place}{error.cause}", error.fix) if part)
        return PluginStatus(name, PluginState.FAILED, one_line(reason), source, misconfigured=True)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error of the plugin's own making may raise anything
        text = "what it raised has no text"
    reason = one_line(f"{action}: {type(error).__name__}: {text}")
    return PluginStatus(name, PluginState.FAILED, reason, source)
