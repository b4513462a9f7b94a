"""Problems from JSON files, made by hand or by DIOE (``dioe.planning.json_text``).

A problem file is an object with ``"format": "dioe-problem"`` and ``"version": 1``; its keys are the
fields of ``ProblemFile``. Short forms are for people: a task's ``ms`` by device, edges in place of
named values, a link's bandwidth.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from dioe.planning.allowed import Allowed
from dioe.planning.problem import (
    BlockNode,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    Problem,
    TargetCosts,
)
from dioe.planning.strict_json import Misfit, read_json
from dioe.types import Basis, InputError, Resources, Target

PROBLEM_FORMAT = "dioe-problem"
PROBLEM_VERSION = 1
_MAX_BYTES = 1 << 30
_FREE = Line()


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A block. ``ms`` by target or by device, left out where it can't run; a number, or an object
    with ``ms``, ``basis`` and ``runs``. ``reads`` and ``gives`` are values with their bytes,
    besides those of edges. ``ops`` is its id where left out. ``weight_bytes_on`` has what its
    weights take on single targets, ``workspace_bytes`` what it needs besides while it runs."""

    id: str
    ms: Mapping[str, float | Cost]
    kind: str = "task"
    ops: tuple[str, ...] | None = None
    reads: Mapping[str, int] = field(default_factory=dict)
    gives: Mapping[str, int] = field(default_factory=dict)
    weight_bytes: int = 0
    weight_bytes_on: Mapping[str, int] = field(default_factory=dict)
    workspace_bytes: int | Mapping[str, int] = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class EdgeEntry:
    """A value from one task to another. Edges of one source and one ``value`` are one value, that
    crosses once to each device; without a name each is its own. ``cost_ms`` takes the place of what
    links say."""

    source: str
    destination: str
    bytes: int = 0
    cost_ms: float | None = None
    value: str = ""


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """The way from a device to another. ``bandwidth_gbps`` in 10⁹ bytes a second, or
    ``ms_per_byte``. Transfers of one ``queue`` (a bus) wait for each other; "" is the link's own,
    null none."""

    source: str
    destination: str
    bandwidth_gbps: float | None = None
    ms_per_byte: float | None = None
    latency_ms: float = 0.0
    queue: str | None = ""
    both_ways: bool = False


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """A way of running tasks on a device: as ``TargetCosts``, whose times are in the tasks.
    ``name`` is for telling two of one text apart."""

    target: Target
    name: str = ""
    resources: Resources = field(default_factory=Resources)
    mixes: bool = False
    dispatch_ms: float = 0.0
    entry: Line = _FREE
    exit: Line = _FREE
    copy_in: Line = _FREE
    copy_out: Line = _FREE
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class HandoverEntry:
    """What it costs that one target's context follows another's on a lane."""

    source: str
    destination: str
    ms: float


