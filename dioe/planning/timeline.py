"""When jobs run on lanes and values cross links: the event-driven heart of the simulator.

Everything is a number here: jobs, devices and values by their index, in the order they were handed
in. A device's jobs wait for its lanes in that order, and the first one takes a lane as soon as one
is free, also if what it reads isn't there yet; so nothing overtakes. A value that is read on
another device crosses once for all its readers there, when it is made, behind whatever its queue
carries.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Crossing(NamedTuple):
    """A value on its way from one device's memory to another's, by index. Times in ms."""

    value: int
    source: int
    destination: int
    start_ms: float
    end_ms: float
    queue: int  # -1: none, it waited for nothing


class Way(NamedTuple):
    """What a transfer between two devices takes; ``queue`` is -1 where none waits for another."""

    fixed_ms: float
    ms_per_byte: float
    queue: int


NO_WAY = Way(0.0, 0.0, -1)
"""Between devices without a link."""


@dataclass(slots=True)
class Jobs:
    """What is to run, in the order in which lanes take it.

    ``reads`` are values by job, ``source`` is the job that makes a value (-1: it is at ``home``
    from the start), ``lasting`` the values that have to get home. ``lanes`` by device, 0 for any
    number. ``fixed`` has the whole time of a value's transfer where that doesn't depend on the way.
    """

    ms: Sequence[float]
    device: Sequence[int]
    context: Sequence[int]
    reads: Sequence[Sequence[int]]
    source: Sequence[int]
    nbytes: Sequence[float]
    lanes: Sequence[int]
    ways: Mapping[tuple[int, int], Way] = field(default_factory=dict)
    handover: Mapping[tuple[int, int], float] = field(default_factory=dict)
    fixed: Mapping[int, float] = field(default_factory=dict)
    home: int = -1
    lasting: Sequence[int] = ()


@dataclass(slots=True)
class Timeline:
    """When each job started and ended, on which lane of its device, after which handover; all
    transfers in the order they started; and when the last result was there. Times in ms."""

    start: list[float]
    end: list[float]
    lane: list[int]
    handover: list[float]
    crossings: list[Crossing]
    total_ms: float


def run(jobs: Jobs) -> Timeline:
    """The timeline of ``jobs``; raises ValueError if some wait for each other forever."""
    return _Run(jobs).timeline()


class _Run:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        count = len(jobs.ms)
        self._start = [0.0] * count
        self._end = [-1.0] * count
        self._lane = [-1] * count
        self._handover = [0.0] * count
        self._missing = [0] * count
        self._made: list[list[int]] = [[] for _ in range(count)]
        self._readers: dict[tuple[int, int], list[int]] = {}  # by value and device
        self._destinations: list[list[int]] = [[] for _ in jobs.source]
        self._waiting: list[deque[int]] = [deque() for _ in jobs.lanes]
        self._free: list[list[tuple[float, int, int]]] = [[] for _ in jobs.lanes]
        self._opened = [0] * len(jobs.lanes)
        self._last_context: dict[tuple[int, int], int] = {}
        self._queue_free: dict[int, float] = {}
        self._crossings: list[Crossing] = []
        self._events: list[tuple[float, int, int, int]] = []  # time, number, kind, what
        self._number = 0
        self._prepare()

    def _prepare(self) -> None:
        jobs = self._jobs
        for value, source in enumerate(jobs.source):
            if source >= 0:
                self._made[source].append(value)
        for job, reads in enumerate(jobs.reads):
            device = jobs.device[job]
            self._waiting[device].append(job)
            for value in reads:
                source = jobs.source[value]
                if source < 0 and (jobs.home < 0 or jobs.home == device):
                    continue  # an input that is there
                self._missing[job] += 1
                readers = self._readers.setdefault((value, device), [])
                if not readers:
                    self._destinations[value].append(device)
                readers.append(job)
        if jobs.home >= 0:
            for value in jobs.lasting:
                if jobs.home not in self._destinations[value]:
                    self._destinations[value].append(jobs.home)

    def timeline(self) -> Timeline:
        jobs = self._jobs
        for device in range(len(jobs.lanes)):
            self._claim(device, 0.0)
        for value, source in enumerate(jobs.source):
            if source < 0:
                self._send(value, jobs.home, 0.0)
        total = 0.0
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            total = max(total, now)
            if kind == _JOB:
                self._finish(what, now)
            else:
                crossing = self._crossings[what]
                self._arrive(crossing.value, crossing.destination, now)
        if min(self._end, default=0.0) < 0.0:
            raise ValueError("stages wait for each other in a circle")
        self._crossings.sort(key=lambda c: (c.start_ms, c.end_ms))
        return Timeline(self._start, self._end, self._lane, self._handover, self._crossings, total)

    def _claim(self, device: int, now: float) -> None:
        """Give free lanes to the first jobs that wait for one."""
        waiting, lanes = self._waiting[device], self._jobs.lanes[device]
        while waiting:
            free = self._free[device]
            if lanes and self._opened[device] < lanes:
                lane, self._opened[device] = self._opened[device], self._opened[device] + 1
            elif free:
                lane = heapq.heappop(free)[2]
            elif not lanes:
                lane, self._opened[device] = self._opened[device], self._opened[device] + 1
            else:
                return
            job = waiting.popleft()
            self._lane[job] = lane
            before = self._last_context.get((device, lane))
            if before is not None:
                pair = (before, self._jobs.context[job])
                self._handover[job] = self._jobs.handover.get(pair, 0.0)
            self._last_context[device, lane] = self._jobs.context[job]
            self._start[job] = now + self._handover[job]  # at the earliest
            if not self._missing[job]:
                self._begin(job, now)

    def _begin(self, job: int, now: float) -> None:
        start = self._start[job] = max(self._start[job], now)
        self._push(start + self._jobs.ms[job], _JOB, job)

    def _finish(self, job: int, now: float) -> None:
        device = self._jobs.device[job]
        self._end[job] = now
        heapq.heappush(self._free[device], (now, job, self._lane[job]))
        for value in self._made[job]:
            self._send(value, device, now)
        self._claim(device, now)

    def _send(self, value: int, device: int, now: float) -> None:
        """The value is on ``device``: readers there have it, others get it over links."""
        for destination in self._destinations[value]:
            if destination == device:
                self._arrive(value, device, now)
                continue
            way = self._jobs.ways.get((device, destination), NO_WAY)
            ms = self._jobs.fixed.get(value)
            if ms is None:
                ms = way.fixed_ms + way.ms_per_byte * self._jobs.nbytes[value]
            start = now
            if way.queue >= 0:
                start = max(now, self._queue_free.get(way.queue, 0.0))
                self._queue_free[way.queue] = start + ms
            self._crossings.append(
                Crossing(value, device, destination, start, start + ms, way.queue)
            )
            self._push(start + ms, _TRANSFER, len(self._crossings) - 1)

    def _arrive(self, value: int, device: int, now: float) -> None:
        for job in self._readers.get((value, device), ()):
            self._missing[job] -= 1
            if not self._missing[job] and self._lane[job] >= 0:
                self._begin(job, now)

    def _push(self, time: float, kind: int, what: int) -> None:
        heapq.heappush(self._events, (time, self._number, kind, what))
        self._number += 1


_JOB, _TRANSFER = 0, 1
