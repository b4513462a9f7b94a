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
from dataclasses import dataclass

from dioe.registry.devices import Placement, merge_devices
from dioe.types import ABI_VERSION, ENTRY_POINT_GROUP, Backend, DeviceInfo, UnsupportedError

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
            if points is None:
                points = tuple(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))
            reports: list[tuple[str, DeviceInfo]] = []
            for point in sorted(points, key=lambda p: p.name):
                for found, backend in _load_plugin(point):
                    status = found
                    if backend is not None and status.name in self._backends:
                        reason = "another plugin already provides a backend of this name"
                        status = PluginStatus(
                            status.name, PluginState.FAILED, reason, status.source, status.version
                        )
                    elif backend is not None:
                        self._backends[status.name] = backend
                        reports += [(status.name, device) for device in status.devices]
                    self._statuses.append(status)
                    if status.state is not PluginState.READY:
                        log.info("backend %s: %s, %s", status.name, status.state, status.reason)
            self._placements = merge_devices(reports)
            self._loaded = True


def _load_plugin(
    point: importlib.metadata.EntryPoint,
) -> list[tuple[PluginStatus, Backend | None]]:
    """Every backend of one plugin with its status; None for those that can't be used."""
    distribution = point.dist.name if point.dist is not None else "unknown distribution"
    source = f"{distribution}: {point.value}"

    def failed(name: str, action: str, error: BaseException) -> tuple[PluginStatus, None]:
        reason = f"{action}: {type(error).__name__}: {error}".strip()
        return PluginStatus(name, PluginState.FAILED, reason, source), None

    try:
        backends = list(point.load()())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return [failed(point.name, "failed to load", error)]
    found: list[tuple[PluginStatus, Backend | None]] = []
    for backend in backends:
        name = str(getattr(backend, "name", point.name))
        abi = getattr(backend, "abi_version", None)
        if abi != ABI_VERSION:
            reason = f"made for ABI version {abi}, this DIOE has {ABI_VERSION}: update the plugin"
            found.append((PluginStatus(name, PluginState.INCOMPATIBLE, reason, source), None))
            continue
        try:
            devices = tuple(backend.probe())
            version = str(backend.version)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            found.append(failed(name, "probe failed", error))
            continue
        if not all(isinstance(device, DeviceInfo) for device in devices):
            misfit = TypeError("something else than DeviceInfo was returned")
            found.append(failed(name, "probe failed", misfit))
            continue
        present = any(device.state == "present" for device in devices)
        reason = "" if present else "; ".join(d.reason for d in devices) or "no device found"
        state = PluginState.READY if present else PluginState.ABSENT
        found.append((PluginStatus(name, state, reason, source, version, devices), backend))
    return found
