"""Loading the plugins of the entry-point group ``dioe.backends``, one at a time, each in a net.

A plugin that fails to import, returns something else than backends, has another ABI version or
raises in ``probe`` gets a state and a reason. It hurts no other plugin and raises nothing here.
"""

from __future__ import annotations

import enum
import importlib.metadata
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from dioe.registry.devices import Placement, merge_devices
from dioe.types import (
    ABI_VERSION,
    ENTRY_POINT_GROUP,
    Backend,
    DeviceInfo,
    DeviceState,
    UnsupportedError,
)

log = logging.getLogger(__name__)


class PluginState(enum.StrEnum):
    """Whether a backend can be used."""

    READY = "ready"
    INCOMPATIBLE = "incompatible"  # another ABI version
    FAILED = "failed"  # raised on import, or in probe
    ABSENT = "absent"  # loaded, but none of its devices is present


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One backend as it was found: its state, the reason, and the devices it reports."""

    name: str
    state: PluginState
    reason: str = ""
    source: str = ""  # distribution and entry point
    version: str = ""
    devices: tuple[DeviceInfo, ...] = ()


class Registry:
    """Backends by name, found lazily on first use. Safe to use from several threads."""

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self._entry_points = None if entry_points is None else tuple(entry_points)
        self._lock = threading.Lock()
        self._loaded = False
        self._backends: dict[str, Backend] = {}
        self._statuses: list[PluginStatus] = []
        self._placements: tuple[Placement, ...] = ()

    @property
    def statuses(self) -> tuple[PluginStatus, ...]:
        """Every plugin found, usable or not."""
        self._load()
        return tuple(self._statuses)

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Devices merged over all backends."""
        self._load()
        return self._placements

    def backend(self, name: str) -> Backend:
        """The usable backend of that name; raises UnsupportedError with the reason if none is."""
        self._load()
        try:
            return self._backends[name]
        except KeyError:
            reason = next((s.reason for s in self._statuses if s.name == name), "")
            known = ", ".join(sorted(self._backends)) or "none"
            raise UnsupportedError(
                f"backend {name!r} is not usable" + (f": {reason}" if reason else ""),
                fix=f"usable backends: {known}; `dioe devices` lists all with their reasons",
            ) from None

    def placement(self, device: str) -> Placement:
        """The device with that id; raises UnsupportedError if there's none."""
        for placement in self.placements:
            if placement.device.id == device:
                return placement
        known = ", ".join(p.device.id for p in self.placements) or "none"
        raise UnsupportedError(
            f"no device {device!r} on this machine", fix=f"devices found: {known}"
        )

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            points = self._entry_points
            statuses: list[PluginStatus] = []
            if points is None:
                points, statuses = _installed_points()
            backends: dict[str, Backend] = {}
            reports: list[tuple[str, DeviceInfo]] = []
            names: set[str] = set()
            for point in sorted(points, key=lambda p: p.name):
                for found, backend in _load_plugin(point):
                    status = found
                    if backend is not None and status.name in names:
                        reason = "another plugin already provides a backend of this name"
                        status = replace(found, state=PluginState.FAILED, reason=reason, devices=())
                    elif backend is not None:
                        names.add(status.name)
                        reports += [(status.name, device) for device in status.devices]
                        if status.state is PluginState.READY:
                            backends[status.name] = backend
                    statuses.append(status)
            for status in statuses:
                if status.state is not PluginState.READY:
                    log.info("backend %s: %s, %s", status.name, status.state, status.reason)
            self._placements = merge_devices(reports)
            self._backends, self._statuses = backends, statuses
            self._loaded = True


def _installed_points() -> tuple[tuple[importlib.metadata.EntryPoint, ...], list[PluginStatus]]:
    """The entry points of the installed plugins, and what can't be read of any distribution."""
    try:
        return tuple(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)), []
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes importlib raise
        log.warning("looking for backends in one distribution after the other: %s", error)
    points: list[importlib.metadata.EntryPoint] = []
    broken: list[PluginStatus] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        name = _distribution_name(distribution)
        if name in seen:
            continue  # the first on the path is the one that is imported
        seen.add(name)
        try:
            points += distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        except Exception as error:  # noqa: BLE001 - as above
            reason = f"its entry points can't be read: {type(error).__name__}: {error}"
            broken.append(PluginStatus(name, PluginState.FAILED, reason, source=name))
    return tuple(points), broken


def _distribution_name(distribution: importlib.metadata.Distribution | None) -> str:
    try:
        if distribution is not None and "Name" in distribution.metadata:
            return distribution.metadata["Name"]
    except (OSError, ValueError) as error:  # unreadable or not UTF-8: the plugin may work yet
        log.warning("a distribution's metadata can't be read: %s", error)
    return "unknown distribution"


def _load_plugin(
    point: importlib.metadata.EntryPoint,
) -> list[tuple[PluginStatus, Backend | None]]:
    """Every backend of one plugin with its status; None for those that can't be used."""
    source = f"{_distribution_name(point.dist)}: {point.value}"
    try:
        backends = list(point.load()())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return [(_failed(point.name, "failed to load", error, source), None)]
    return [_probe(backend, point.name, source) for backend in backends]


def _probe(backend: Any, name: str, source: str) -> tuple[PluginStatus, Backend | None]:
    """The status of what a plugin returned as a backend; None if it can't be used."""
    try:
        name, abi = str(backend.name), backend.abi_version
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return _failed(name, "not a backend", error, source), None
    if abi != ABI_VERSION:
        reason = f"made for ABI version {abi}, this DIOE has {ABI_VERSION}: update the plugin"
        return PluginStatus(name, PluginState.INCOMPATIBLE, reason, source), None
    try:
        devices = tuple(backend.probe())
        version = str(backend.version)
        for device in devices:
            _check_device(device)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return _failed(name, "probe failed", error, source), None
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


def _failed(name: str, action: str, error: BaseException, source: str) -> PluginStatus:
    reason = f"{action}: {type(error).__name__}: {error}".strip()
    return PluginStatus(name, PluginState.FAILED, reason, source)
