"""Loading the plugins of the entry-point group ``dioe.backends``, one at a time, each in a net.

A plugin that fails to import, returns something else than backends, has another ABI version or
raises in ``probe`` gets a state and a reason; so does one that hangs, crashes or exits, since
plugins of other distributions are tried in a worker process first. It hurts no other plugin and
raises nothing here.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from dioe.registry.devices import Placement, merge_devices
from dioe.registry.loading import inspect_backend, load_plugin
from dioe.registry.status import PluginState, PluginStatus
from dioe.types import (
    ENTRY_POINT_GROUP,
    Backend,
    ConfigError,
    DeviceInfo,
    UnsupportedError,
)
from dioe.yaml_text import known_key

log = logging.getLogger(__name__)

WORKER_ENTRY_POINT_GROUP = ENTRY_POINT_GROUP + ".worker"
"""Plugins of this group are served by a worker process and never imported by the application."""

GROUPS = (ENTRY_POINT_GROUP, WORKER_ENTRY_POINT_GROUP)

TRIAL_VARIABLE = "DIOE_PLUGIN_TRIAL"
TRIALS = ("cached", "always", "never")
TRIALS_AT_ONCE = 4

Found = list[tuple[PluginStatus, Backend | None]]
"""Every backend of one plugin with its status; None for those that can't be used."""


class Registry:
    """Backends by name, found lazily on first use. Safe to use from several threads."""

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self._entry_points = None if entry_points is None else tuple(entry_points)
        self._lock = threading.Lock()
        self._loaded = False
        self._backends: dict[str, Backend] = {}
        self._known: dict[str, Backend] = {}
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
        """The usable backend of that name.

        Raises UnsupportedError with the reason if none is, ConfigError if that is a file or
        variable of the user's.
        """
        self._load()
        try:
            return self._backends[name]
        except KeyError:
            status = next((s for s in self._statuses if s.name == name), None)
            reason = "" if status is None else status.reason
            known = ", ".join(sorted(self._backends)) or "none"
            kind = ConfigError if status is not None and status.misconfigured else UnsupportedError
            raise kind(
                f"backend {name!r} is not usable" + (f": {reason}" if reason else ""),
                fix=f"usable backends: {known}; `dioe devices` lists all with their reasons",
            ) from None

    def named(self, name: str) -> Mapping[str, Backend]:
        """The backend of that name, or those of the plugin whose backends are ``name.something``,
        with or without a device to use: what they say of options needs none. Raises
        UnsupportedError.
        """
        self._load()
        found = {n: b for n, b in sorted(self._known.items()) if name in (n, n.partition(".")[0])}
        if not found:
            kinds = sorted({known.partition(".")[0] for known in self._known})
            raise UnsupportedError(f"there is no backend {name!r}", fix=known_key(name, kinds))
        return found

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
            given = self._entry_points
            points, statuses = _installed_points() if given is None else (given, [])
            backends: dict[str, Backend] = {}
            known: dict[str, Backend] = {}
            reports: list[tuple[str, DeviceInfo]] = []
            names: set[str] = set()
            # DIOE's own first: nobody else gets the name of one, or describes its device.
            ordered = sorted(points, key=lambda point: (not _is_own(point), point.name))
            for found_in_plugin in _find_backends(ordered):
                for found, backend in found_in_plugin:
                    status = found
                    if backend is not None and status.name in names:
                        reason = "another plugin already provides a backend of this name"
                        status = replace(found, state=PluginState.FAILED, reason=reason, devices=())
                    elif backend is not None:
                        names.add(status.name)
                        known[status.name] = backend
                        reports += [(status.name, device) for device in status.devices]
                        if status.state is PluginState.READY:
                            backends[status.name] = backend
                    statuses.append(status)
            for status in statuses:
                if status.state is not PluginState.READY:
                    log.info("backend %s: %s, %s", status.name, status.state, status.reason)
            self._placements = merge_devices(reports)
            self._backends, self._known, self._statuses = backends, known, statuses
            self._loaded = True


