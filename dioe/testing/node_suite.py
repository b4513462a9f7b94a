"""The whole of ONNX's node suite over the backends, each case in a worker that it may kill.

A backend is judged through the contract: the whole model of a case as ONNX wrote it, on that
backend alone, in a context of its own. ``docs/cli.md`` tells what the figures mean.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dioe.registry import Registry
from dioe.registry.reports import one_line
from dioe.registry.worker import Command, WorkerProcess
from dioe.testing import nodes
from dioe.types import DeviceState, DioeError, InputError, TimedOut, UnsupportedError

HANDLER = "dioe.testing.node_worker"
LIMIT_S = 60.0
"""How long a case may take. Most take milliseconds, ``torch.compile`` some seconds."""

START_LIMIT_S = 120.0
"""How long a worker may take to import a backend and have ONNX compute its cases: some 10 s."""

REFERENCE = "reference"
"""The backend that ``Report.to_dict`` leaves out of ``without_reference``."""

Progress = Callable[[str, int, int], None]
"""Is told the backend, how many cases are done over all backends, and of how many."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A backend to judge: its name, its plugin's entry point, its own id of the device."""

    name: str
    plugin: str
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Report:
    """Why which case failed on which backend: ``reasons`` by backend and case, a case that is
    not there passed. Names of cases are ONNX's own, ``test_abs``."""

    cases: tuple[str, ...]
    reasons: Mapping[str, Mapping[str, str]]

    def passed_by_none(self, backends: Iterable[str]) -> list[str]:
        """The cases that none of ``backends`` passes: all of them where there is no backend."""
        chosen = [self.reasons[name] for name in backends]
        return [case for case in self.cases if all(case in failed for failed in chosen)]

    def counts(self, *backends: str) -> dict[str, int]:
        """Of all cases, how many at least one of ``backends`` passes, and how many none does."""
        failed, total = len(self.passed_by_none(backends)), len(self.cases)
        return {"passed": total - failed, "failed": failed, "total": total}

    def failures(self) -> list[dict[str, str]]:
        """One entry for each case and backend that fails it. Cases that no backend passes come
        first; of a case all entries are together."""
        first = self.passed_by_none(self.reasons)
        hopeless = set(first)
        return [
            {"case": case, "backend": backend, "reason": failed[case]}
            for case in (*first, *(c for c in self.cases if c not in hopeless))
            for backend, failed in self.reasons.items()
            if case in failed
        ]

    def to_dict(self) -> dict[str, Any]:
        """What ``dioe node-suite --json`` prints."""
        return {
            "all": self.counts(*self.reasons),
            "without_reference": self.counts(*(n for n in self.reasons if n != REFERENCE)),
            "per_backend": {name: self.counts(name) for name in self.reasons},
            "failures": self.failures(),
        }


