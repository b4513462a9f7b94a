"""When jobs run on lanes and values cross links: the event-driven heart of the simulator.

Everything is a number here: jobs, devices and values by their index, in the order they were handed
in. A device's jobs wait for its lanes in that order, and the first one takes a lane as soon as one
is free, also if what it reads isn't there yet; so nothing overtakes. A value that is read on
another device crosses once for all its readers there, when it is made, behind whatever its queue
carries; of several that a job makes the one that is read first goes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
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
    """One run. Loops look things up in lists: this is where a search spends its time.

    A value on a device has the number ``value * devices + device`` here.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        count, devices = len(jobs.ms), len(jobs.lanes)
        self._start = [0.0] * count
        self._end = [-1.0] * count
        self._lane = [-1] * count
        self._handover = [0.0] * count
        self._missing = [0] * count
        self._made: list[list[int]] = [[] for _ in range(count)]
        """By job the values that somebody waits for."""
        self._readers: dict[int, list[int]] = {}
        self._destinations: dict[int, list[int]] = {}
        """By value the devices that wait for it."""
        self._waiting: list[list[int]] = [[] for _ in jobs.lanes]
        self._next = [0] * devices
        self._free: list[list[tuple[float, int, int]]] = [[] for _ in jobs.lanes]
        self._opened = [0] * devices
        self._last_context: dict[tuple[int, int], int] = {}
        self._queue_free = [0.0] * (max((way.queue for way in jobs.ways.values()), default=-1) + 1)
        ways = jobs.ways
        self._ways = [[ways.get((a, b), NO_WAY) for b in range(devices)] for a in range(devices)]
        self._crossings: list[Crossing] = []
        self._events: list[tuple[float, int]] = []
        """Time and what ends: a job, or behind all jobs a crossing; at one time in that order."""
        self._prepare()

    def _prepare(self) -> None:
        jobs, devices = self._jobs, len(self._jobs.lanes)
        sources, home, made = jobs.source, jobs.home, self._made
        readers, destinations = self._readers, self._destinations
        for job, (device, reads) in enumerate(zip(jobs.device, jobs.reads, strict=True)):
            self._waiting[device].append(job)
            missing = 0
            for value in reads:
                source = sources[value]
                if source < 0 and (home < 0 or home == device):
                    continue  # an input that is there
                missing += 1
                key = value * devices + device
                if key in readers:
                    readers[key].append(job)
                    continue
                readers[key] = [job]
                if value in destinations:
                    destinations[value].append(device)
                else:
                    destinations[value] = [device]
                    if source >= 0:
                        made[source].append(value)
            self._missing[job] = missing
        if home >= 0:
            for value in jobs.lasting:
                known = destinations.setdefault(value, [])
                if not known and sources[value] >= 0:
                    made[sources[value]].append(value)
                if home not in known:
                    known.append(home)

    def timeline(self) -> Timeline:
        jobs, events, crossings = self._jobs, self._events, self._crossings
        devices, count, pop = len(jobs.lanes), len(jobs.ms), heapq.heappop
        for device in range(devices):
            self._claim(device, 0.0)
        for value in sorted(self._destinations):
            if jobs.source[value] < 0:
                self._send(value, jobs.home, 0.0)
        total = 0.0
        end, free, lane, device_of = self._end, self._free, self._lane, jobs.device
        while events:
            now, what = pop(events)
            total = max(total, now)
            if what >= count:
                crossing = crossings[what - count]
                self._arrive(crossing.value * devices + crossing.destination, now)
                continue
            device = device_of[what]
            end[what] = now
            heapq.heappush(free[device], (now, what, lane[what]))
            for value in self._made[what]:
                self._send(value, device, now)
            self._claim(device, now)
        if min(end, default=0.0) < 0.0:
            raise ValueError("stages wait for each other in a circle")
        crossings.sort(key=itemgetter(3, 4))
        return Timeline(self._start, end, lane, self._handover, crossings, total)

    def _claim(self, device: int, now: float) -> None:
        """Give free lanes to the first jobs that wait for one."""
        jobs, waiting, lanes = self._jobs, self._waiting[device], self._jobs.lanes[device]
        free = self._free[device]
        at = self._next[device]
        while at < len(waiting):
            if lanes and self._opened[device] < lanes:
                lane, self._opened[device] = self._opened[device], self._opened[device] + 1
            elif free:
                lane = heapq.heappop(free)[2]
            elif not lanes:
                lane, self._opened[device] = self._opened[device], self._opened[device] + 1
            else:
                break
            job = waiting[at]
            at += 1
            self._lane[job] = lane
            start = now
            if jobs.handover:
                context = jobs.context[job]
                before = self._last_context.get((device, lane))
                if before is not None:
                    self._handover[job] = jobs.handover.get((before, context), 0.0)
                    start += self._handover[job]
                self._last_context[device, lane] = context
            self._start[job] = start  # at the earliest
            if not self._missing[job]:
                self._begin(job, now)
        self._next[device] = at

    def _begin(self, job: int, now: float) -> None:
        start = self._start[job] = max(self._start[job], now)
        heapq.heappush(self._events, (start + self._jobs.ms[job], job))

    def _send(self, value: int, device: int, now: float) -> None:
        """The value is on ``device``: readers there have it, others get it over links."""
        jobs, crossings = self._jobs, self._crossings
        for destination in self._destinations[value]:
            if destination == device:
                self._arrive(value * len(jobs.lanes) + device, now)
                continue
            fixed_ms, ms_per_byte, queue = self._ways[device][destination]
            ms = jobs.fixed.get(value)
            if ms is None:
                ms = fixed_ms + ms_per_byte * jobs.nbytes[value]
            start = now
            if queue >= 0:
                start = max(now, self._queue_free[queue])
                self._queue_free[queue] = start + ms
            what = len(jobs.ms) + len(crossings)
            crossings.append(Crossing(value, device, destination, start, start + ms, queue))
            heapq.heappush(self._events, (start + ms, what))

    def _arrive(self, key: int, now: float) -> None:
        for job in self._readers.get(key, ()):
            self._missing[job] -= 1
            if not self._missing[job] and self._lane[job] >= 0:
                self._begin(job, now)