def _installed_points() -> tuple[tuple[importlib.metadata.EntryPoint, ...], list[PluginStatus]]:
    """The entry points of the installed plugins, and what can't be read of any distribution."""
    try:
        every = importlib.metadata.entry_points()
        return tuple(point for group in GROUPS for point in every.select(group=group)), []
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
            points += [p for p in distribution.entry_points if p.group in GROUPS]
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


def _find_backends(points: Sequence[importlib.metadata.EntryPoint]) -> list[Found]:
    """The backends of each plugin. Those that concern workers go first, side by side."""
    trial = _trial()
    remote = [point for point in points if _needs_worker(point, trial)]
    answers: dict[int, Found | None] = {}
    if remote:
        with ThreadPoolExecutor(min(TRIALS_AT_ONCE, len(remote))) as pool:
            found = pool.map(lambda point: _ask_worker(point, trial), remote)
            answers = {id(point): answer for point, answer in zip(remote, found, strict=True)}
    backends = []
    for point in points:
        answer = answers.get(id(point))
        backends.append(_load(point) if answer is None else answer)
    return backends


def _trial() -> str:
    trial = os.environ.get(TRIAL_VARIABLE) or TRIALS[0]
    if trial not in TRIALS:
        raise ConfigError(
            "is no way to try plugins",
            place=f"{TRIAL_VARIABLE}={trial}",
            fix=f"one of {', '.join(TRIALS)}",
        )
    return trial


def _needs_worker(point: importlib.metadata.EntryPoint, trial: str) -> bool:
    """Whether a plugin is served or has to be tried by a worker."""
    if point.group == WORKER_ENTRY_POINT_GROUP:
        return True
    if trial == "never" or os.name == "nt":  # no workers there
        return False
    # An entry point with a ``load`` of its own is the application's own code.
    own = type(point).load is not importlib.metadata.EntryPoint.load
    return not own and not _is_own(point)


def _is_own(point: importlib.metadata.EntryPoint) -> bool:
    """Whether a plugin comes with DIOE."""
    return _distribution_name(point.dist).lower() == "dioe"


def _ask_worker(point: importlib.metadata.EntryPoint, trial: str) -> Found | None:
    """What a worker says of a plugin; None if it is to be loaded here."""
    source = _source(point)
    if os.name == "nt":
        reason = "asks to run in a worker, and there are none on Windows"
        return [(PluginStatus(point.name, PluginState.FAILED, reason, source), None)]
    from dioe.registry import verdicts
    from dioe.registry.trial import serve_plugin, try_plugin

    key = verdicts.plugin_key(point)
    known = None
    if key is not None and trial == "cached":
        known = verdicts.known_verdict(key, point.name, source)
    if known:
        return [(status, None) for status in known]
    if point.group == WORKER_ENTRY_POINT_GROUP:
        outcome = serve_plugin(point, source)
    elif known is not None:
        return None
    else:
        outcome = try_plugin(point, source)
    if key is not None and (outcome.passed or outcome.harmful):
        reason = outcome.statuses[0].reason if outcome.harmful else ""
        verdicts.keep_verdict(key, reason)
    if outcome.backends:
        return list(zip(outcome.statuses, outcome.backends, strict=True))
    if outcome.passed and point.group != WORKER_ENTRY_POINT_GROUP:
        return None
    return [(status, None) for status in outcome.statuses]


def _load(point: importlib.metadata.EntryPoint) -> Found:
    """Import a plugin into this process and probe its backends."""
    source = _source(point)
    backends, failure = load_plugin(point, source)
    if failure is not None:
        return [(failure, None)]
    return [inspect_backend(backend, point.name, source) for backend in backends]


def _source(point: importlib.metadata.EntryPoint) -> str:
    return f"{_distribution_name(point.dist)}: {point.value}"
