"""Trying a plugin in a worker before the application imports it, or serving it from there for good.

Whatever the plugin does to the worker (hang, crash, exit, write to stdout) is told as its status.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from dioe.registry.reports import one_line
from dioe.registry.status import PluginState, PluginStatus
from dioe.registry.worker import WorkerBackend, WorkerHost, WorkerProcess
from dioe.types import Backend, ConfigError, DioeError, TimedOut

LIMIT_VARIABLE = "DIOE_PLUGIN_TIMEOUT_S"
DEFAULT_LIMIT_S = 30.0
"""What a plugin may take to be imported, and then again to be probed: torch takes 3 s on an idle
laptop, and 15 from a cold disk."""

SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plugin in a worker.

    ``statuses`` are those of its backends. ``harmful`` tells that it did something no plugin may
    do to the application; such a plugin has one status, which says what.
    """

    statuses: list[PluginStatus]
    harmful: bool = False
    backends: Sequence[Backend | None] = ()  # only if it is to be served

    @property
    def passed(self) -> bool:
        """Whether the application may load it: it did no harm, and a backend of it works."""
        fine = (PluginState.READY, PluginState.ABSENT)
        return not self.harmful and any(status.state in fine for status in self.statuses)


def limit_s() -> float:
    """The time limit; raises ConfigError for a variable that is no positive number."""
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return DEFAULT_LIMIT_S
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ConfigError(
            "is no positive number of seconds",
            place=f"{LIMIT_VARIABLE}={text}",
            fix=f"the default is {DEFAULT_LIMIT_S:g}",
        )
    return limit


def try_plugin(point: importlib.metadata.EntryPoint, source: str) -> Outcome:
    """Import a plugin in a worker and probe its backends there; the worker is gone afterwards."""
    outcome, process = _attempt(_host(point, source), point, source)
    if process is not None:
        printed = process.printed
        process.close()
        if printed:
            reason = f"wrote to stdout, which is the application's: {_short(printed)!r}"
            return Outcome([_failed(point.name, reason, source)], harmful=True)
    return outcome


def serve_plugin(point: importlib.metadata.EntryPoint, source: str) -> Outcome:
    """Load a plugin in a worker that stays: its backends are WorkerBackends. It may print."""
    host = _host(point, source)
    outcome, process = _attempt(host, point, source)
    if process is None:
        return outcome
    if not outcome.passed:
        process.close()
        return outcome
    host.adopt(process)
    ready = [status.state is PluginState.READY for status in outcome.statuses]
    backends = [
        WorkerBackend(host, status.name) if usable else None
        for status, usable in zip(outcome.statuses, ready, strict=True)
    ]
    if not any(ready):
        host.close()
    return Outcome(outcome.statuses, backends=backends)


def _host(point: importlib.metadata.EntryPoint, source: str) -> WorkerHost:
    return WorkerHost(point.value, name=point.name, source=source)


def _attempt(
    host: WorkerHost, point: importlib.metadata.EntryPoint, source: str
) -> tuple[Outcome, WorkerProcess | None]:
    """What happens on import and in probe, and the worker if it lives."""
    limit = limit_s()
    process: WorkerProcess | None = None
    doing = "before it was imported"
    try:
        process = host.start(limit)
        doing = "on import"
        failure = host.load(process, limit)
        if failure is not None:
            return Outcome([failure]), process
        doing = "in probe"
        return Outcome(host.inspect(process, limit)), process
    except DioeError as error:
        if process is not None and process.alive:  # it answered that it raised
            process.close()
            action = "failed to load" if doing == "on import" else "probe failed"
            return Outcome([_failed(point.name, f"{action}: {error.cause}", source)]), None
        if isinstance(error, TimedOut):
            reason = f"gave no answer within {limit:g} s {doing}; {LIMIT_VARIABLE} sets the limit"
        elif process is None:
            reason = f"no worker to try it in: {error.cause}"
        else:
            reason = f"{process.how_it_ended} {doing}"
        return Outcome([_failed(point.name, reason, source)], harmful=process is not None), None


def _failed(name: str, reason: str, source: str) -> PluginStatus:
    return PluginStatus(name, PluginState.FAILED, one_line(reason), source)


def _short(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS] + "…"
