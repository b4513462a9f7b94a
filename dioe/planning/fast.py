"""What a policy makes of an assignment, as fast as a search needs it.

The same figures as :func:`dioe.planning.objective.judged` gives for the placement of an assignment
(a property test holds them equal), without what only a report needs. Where no transfer waits for
another, one pass over the order is exact: a device's lanes take its stages in their order, and the
next one always gets the lane that is free first.
"""

# ruff: noqa: PLR1730 - these loops are what a search spends its time in, and max() costs a call

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from dioe.planning.assigned import Assigned
from dioe.planning.fast_jobs import Stage, Stages
from dioe.planning.fast_memory import Memories
from dioe.planning.memory import sizes
from dioe.planning.schedule import SCHEDULE_POLICIES
from dioe.planning.tables import Tables
from dioe.planning.timeline import Jobs, run
from dioe.types import InputError, UnsupportedError

Key = tuple[float, float, float]
"""What ``Judged.key`` is: beyond the limits by how much, the policy's value, the latency."""

NEVER: Key = (math.inf, math.inf, math.inf)


class _Times(NamedTuple):
    """Starts, ends and handovers by stage, transfers by value and destination, the latency."""

    start: list[float]
    end: list[float]
    handover: list[float]
    crossings: dict[tuple[int, int], tuple[float, float]]
    total_ms: float


class Spent(NamedTuple):
    """What stages take besides their blocks, what transfers take, and how long lanes of devices and
    queues are busy for one request, by name; all in ms."""

    boundaries_ms: float
    transfers_ms: float
    loads_ms: dict[str, float]


