"""What a split is worth: both published objectives, and what is wrong with it.

It shares no code with the search. Latency: a node on a CPU finishes its CPU time after its last
predecessor (CPUs don't queue). What an accelerator holds starts after its last outside predecessor
and takes the costs of the outside nodes with an edge into it, its nodes' times, and the costs of
its nodes with an edge out of it; all of them finish then. A set that isn't convex is cut into
convex pieces first: a node's piece is one more than the number of times that a path to it can have
left the set. Load: of an accelerator the same sum over all that it holds, of a CPU its nodes' CPU
times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dioe.planning.splits.instance import Instance

CPU = -1
"""In place of an accelerator's number: some CPU."""


@dataclass(frozen=True)
class Split:
    """Which nodes (by index) each device has; the accelerators' numbers are their positions."""

    cpus: tuple[tuple[int, ...], ...]
    accelerators: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Device:
    """What one device does. ``start`` and ``finish`` are those of a set that isn't cut (one on a
    CPU starts and finishes with its first and last node); None where there is nothing, or nothing
    can finish."""

    kind: Literal["accelerator", "cpu"]
    index: int
    nodes: int
    size_bytes: float
    compute: float
    transfers: float
    pieces: int
    start: float | None
    finish: float | None

    @property
    def name(self) -> str:
        """Kind and index, for people."""
        return f"{'CPU' if self.kind == 'cpu' else self.kind} {self.index}"

    @property
    def load(self) -> float:
        """What one inference keeps it busy."""
        return self.compute + self.transfers


@dataclass(frozen=True, slots=True)
class Judgement:
    """``latency`` is infinite where accelerators wait for each other; ``faults`` says what a split
    may not do, and is empty for a good one."""

    latency: float
    max_load: float
    devices: tuple[Device, ...]
    faults: tuple[str, ...]


def judge(instance: Instance, split: Split) -> Judgement:
    """Both objectives of a split, and its faults. Nodes that no device has count as on a CPU."""
    faults = _faults(instance, split)
    place = [CPU] * len(instance.nodes)
    for number, held in enumerate(split.accelerators):
        for node in held:
            place[node] = number
    whole: list[Vertex] = [
        (CPU, node) if number == CPU else (number, 1) for node, number in enumerate(place)
    ]
    vertex_of, times = whole, _times(instance, whole)
    if times is None:  # a set that isn't convex waits for itself, too
        vertex_of = _pieces(instance, split, place)
        times = _times(instance, vertex_of)
    if times is None:
        faults.append("accelerators wait for each other in a circle")
    devices = []
    for number, held in enumerate(split.accelerators):
        pieces = {vertex_of[node] for node in held}
        if len(pieces) > 1:
            faults.append(f"accelerator {number} isn't convex: it is cut into {len(pieces)}")
        begin, end = _span(pieces, times)
        compute, transfers = _accelerator_load(instance, held)
        size = math.fsum(instance.nodes[node].size_bytes for node in held)
        if size > instance.memory_bytes:
            over = size - instance.memory_bytes
            faults.append(f"accelerator {number} needs {over:.0f} bytes more than it has")
        devices.append(
            Device("accelerator", number, len(held), size, compute, transfers, len(pieces),
                   begin, end)
        )  # fmt: skip
    for number, held in enumerate(split.cpus):
        compute = math.fsum(instance.nodes[node].cpu_time for node in held)
        size = math.fsum(instance.nodes[node].size_bytes for node in held)
        begin, end = _span([vertex_of[node] for node in held], times)
        devices.append(Device("cpu", number, len(held), size, compute, 0.0, 1, begin, end))
    latency = math.inf if times is None else max((end for _, end in times.values()), default=0.0)
    load = max((device.load for device in devices), default=0.0)
    return Judgement(latency, load, tuple(devices), tuple(faults))