def case_names(patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """ONNX's names of the cases that match one of ``patterns`` (``test_add*``; all without any).

    Raises InputError for a pattern that none matches.
    """
    every = [f"test_{name}" for name in nodes.every()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in every):
            raise InputError(
                f"no case of the installed onnx matches {pattern!r}",
                place="--case",
                fix="names are such as test_add_bcast; * stands for anything",
            )
    chosen = (n for n in every if not patterns or any(fnmatchcase(n, p) for p in patterns))
    return tuple(chosen)


def find_backends(
    points: Iterable[importlib.metadata.EntryPoint], names: Sequence[str], device: str
) -> list[Judged]:
    """The backends of plugins that execute on ``device`` (each plugin's own id of it), or those of
    ``names``. Those that compile for bound shapes only have to be named: they take seconds a case.

    Raises UnsupportedError, with the reason, for a name that isn't usable, is simulated or has no
    such device, and where nothing is left.
    """
    found: dict[str, Judged] = {}
    reasons: dict[str, str] = {}
    slow: set[str] = set()
    for point in sorted(points, key=lambda point: point.name):
        registry = Registry([point])
        for status in registry.statuses:
            present = {d.id for d in status.devices if d.state is DeviceState.PRESENT}
            if status.reason:
                reasons[status.name] = status.reason
            elif registry.backend(status.name).simulated:
                reasons[status.name] = "it is simulated: it computes no values to judge"
            elif device not in present:
                known = ", ".join(sorted(present))
                reasons[status.name] = f"it has no device {device!r}, but {known}"
            else:
                found[status.name] = Judged(status.name, point.value, device)
                if not registry.backend(status.name).capabilities(device).dynamic_shapes:
                    slow.add(status.name)
    for name in names:
        if name not in found:
            raise UnsupportedError(
                f"backend {name!r} can't be judged: {reasons.get(name, 'there is none')}",
                place="--backend",
                fix=f"those that can: {', '.join(found) or 'none'}; --device names another device",
            )
    if not found.keys() - (slow if not names else set()):
        raise UnsupportedError(
            f"no backend executes on {device!r}", fix="`dioe devices` lists devices and backends"
        )
    return [found[name] for name in dict.fromkeys(names or sorted(found.keys() - slow))]


def run_suite(
    backends: Sequence[Judged],
    cases: Sequence[str],
    *,
    limit_s: float = LIMIT_S,
    jobs: int = 1,
    progress: Progress = lambda backend, done, total: None,
) -> Report:
    """Judge every backend by every case, ``limit_s`` a case, in so many workers at a time."""
    counter = _Counter(len(backends) * len(cases), progress)
    reasons: dict[str, dict[str, str]] = {backend.name: {} for backend in backends}
    stop = threading.Event()

    def judge(backend: Judged, share: Sequence[str]) -> None:
        for case, reason in _reasons(backend, share, limit_s, stop):
            if reason:
                reasons[backend.name][case] = reason
            counter.add(backend.name)

    with ThreadPoolExecutor(jobs) as pool:
        # neighbours are alike: every worker gets some of the slow ones
        shares = [(b, share) for b in backends for i in range(jobs) if (share := cases[i::jobs])]
        running = [pool.submit(judge, backend, share) for backend, share in shares]
        try:
            for future in running:
                future.result()
        except BaseException:
            stop.set()  # else an interrupt would wait for all cases
            raise
    return Report(tuple(cases), reasons)


class _Counter:
    """How many cases are done, over all threads."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._lock, self._progress = threading.Lock(), progress
        self._done, self._total = 0, total

    def add(self, backend: str) -> None:
        with self._lock:
            self._done += 1
            self._progress(backend, self._done, self._total)


def _reasons(
    backend: Judged, cases: Sequence[str], limit_s: float, stop: threading.Event
) -> Iterator[tuple[str, str]]:
    """Each case and why it fails, empty if it passes. A worker that dies of one is replaced."""
    worker: WorkerProcess | None = None
    broken = ""  # why there is no worker: then no case can be run
    try:
        for case in cases:
            if stop.is_set():
                return
            if not broken and (worker is None or not worker.alive):
                worker = None
                try:
                    worker = _start(backend)
                except DioeError as error:
                    broken = one_line(f"no process to run it in: {error.cause}")
            yield case, broken if worker is None else _judge(worker, case, limit_s)
    finally:
        if worker is not None:
            worker.close()


def _start(backend: Judged) -> WorkerProcess:
    args = {"backend": backend.name, "plugin": backend.plugin, "device": backend.device}
    command = Command.same_python(HANDLER, args, f"node suite of {backend.name}")
    return WorkerProcess(command, start_limit_s=START_LIMIT_S)


def _judge(worker: WorkerProcess, case: str, limit_s: float) -> str:
    args = {"case": case.removeprefix("test_")}
    try:
        return str(worker.call("judge", args, limit_s=limit_s)["reason"])
    except TimedOut:
        return f"took more than {limit_s:g} s"
    except DioeError as error:
        if worker.alive:  # it raised what is no Exception
            return f"{type(error).__name__}: {error.cause}"
        return f"the process {worker.how_it_ended}"
