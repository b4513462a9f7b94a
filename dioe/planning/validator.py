"""The validator: whether a schedule is one, and says of itself what is true.

It shares no code with schedulers, simulator, timeline, lifetimes or memory: it takes only the facts
of a ``Problem`` and of a ``Schedule``, and works out anew what follows from them. So a mistake in
one of those shows here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import Placement
from dioe.planning.validator_facts import Facts
from dioe.planning.validator_memory import peaks

VIOLATIONS = (
    "block",  # left out, unknown, or there twice
    "target",  # none, or one that doesn't run the block
    "sharing",  # targets that can't share a stage
    "group",  # blocks of a colocation group on several devices
    "order",  # a block before one whose value it reads, inside a stage or among stages
    "circle",  # stages that wait for each other: a path leaves one and comes back
    "duration",  # a stage, or a part of it, takes another time than the problem says
    "start",  # a stage starts before what it reads is there
    "transfer",  # missing, needless, too early, of another duration or on another queue
    "queue",  # two transfers at once
    "lane",  # no such lane, two stages at once on it, or one that overtakes
    "handover",  # of another duration than the problem says
    "memory",  # a device holds more than it can at an instant
    "stages",  # more than allowed
    "latency",  # later than allowed
    "devices",  # used together, and not allowed to be
    "total",  # the latency stated isn't that of the timeline
    "period",  # nor the period
    "peak",  # nor the peak of a device's memory
    "value",  # nor what the policy makes of them
    "bound",  # a value below what is said to be its bound
    "tried",  # a value above that of a scheduler that was tried
)
"""What may be wrong with a schedule."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong (one of ``VIOLATIONS``), where, from when on (ms; None where that is no
    matter of time), and by how much: ms, bytes, joules or a number, 0 where there is no measure."""

    what: str
    place: str
    at_ms: float | None = None
    by: float = 0.0

    def __str__(self) -> str:
        at = "" if self.at_ms is None else f" at {self.at_ms:.6g} ms"
        by = f", by {self.by:.6g}" if self.by else ""
        return f"{self.what}: {self.place}{at}{by}"


def violations(problem: Problem, schedule: Schedule) -> tuple[Violation, ...]:
    """All that is wrong with a schedule of ``problem``; empty for a valid one.

    Sums are compared with a tolerance of 1e-9 of the timeline's length. Where the stages aren't
    those of a placement at all (blocks missing, targets that can't run them) nothing else is
    looked at.
    """
    found = (*_no_placement(problem, schedule), *_circles(problem, schedule.placement))
    if found:
        return found
    checked = _Checks(problem, schedule)
    checks = (
        checked.together, checked.durations, checked.transfers, checked.starts,
        checked.queues, checked.lanes, checked.limits, checked.figures,
    )  # fmt: skip
    return tuple(violation for check in checks for violation in check())


def _no_placement(problem: Problem, schedule: Schedule) -> Iterator[Violation]:
    """What is no placement of the problem's blocks on its targets."""
    stages, simulated = schedule.placement.stages, schedule.simulation.stages
    if len(stages) != len(simulated):
        yield Violation("duration", "stages without times", by=abs(len(stages) - len(simulated)))
    nodes = {block.id: block for block in problem.blocks}
    seen: set[str] = set()
    made = set(problem.inputs)
    for number, stage in enumerate(stages):
        where = f"stage {number}"
        if not stage.blocks or len(stage.blocks) != len(stage.targets):
            yield Violation("block", f"{where}: no blocks, or not one target for each")
            continue
        for name, target in zip(stage.blocks, stage.targets, strict=True):
            if name not in nodes or name in seen:
                yield Violation("block", f"{where}: {name!r} is unknown or there twice")
                continue
            seen.add(name)
            if not 0 <= target < len(problem.targets):
                yield Violation("target", f"{where}: no target {target}")
            elif name not in problem.targets[target].blocks:
                yield Violation("target", f"{where}: {name!r} can't run on it")
            for value in nodes[name].reads:
                if value not in made:
                    yield Violation("order", f"{where}: {name!r} reads {value!r} before it is made")
            made.update(nodes[name].gives)
    for name in nodes:
        if name not in seen:
            yield Violation("block", f"{name!r} is in no stage")


def _circles(problem: Problem, placement: Placement) -> Iterator[Violation]:
    """Stages that are left when those that wait for none, or that none waits for, are gone."""
    stage_of = {name: n for n, stage in enumerate(placement.stages) for name in stage.blocks}
    maker = {value: block.id for block in problem.blocks for value in block.gives}
    waits: dict[int, set[int]] = {number: set() for number in range(len(placement.stages))}
    users: dict[int, set[int]] = {number: set() for number in range(len(placement.stages))}
    for block in problem.blocks:
        for value in block.reads:
            ends = stage_of.get(maker.get(value, "")), stage_of.get(block.id)
            if ends[0] is not None and ends[1] is not None and ends[0] != ends[1]:
                waits[ends[1]].add(ends[0])
                users[ends[0]].add(ends[1])
    left = set(waits)
    for before, after in ((waits, users), (users, waits)):
        counts = {number: len(before[number] & left) for number in left}
        free = [number for number, count in counts.items() if not count]
        while free:
            number = free.pop()
            left.discard(number)
            for other in after[number] & left:
                counts[other] -= 1
                if not counts[other]:
                    free.append(other)
    for number in sorted(left):
        yield Violation("circle", f"stage {number}")


class _Checks(Facts):
    """Every check of a placement with its timeline."""

    # --- stages --------------------------------------------------------------------------------

    def together(self) -> Iterator[Violation]:
        """Targets in a stage, and groups on devices."""
        for number, (stage, _) in enumerate(self.stages):
            used = [self.problem.targets[t] for t in dict.fromkeys(stage.targets)]
            mixed = all(costs.mixes and costs.context == used[0].context for costs in used)
            if len(used) > 1 and not mixed:
                yield Violation("sharing", f"stage {number}", by=len(used) - 1)
        groups: dict[str, set[str]] = {}
        for run in self.runs.values():
            if run.block.group:
                groups.setdefault(run.block.group, set()).add(run.device)
        for group, devices in groups.items():
            if len(devices) > 1:
                where = ", ".join(sorted(devices))
                yield Violation("group", f"{group} on {where}", by=len(devices) - 1)

    def durations(self) -> Iterator[Violation]:
        """Parts of stages as the problem says, and stages as long as their parts."""
        for number, (_, simulated) in enumerate(self.stages):
            parts, times, at = self.parts[number], simulated.times, simulated.start_ms
            pairs: list[tuple[str, float | None, float | None]] = [
                ("dispatch", parts.dispatch, times.dispatch_ms),
                ("switches", parts.switch, times.switch_ms),
                ("all", parts.total, simulated.end_ms - simulated.start_ms),
            ]
            for kind, ours, theirs in (
                ("entry of", parts.entries, times.entries),
                ("exit of", parts.exits, times.exits),
                ("block", parts.blocks, times.blocks),
            ):
                for name in ours.keys() | theirs.keys():
                    pairs.append((f"{kind} {name}", ours.get(name), theirs.get(name)))
            for what, ms, said in pairs:
                off = abs((ms or 0.0) - (said or 0.0))
                if off > self.eps or (ms is None) != (said is None):
                    yield Violation("duration", f"stage {number}: {what}", at, off)

    # --- values on their way -------------------------------------------------------------------

    def transfers(self) -> Iterator[Violation]:
        """Those that are needed, once each, in time, as long as their link takes."""
        wanted = self._wanted()
        for t in self.timeline.transfers:
            where = f"{t.value} from {t.source} to {t.destination}"
            key = (t.value, t.destination)
            if key not in wanted:
                yield Violation("transfer", f"{where}: needless, or there twice", t.start_ms)
                continue
            wanted.discard(key)
            source, made = self.source(t.value)
            if t.source != source:
                yield Violation("transfer", f"{where}: it is made on {source}", t.start_ms)
            if t.start_ms < made - self.eps:
                late = made - t.start_ms
                yield Violation("transfer", f"{where}: before it is made", t.start_ms, late)
            ms, queue = self.crossing(t.value, source, t.destination)
            off = abs(t.end_ms - t.start_ms - ms)
            if off > self.eps:
                yield Violation("transfer", f"{where}: takes {ms:.6g} ms", t.start_ms, off)
            if t.queue != queue:
                yield Violation("transfer", f"{where}: of queue {queue!r}", t.start_ms)
        for value, destination in sorted(wanted):
            yield Violation("transfer", f"{value} to {destination}: missing")

    def _wanted(self) -> set[tuple[str, str]]:
        """Values and the devices that they have to be brought to."""
        problem = self.problem
        if not problem.devices:
            return set()
        found = set()
        for value in (*self.maker, *problem.inputs):
            source, _ = self.source(value)
            if source:
                devices = {run.device for run in self.readers(value)}
                found |= {(value, device) for device in devices - {source}}
        if problem.home:
            away = (v for v in problem.outputs if v in self.maker)
            found |= {(v, problem.home) for v in away if self.source(v)[0] != problem.home}
        return found

    def starts(self) -> Iterator[Violation]:
        """Stages start when all they read is there; blocks come after those they read from."""
        arrival = {(t.value, t.destination): t.end_ms for t in self.timeline.transfers}
        for name, run in self.runs.items():
            start = self.stages[run.stage][1].start_ms
            for value in run.block.reads:
                maker = self.maker.get(value)
                if maker is not None and maker.stage == run.stage:
                    there, begins = maker.end, run.start
                else:
                    there, begins = self.source(value)[1], start
                    there = max(there, arrival.get((value, run.device), 0.0))
                if begins < there - self.eps:
                    late = there - begins
                    yield Violation("start", f"{name} before {value} is there", begins, late)

    def queues(self) -> Iterator[Violation]:
        """A queue carries one value at a time."""
        carried: dict[str, list[tuple[float, float, str]]] = {}
        for t in self.timeline.transfers:
            if t.value not in self.size:
                continue  # no value at all, which is told elsewhere
            _, queue = self.crossing(t.value, self.source(t.value)[0], t.destination)
            if queue:
                carried.setdefault(queue, []).append((t.start_ms, t.end_ms, t.value))
        for queue, row in carried.items():
            clock = 0.0
            for start, end, value in sorted(row):
                if start < clock - self.eps:
                    yield Violation("queue", f"{queue}: {value}", start, clock - start)
                clock = max(clock, end)

    # --- lanes ---------------------------------------------------------------------------------

    def lanes(self) -> Iterator[Violation]:
        """Stages on lanes that there are, in their order, one at a time, behind a handover."""
        counts = {device.id: device.lanes for device in self.problem.devices}
        last: dict[tuple[str, int], tuple[int, float]] = {}
        taken: dict[str, float] = {}
        for number, (_, simulated) in enumerate(self.stages):
            device, lane = self.device(number), simulated.lane
            if simulated.device != device:
                yield Violation("lane", f"stage {number}: on {simulated.device}, not {device}")
            caller = "" if self.problem.devices else "the caller's lane"
            most = 1 if caller else counts[device]
            where = f"stage {number}, {caller or f'lane {lane} of {device}'}"
            if lane < 0 or (most is not None and lane >= most):
                yield Violation("lane", f"{where}: no such lane", simulated.start_ms)
            key = (caller or device, lane)
            before, free = last.get(key, (-1, 0.0))
            handover = 0.0
            if before >= 0:
                pair = self.context(before), self.context(number)
                handover = self.problem.handover.get(pair, 0.0)
            off = abs(handover - simulated.handover_ms)
            if off > self.eps:
                yield Violation("handover", where, simulated.start_ms, off)
            early = free + handover - simulated.start_ms
            if early > self.eps:
                yield Violation("lane", f"{where}: it isn't free", simulated.start_ms, early)
            passed = taken.get(key[0], 0.0) - free
            if passed > self.eps:  # an earlier stage waits for a lane that is free later
                yield Violation("lane", f"{where}: it overtakes", simulated.start_ms, passed)
            taken[key[0]] = max(taken.get(key[0], 0.0), free)
            last[key] = number, simulated.end_ms

    # --- limits and figures --------------------------------------------------------------------

    def limits(self) -> Iterator[Violation]:
        """Memory of devices, stages, latency, devices together."""
        capacities = [(d.id, d.memory_bytes) for d in self.problem.devices]
        capacities += [(t.target.device, t.memory_bytes) for t in self.problem.targets]
        room: dict[str, float] = {}
        for device, size in capacities:
            if size is not None:
                room[device] = min(size, room.get(device, math.inf))
        for device, (most, when) in peaks(self, lingering=False).items():
            excess = most - room.get(device, math.inf)
            if excess > 1e-9 * most:
                yield Violation("memory", device, when, excess)
        allowed = self.problem.allowed
        if allowed.max_stages is not None and len(self.stages) > allowed.max_stages:
            excess = len(self.stages) - allowed.max_stages
            yield Violation("stages", f"{len(self.stages)} stages", by=excess)
        if allowed.latency_ms is not None and self.end > allowed.latency_ms + self.eps:
            yield Violation("latency", "the last result", self.end, self.end - allowed.latency_ms)
        if allowed.together is not None:
            used = {run.device for run in self.runs.values()}
            least = min((len(used - each) for each in allowed.together), default=len(used))
            if least:
                yield Violation("devices", " and ".join(sorted(used)), by=least)

    def figures(self) -> Iterator[Violation]:
        """What the schedule says of itself."""
        schedule, timeline = self.schedule, self.timeline
        period = self._period()
        for what, ours, theirs in (
            ("total", self.end, timeline.total_ms),
            ("period", period, timeline.period_ms),
        ):
            if abs(ours - theirs) > self.eps:
                yield Violation(what, f"{ours:.6g} ms", by=abs(ours - theirs))
        least, most = peaks(self, lingering=False), peaks(self, lingering=True)
        whole = all(s.times.blocks.keys() >= set(stage.blocks) for stage, s in self.stages)
        stated = schedule.peak_bytes if whole else {}
        for device, (size, when) in least.items() if whole else ():
            said = stated.get(device, 0.0)
            off = max(size - said, said - most[device][0])
            if off > 1e-9 * max(size, said):
                yield Violation("peak", f"{device} holds {size:.6g} bytes", when, off)
        sizes = [max((size for size, _ in each.values()), default=0.0) for each in (least, most)]
        low, high = {
            "latency": (self.end, self.end),
            "throughput": (period, period),
            "efficiency": (self._joules(), self._joules()),
            "memory": (sizes[0], sizes[1]),
        }[schedule.policy]
        value = schedule.value
        slack = 1e-9 * max(abs(low), abs(value))
        if not low - slack <= value <= high + slack:
            yield Violation("value", f"{low:.6g}", by=max(low - value, value - high))
        if value < schedule.bound - slack:
            yield Violation("bound", f"{schedule.bound:.6g}", by=schedule.bound - value)
        best = min(schedule.tried.values(), default=math.inf)
        if value > best + slack:
            yield Violation("tried", f"{best:.6g}", by=value - best)

    def _period(self) -> float:
        """The load of the busiest device, shared by its lanes, or queue. From the last stage of a
        device to its first one, of another request, there is a handover too."""
        counts = {device.id: device.lanes for device in self.problem.devices}
        load: dict[tuple[str, str], float] = {}
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for number, (_, simulated) in enumerate(self.stages):
            device = self.device(number) if self.problem.devices else ""
            lanes = counts.get(device, 1)
            if lanes is not None:
                busy = simulated.handover_ms + simulated.end_ms - simulated.start_ms
                key = ("device", device)
                load[key] = load.get(key, 0.0) + busy / lanes
                first.setdefault(device, number)
                last[device] = number
        for device, number in last.items():
            pair = self.context(number), self.context(first[device])
            load["device", device] += self.problem.handover.get(pair, 0.0) / (
                counts.get(device) or 1
            )
        for t in self.timeline.transfers:
            if t.queue:
                load["queue", t.queue] = load.get(("queue", t.queue), 0.0) + t.end_ms - t.start_ms
        return max(load.values(), default=0.0)

    def _joules(self) -> float:
        """Devices with stages: their power while they compute, by the share of their lanes, and
        what they draw when idle for the rest; nan where a device's power isn't known."""
        busy: dict[str, float] = {}
        for number, (_, simulated) in enumerate(self.stages):
            device = self.device(number)
            busy[device] = busy.get(device, 0.0) + simulated.end_ms - simulated.start_ms
        total = 0.0
        for node in self.problem.devices:
            if node.id in busy:
                active = min(busy[node.id] / (node.lanes or 1), self.end)
                watts = math.nan if node.busy_w is None else node.busy_w
                total += (watts * active + node.idle_w * (self.end - active)) / 1e3
        return total if self.problem.devices else math.nan