def _faults(instance: Instance, split: Split) -> list[str]:
    """Faults of the assignment itself: counts, nodes, colour classes, support."""
    faults = []
    for kind, devices, most in (
        ("CPUs", split.cpus, instance.max_cpus),
        ("accelerators", split.accelerators, instance.max_accelerators),
    ):
        used = sum(1 for held in devices if held)
        if used > most:
            faults.append(f"{used} {kind} are used, and there are {most}")
    devices_of: dict[int, list[tuple[str, int]]] = {}
    for kind, devices in (("CPU", split.cpus), ("accelerator", split.accelerators)):
        for number, held in enumerate(devices):
            for node in held:
                devices_of.setdefault(node, []).append((kind, number))
    for index, about in enumerate(instance.nodes):
        on = devices_of.get(index, [])
        if len(on) != 1:
            faults.append(f"node {about.id} is on {len(on)} devices")
        elif on[0][0] == "accelerator" and not about.supported:
            faults.append(f"node {about.id} is on accelerator {on[0][1]}, which can't run it")
    for group in instance.groups:
        if len({tuple(devices_of.get(node, [])) for node in group}) > 1:
            color = instance.nodes[group[0]].color
            faults.append(f"colour class {color} is on more than one device")
    return faults


Vertex = tuple[int, int]
"""(CPU, node), or (accelerator, piece)."""


def _pieces(instance: Instance, split: Split, place: Sequence[int]) -> list[Vertex]:
    """The vertex that each node is part of, where sets that aren't convex are cut."""
    vertex_of: list[Vertex] = [(CPU, node) for node in range(len(place))]
    for number, held in enumerate(split.accelerators):
        depth = [0] * len(place)
        inside = set(held)
        for node in instance.order:
            before = instance.predecessors[node]
            if node in inside:
                # one more than where a path comes back into the set
                depths = [depth[each] + (place[each] != number) for each in before]
                depth[node] = max(1, *depths) if depths else 1
                vertex_of[node] = (number, depth[node])
            else:
                depth[node] = max((depth[each] for each in before), default=0)
    return vertex_of


def _times(
    instance: Instance, vertex_of: Sequence[Vertex]
) -> dict[Vertex, tuple[float, float]] | None:
    """Start and finish of each vertex; None if some wait for each other in a circle."""
    members: dict[Vertex, list[int]] = {}
    for node, vertex in enumerate(vertex_of):
        members.setdefault(vertex, []).append(node)
    links = {
        (vertex_of[a], vertex_of[b]) for a, b in instance.edges if vertex_of[a] != vertex_of[b]
    }
    waiting = Counter(b for _, b in links)
    readers: dict[Vertex, list[Vertex]] = {}
    for a, b in links:
        readers.setdefault(a, []).append(b)
    ready = [vertex for vertex in members if not waiting[vertex]]
    start = dict.fromkeys(members, 0.0)
    times: dict[Vertex, tuple[float, float]] = {}
    while ready:
        vertex = ready.pop()
        if vertex[0] == CPU:
            duration = instance.nodes[vertex[1]].cpu_time
        else:
            duration = sum(_accelerator_load(instance, members[vertex]))
        times[vertex] = start[vertex], start[vertex] + duration
        for reader in readers.get(vertex, ()):
            start[reader] = max(start[reader], times[vertex][1])
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    return times if len(times) == len(members) else None


def _accelerator_load(instance: Instance, held: Iterable[int]) -> tuple[float, float]:
    """Compute, and transfers into and out of a set of nodes."""
    inside = set(held)
    read = {
        before for node in inside for before in instance.predecessors[node] if before not in inside
    }
    sent = {
        node for node in inside if any(after not in inside for after in instance.successors[node])
    }
    compute = math.fsum(instance.nodes[node].accelerator_time for node in inside)
    return compute, math.fsum(instance.costs[node] for node in read | sent)


def _span(
    vertices: Iterable[Vertex], times: dict[Vertex, tuple[float, float]] | None
) -> tuple[float | None, float | None]:
    chosen = [] if times is None else [times[vertex] for vertex in vertices]
    if not chosen:
        return None, None
    return min(begin for begin, _ in chosen), max(end for _, end in chosen)