@dataclass(frozen=True, slots=True)
class LimitsEntry:
    """As ``Allowed``: ``together`` are the sets of devices that one schedule may use."""

    together: tuple[tuple[str, ...], ...] | None = None
    max_stages: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ProblemFile:
    """What a problem file holds.

    Without ``targets`` each device is one. Without ``devices`` everything runs on the caller's
    lane. ``groups`` are tasks by the name of their colocation group, ``pins`` the target or device
    (or several) that a task has to run on, ``value_ms`` fixed times of transfers by value.
    """

    tasks: tuple[TaskEntry, ...]
    devices: tuple[DeviceNode, ...] = ()
    targets: tuple[TargetEntry, ...] = ()
    edges: tuple[EdgeEntry, ...] = ()
    links: tuple[LinkEntry, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pins: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    limits: LimitsEntry = field(default_factory=LimitsEntry)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    home: str = ""
    handover: tuple[HandoverEntry, ...] = ()
    switch: Line = _FREE
    value_ms: Mapping[str, float] = field(default_factory=dict)


def load_problem(path: str | PathLike[str]) -> Problem:
    """Read a problem file; raises InputError with the place of what is wrong."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError("too large for a problem", place=str(path), fix=_FIX)
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a null in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"can't read the problem: {reason}", place=str(path), fix="name a problem file"
        ) from None
    return problem_from_json(text, place=str(path))


def problem_from_json(text: str, *, place: str = "problem") -> Problem:
    """The problem in ``text``; raises InputError with the place of what is wrong."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != PROBLEM_FORMAT:
            raise Misfit(f'not a problem file: it starts with "format": "{PROBLEM_FORMAT}"')
        if data.get("version") != PROBLEM_VERSION:
            raise Misfit(f"version {data.get('version')}, this DIOE reads {PROBLEM_VERSION}")
        body = {key: value for key, value in data.items() if key not in ("format", "version")}
        return _Reading(read_json(ProblemFile, body, "")).problem()
    except Misfit as error:
        cause = str(error)
    except RecursionError:
        cause = "nested too deeply"
    except ValueError as error:  # no JSON, or parts that contradict each other
        cause = str(error)
    raise InputError(cause, place=place, fix=_FIX)


_FIX = "correct the file; docs/planning.md says what stands in one"


class _Reading:
    """From a file's entries to a problem."""

    def __init__(self, file: ProblemFile) -> None:
        self._file = file
        self._entries = file.targets or tuple(
            TargetEntry(Target(device.id, "task"), name=device.id) for device in file.devices
        )
        names = [entry.name or str(entry.target) for entry in self._entries]
        self._by_name: dict[str, list[int]] = {}
        for i, entry in enumerate(self._entries):
            self._by_name.setdefault(entry.target.device, []).append(i)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise Misfit(f"targets: two are called {twice!r}: give them a name each")
        self._by_name |= {name: [i] for i, name in enumerate(names)}
        self._tasks = {task.id: task for task in file.tasks}
        if len(self._tasks) < len(file.tasks):
            raise Misfit("tasks: two have one id")

    def problem(self) -> Problem:
        """The problem; raises Misfit, and ValueError as ``Problem`` does."""
        file = self._file
        reads = {task.id: dict(task.reads) for task in file.tasks}
        gives = {task.id: dict(task.gives) for task in file.tasks}
        value_ms = dict(file.value_ms)
        for i, edge in enumerate(file.edges):
            self._add_edge(edge, f"edges[{i}]", reads, gives, value_ms)
        groups = {task.id: task.group for task in file.tasks}
        for name, members in file.groups.items():
            for member in members:
                self._known_task(member, f"groups.{name}")
                groups[member] = name
        blocks = tuple(
            BlockNode(
                task.id, task.kind, (task.id,) if task.ops is None else task.ops, reads[task.id],
                gives[task.id], task.weight_bytes, groups[task.id],
            )
            for task in self._ordered(reads, gives)
        )  # fmt: skip
        for name in file.pins:
            self._known_task(name, "pins")
        targets = self._targets()
        limits = file.limits
        together = None if limits.together is None else tuple(map(frozenset, limits.together))
        return Problem(
            blocks=blocks,
            targets=targets,
            outputs=file.outputs,
            inputs=file.inputs,
            handover={
                (targets[a].context, targets[b].context): each.ms
                for i, each in enumerate(file.handover)
                for a in self._some(each.source, f"handover[{i}].source")
                for b in self._some(each.destination, f"handover[{i}].destination")
            },
            switch=file.switch,
            devices=file.devices,
            links=tuple(self._links()),
            edge_ms=value_ms,
            home=file.home,
            allowed=Allowed(together, limits.max_stages, limits.latency_ms),
        )

    def _add_edge(
        self,
        edge: EdgeEntry,
        where: str,
        reads: dict[str, dict[str, int]],
        gives: dict[str, dict[str, int]],
        value_ms: dict[str, float],
    ) -> None:
        self._known_task(edge.source, f"{where}.source")
        self._known_task(edge.destination, f"{where}.destination")
        value = edge.value or f"{edge.source}>{edge.destination}"
        if value in reads[edge.destination]:
            raise Misfit(f"{where}: {edge.destination!r} reads {value!r} twice")
        if gives[edge.source].setdefault(value, edge.bytes) != edge.bytes:
            raise Misfit(f"{where}.bytes: {value!r} has two sizes")
        reads[edge.destination][value] = edge.bytes
        if edge.cost_ms is not None and value_ms.setdefault(value, edge.cost_ms) != edge.cost_ms:
            raise Misfit(f"{where}.cost_ms: {value!r} has two costs")

    def _known_task(self, name: str, where: str) -> None:
        if name not in self._tasks:
            raise Misfit(f"{where}: no task {name!r}")

    def _ordered(
        self, reads: Mapping[str, Mapping[str, int]], gives: Mapping[str, Mapping[str, int]]
    ) -> Iterator[TaskEntry]:
        """The tasks as they stand in the file, as far as that is a topological order."""
        numbers = {task.id: i for i, task in enumerate(self._file.tasks)}
        maker = {value: name for name, own in gives.items() for value in own}
        users: dict[str, list[str]] = {name: [] for name in numbers}
        waits = dict.fromkeys(numbers, 0)
        for name, own in reads.items():
            for value in own:
                if value in maker:
                    users[maker[value]].append(name)
                    waits[name] += 1
        ready = [i for name, i in numbers.items() if not waits[name]]
        count = 0
        while ready:
            task = self._file.tasks[heapq.heappop(ready)]
            count += 1
            yield task
            for user in users[task.id]:
                waits[user] -= 1
                if not waits[user]:
                    heapq.heappush(ready, numbers[user])
        if count < len(numbers):
            left = next(name for name, missing in waits.items() if missing)
            seen: set[str] = set()
            while left not in seen:  # of those it waits for, back into the circle
                seen.add(left)
                left = next(maker[v] for v in reads[left] if v in maker and waits[maker[v]])
            raise Misfit(f"tasks[{numbers[left]}]: {left!r} waits for itself")

    def _some(self, name: str, where: str) -> list[int]:
        """The targets that a name stands for: one, or all of a device."""
        if name not in self._by_name:
            known = ", ".join(self._by_name) or "none"
            raise Misfit(f"{where}: no target or device {name!r}; there are: {known}")
        return self._by_name[name]

    def _targets(self) -> tuple[TargetCosts, ...]:
        costs: list[dict[str, Cost]] = [{} for _ in self._entries]
        weights: list[dict[str, int]] = [{} for _ in self._entries]
        workspace: list[dict[str, int]] = [{} for _ in self._entries]
        for i, task in enumerate(self._file.tasks):
            where = f"tasks[{i}]"
            may = self._pinned(task.id)
            for name, ms in task.ms.items():
                cost = ms if isinstance(ms, Cost) else Cost(ms, Basis.DEFAULT)
                for target in self._some(name, f"{where}.ms"):
                    if may is None or target in may:
                        costs[target][task.id] = cost
            for name, nbytes in task.weight_bytes_on.items():
                for target in self._some(name, f"{where}.weight_bytes_on"):
                    weights[target][task.id] = nbytes
            room = task.workspace_bytes
            if isinstance(room, int):
                room = dict.fromkeys(task.ms, room) if room else {}
            for name, nbytes in room.items():
                for target in self._some(name, f"{where}.workspace_bytes"):
                    workspace[target][task.id] = nbytes
        return tuple(
            TargetCosts(
                entry.target, costs[i], entry.resources, entry.mixes, entry.dispatch_ms,
                entry.entry, entry.exit, entry.copy_in, entry.copy_out, entry.memory_bytes,
                weights[i], workspace[i],
            )
            for i, entry in enumerate(self._entries)
        )  # fmt: skip

    def _pinned(self, task: str) -> set[int] | None:
        """The targets that a task is pinned to, None for any."""
        pin = self._file.pins.get(task)
        if pin is None:
            return None
        names = (pin,) if isinstance(pin, str) else pin
        return {i for name in names for i in self._some(name, f"pins.{task}")}

    def _links(self) -> Iterator[LinkCosts]:
        for i, link in enumerate(self._file.links):
            if link.bandwidth_gbps is not None and link.ms_per_byte is not None:
                raise Misfit(f"links[{i}]: bandwidth_gbps or ms_per_byte, not both")
            if link.bandwidth_gbps is not None and link.bandwidth_gbps <= 0:
                raise Misfit(f"links[{i}].bandwidth_gbps: {link.bandwidth_gbps} is no bandwidth")
            slope = link.ms_per_byte or 0.0
            if link.bandwidth_gbps is not None:
                slope = 1e-6 / link.bandwidth_gbps
            cost = Line(link.latency_ms, slope)
            yield LinkCosts(link.source, link.destination, cost, link.queue)
            if link.both_ways:
                yield LinkCosts(link.destination, link.source, cost, link.queue)