class Fast:
    """Scores assignments of one problem under one policy; less is better.

    Raises InputError for an unknown policy, UnsupportedError where efficiency is asked for and no
    device's power is known.
    """

    def __init__(self, tables: Tables, policy: str) -> None:
        if policy not in SCHEDULE_POLICIES:
            raise InputError(
                f"no policy {policy!r}",
                place="policy",
                fix=f"one of {', '.join(SCHEDULE_POLICIES)}",
            )
        self.tables = tables
        self.policy = policy
        problem, net = tables.problem, tables.problem.network
        self._limits = [
            (net.devices.index(name), float(limit))
            for name, limit in sizes(problem).items()
            if name in net.devices
        ]
        self._memory = Memories(tables) if self._limits or policy == "memory" else None
        self._ways = net.ways
        self._lanes = tables.lanes
        self._draw = self._powers() if policy == "efficiency" else []
        self._lasting = list(net.lasting) if net.home >= 0 else []
        self._handover = {pair: ms for pair, ms in net.handover.items() if ms}
        # which of a device's lanes a stage gets matters only where handovers cost something
        self._in_order = not tables.queued and not (
            self._handover and any(lanes != 1 for lanes in tables.lanes)
        )
        allowed = problem.allowed
        self._max_stages = allowed.max_stages
        self._latency_ms = allowed.latency_ms
        self._together = allowed.together
        self._plain = (
            policy == "latency"
            and tables.flat
            and self._in_order
            and self._memory is None
            and self._max_stages is None
            and self._latency_ms is None
            and self._together is None
        )
        self._cross = tables.cross
        self._sources = [[(p, self._cross[v]) for p, v in row] for row in tables.preds]
        self._begin = self._arrivals()
        self._home_cross = [(tables.maker[v], self._cross[v]) for v in self._lasting]
        self._home_cross = [pair for pair in self._home_cross if pair[0] >= 0]
        self._used_devices: set[int] = set()

    def _powers(self) -> list[tuple[float, float] | None]:
        """Watts of devices that compute and that don't; None where nobody knows."""
        nodes = {node.id: node for node in self.tables.problem.devices}
        found: list[tuple[float, float] | None] = []
        for name in self.tables.devices:
            node = nodes.get(name)
            known = node is not None and node.busy_w is not None
            found.append((node.busy_w or 0.0, node.idle_w) if node and known else None)
        if all(pair is None for pair in found):
            raise UnsupportedError(
                "no figure says what any device draws",
                place="efficiency",
                fix="give its power in the pool file (figures: power)",
            )
        return found

    def _arrivals(self) -> list[list[float]]:
        """When all model inputs of a block are on a device."""
        tables = self.tables
        if tables.home < 0:
            return [[0.0] * len(tables.devices) for _ in range(tables.n)]
        return [
            [
                max((self._cross[v][tables.home][d] for v in row), default=0.0)
                for d in range(len(tables.devices))
            ]
            for row in tables.inputs
        ]

    @cached_property
    def _stages(self) -> Stages:
        return Stages(self.tables)

    def forget_times(self) -> None:
        """Take notice of times of blocks that have changed in the tables."""
        self.__dict__.pop("_stages", None)

    @property
    def plain(self) -> bool:
        """Whether nothing but the latency counts, and one pass over the blocks finds it."""
        return self._plain

    def latency(
        self, targets: Sequence[int], order: Sequence[int], beyond: float = math.inf
    ) -> float:
        """The latency of a ``flat`` problem whose transfers don't wait; inf as soon as it is
        clear that it isn't below ``beyond``."""
        ms = max(self.finishes(targets, order, beyond), default=0.0)
        return ms if ms < beyond else math.inf

    def finishes(
        self, targets: Sequence[int], order: Sequence[int], beyond: float = math.inf
    ) -> list[float]:
        """When each block ends, and then each model output's way home; see ``latency``."""
        tables, lanes = self.tables, self._lanes
        device_of, ms, sources, begin = tables.device_of, tables.ms, self._sources, self._begin
        where = [device_of[t] for t in targets]
        end = [0.0] * tables.n
        one = [0.0] * len(lanes)
        many = [[0.0] * count if count > 1 else [] for count in lanes]
        replace = heapq.heapreplace
        for i in order:
            device = where[i]
            now = begin[i][device]
            for p, cross in sources[i]:
                there = end[p] + cross[where[p]][device]
                if there > now:
                    now = there
            count = lanes[device]
            if count == 1:
                free = one[device]
                if free > now:
                    now = free
                now += ms[i][targets[i]]
                one[device] = now
            elif count:
                heap = many[device]
                if heap[0] > now:
                    now = heap[0]
                now += ms[i][targets[i]]
                replace(heap, now)
            else:
                now += ms[i][targets[i]]
            if now >= beyond:
                return [math.inf]
            end[i] = now
        home = tables.home
        return end + [end[p] + cross[where[p]][home] for p, cross in self._home_cross]

    def key(self, assigned: Assigned) -> Key:
        """``Judged.key`` of the assignment; ``NEVER`` where a target can't run a block."""
        tables, targets = self.tables, assigned.targets
        if self._plain:
            total = self.latency(targets, assigned.order)
            return (0.0, total, total) if total < math.inf else NEVER
        for row, target in zip(tables.ms, targets, strict=True):
            if row[target] == math.inf:
                return NEVER
        stages = self._stages.of(assigned)
        cost, before = self._stages.costs(stages)
        times = self._timeline(stages, cost)
        total = times.total_ms
        self._used_devices = {stage.device for stage in stages}
        value = total
        peaks: list[float] = []
        if self._memory is not None:
            peaks = self._peaks(targets, stages, times, before)
        if self.policy == "throughput":
            value = self._period(stages, cost, times)
        elif self.policy == "efficiency":
            value = self._energy(stages, cost, total)
        elif self.policy == "memory":
            value = max(peaks, default=0.0)
        return (self._over(len(stages), total, peaks), value, total)

    def _timeline(self, stages: list[Stage], cost: list[float]) -> _Times:
        if not self._in_order:
            return self._event_driven(stages, cost)
        tables, lanes, cross = self.tables, self._lanes, self._cross
        contexts = tables.problem.network.context_of
        maker, home = tables.maker, tables.home
        job_of = self._jobs(stages)
        count = len(stages)
        start, end, handover = [0.0] * count, [0.0] * count, [0.0] * count
        one = [0.0] * len(lanes)
        many = [[0.0] * number if number > 1 else [] for number in lanes]
        last = [-1] * len(lanes)
        crossings: dict[tuple[int, int], tuple[float, float]] = {}
        for job, stage in enumerate(stages):
            device = stage.device
            now = 0.0
            for value, _ in stage.enters:
                source = maker[value]
                if source < 0:
                    if home < 0 or home == device:
                        continue
                    made, origin = 0.0, home
                else:
                    at = job_of[source]
                    made, origin = end[at], stages[at].device
                if origin != device:
                    there = made + cross[value][origin][device]
                    crossings[value, device] = (made, there)
                    made = there
                if made > now:
                    now = made
            number = lanes[device]
            if number == 1:
                free = one[device]
                if self._handover:
                    context = contexts[stage.targets[0]]
                    if last[device] >= 0:
                        handover[job] = self._handover.get((last[device], context), 0.0)
                        free += handover[job]
                    last[device] = context
                if free > now:
                    now = free
                one[device] = now + cost[job]
            elif number:
                if many[device][0] > now:
                    now = many[device][0]
                heapq.heapreplace(many[device], now + cost[job])
            start[job] = now
            end[job] = now + cost[job]
        total = self._homeward(stages, job_of, end, crossings)
        return _Times(start, end, handover, crossings, total)

    def _homeward(
        self,
        stages: list[Stage],
        job_of: list[int],
        end: list[float],
        crossings: dict[tuple[int, int], tuple[float, float]],
    ) -> float:
        """Send the model's outputs home; when the last one is there."""
        maker, home, cross = self.tables.maker, self.tables.home, self._cross
        total = max(end)
        for value in self._lasting:
            source = maker[value]
            if source < 0 or stages[job_of[source]].device == home:
                continue
            made = end[job_of[source]]
            there = made + cross[value][stages[job_of[source]].device][home]
            crossings[value, home] = (made, there)
            total = max(total, there)
        return total

    def _jobs(self, stages: list[Stage]) -> list[int]:
        job_of = [0] * self.tables.n
        for job, stage in enumerate(stages):
            for i in stage.blocks:
                job_of[i] = job
        return job_of

    def _event_driven(self, stages: list[Stage], cost: list[float]) -> _Times:
        net = self.tables.problem.network
        job_of = self._jobs(stages)
        timed = run(
            Jobs(
                cost,
                [stage.device for stage in stages],
                [net.context_of[stage.targets[0]] for stage in stages],
                [[value for value, _ in stage.enters] for stage in stages],
                [-1 if maker < 0 else job_of[maker] for maker in net.makers],
                net.nbytes,
                net.lanes,
                net.ways,
                net.handover,
                net.fixed,
                net.home,
                net.lasting,
            )
        )
        crossings = {(c.value, c.destination): (c.start_ms, c.end_ms) for c in timed.crossings}
        return _Times(timed.start, timed.end, timed.handover, crossings, timed.total_ms)

    def _peaks(
        self, targets: Sequence[int], stages: list[Stage], times: _Times, before: list[float]
    ) -> list[float]:
        """The peak of each device; where all fits at once and no more is asked, that."""
        assert self._memory is not None
        if self.policy != "memory":
            most = self._memory.most(targets)
            if all(most[device] <= limit for device, limit in self._limits):
                return most
        tables, (start, end, _, crossings, total) = self.tables, times
        if tables.flat:
            begins, ends = [0.0] * tables.n, [0.0] * tables.n
            for job, stage in enumerate(stages):
                begins[stage.blocks[0]] = start[job]
                ends[stage.blocks[0]] = end[job]
            return self._memory.peaks(targets, begins, ends, begins, crossings, total)
        begins, ends, outer = [0.0] * tables.n, [0.0] * tables.n, [0.0] * tables.n
        for job, stage in enumerate(stages):
            clock = start[job] + before[job]
            for i in stage.blocks:
                outer[i] = start[job]
                begins[i] = clock
                clock += tables.ms[i][targets[i]]
                ends[i] = clock
        return self._memory.peaks(targets, begins, ends, outer, crossings, total)

    def spent(self, assigned: Assigned) -> Spent:
        """Where the time of an assignment goes; each target has to run its block."""
        stages = self._stages.of(assigned)
        cost, _ = self._stages.costs(stages)
        times = self._timeline(stages, cost)
        own = sum(row[t] for row, t in zip(self.tables.ms, assigned.targets, strict=True))
        load, queue = self._loads(stages, cost, times)
        loads = dict(zip(self.tables.devices, load, strict=True))
        queues = self.tables.problem.network.queues
        return Spent(
            sum(cost) + sum(times.handover) - own,
            sum(there - begun for begun, there in times.crossings.values()),
            {**loads, **{queues[number]: ms for number, ms in queue.items()}},
        )

    def _period(self, stages: list[Stage], cost: list[float], times: _Times) -> float:
        load, queue = self._loads(stages, cost, times)
        return max(*load, *queue.values(), 0.0)

    def _loads(
        self, stages: list[Stage], cost: list[float], times: _Times
    ) -> tuple[list[float], dict[int, float]]:
        """How long the lanes of each device, and each queue, are busy for one request."""
        load = [0.0] * len(self._lanes)
        ends: dict[int, tuple[int, int]] = {}  # by device: the targets of its first and last stage
        for job, stage in enumerate(stages):
            count = self._lanes[stage.device]
            if count:
                load[stage.device] += (cost[job] + times.handover[job]) / count
                target = stage.targets[0]
                ends[stage.device] = ends.get(stage.device, (target, target))[0], target
        context = self.tables.problem.network.context_of
        for device, (first, last) in ends.items() if self._handover else ():
            ms = self._handover.get((context[last], context[first]), 0.0)
            load[device] += ms / self._lanes[device]
        queue: dict[int, float] = {}
        if self.tables.queued:
            maker = self.tables.maker
            job_of = {i: stage.device for stage in stages for i in stage.blocks}
            for (value, destination), (begun, there) in times.crossings.items():
                source = maker[value]
                origin = self.tables.home if source < 0 else job_of[source]
                way = self._ways.get((origin, destination))
                if way is not None and way.queue >= 0:
                    queue[way.queue] = queue.get(way.queue, 0.0) + there - begun
        return load, queue

    def _energy(self, stages: list[Stage], cost: list[float], total: float) -> float:
        busy: dict[int, float] = {}
        for job, stage in enumerate(stages):
            busy[stage.device] = busy.get(stage.device, 0.0) + cost[job]
        joules = 0.0
        for device, ms in busy.items():
            watts = self._draw[device]
            if watts is None:
                return math.inf
            share = min(ms / (self._lanes[device] or 1), total)
            joules += watts[0] * share + watts[1] * (total - share)
        return joules / 1e3

    def _over(self, stages: int, total: float, peaks: list[float]) -> float:
        over = 0.0
        for device, limit in self._limits:
            if peaks[device] > limit:
                over += (peaks[device] - limit) / limit if limit else peaks[device]
        if self._max_stages is not None and stages > self._max_stages:
            over += (stages - self._max_stages) / self._max_stages if self._max_stages else stages
        if self._latency_ms is not None and total > self._latency_ms:
            over += (total - self._latency_ms) / self._latency_ms if self._latency_ms else total
        if self._together is not None:
            names = self.tables.devices
            used = {names[device] for device in self._used_devices}
            most = max((len(used & each) for each in self._together), default=0)
            if most < len(used):
                over += (len(used) - most) / most if most else len(used)
        return over
