"""A split under search: what each device holds, kept up to date move by move."""

# ruff: noqa: PLR1730 - max() is a call, and these are the inner loops
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from dioe.planning.splits.instance import Instance


class State:
    """Where each node is, and what that costs; a move costs time in the number of edges it touches.

    Devices 0 to ``accelerators`` - 1 are accelerators, the ``cpus`` above them CPUs (for latency,
    where CPUs don't queue, one stands for all). Every node is somewhere.
    """

    def __init__(self, instance: Instance, accelerators: int, cpus: int, place: Sequence[int]):
        self.instance = instance
        self.accelerators, self.cpus = accelerators, cpus
        self.successors, self.predecessors = instance.successors, instance.predecessors
        self.costs = instance.costs
        self.cpu_time = [node.cpu_time for node in instance.nodes]
        self.accelerator_time = [node.accelerator_time for node in instance.nodes]
        self.sizes = [node.size_bytes for node in instance.nodes]
        self._indegree = [len(before) for before in instance.predecessors]
        self._sources = [node for node, count in enumerate(self._indegree) if count == 0]
        self.place = list(place)
        self.rebuild()

    def rebuild(self) -> None:
        """Count anew from ``place``: rounding errors of many moves go."""
        count, devices = len(self.place), self.accelerators + self.cpus
        place = self.place
        self.load = [0.0] * devices
        self.size = [0.0] * devices
        self.held = [0] * devices
        self.outside = [
            sum(1 for after in self.successors[node] if place[after] != place[node])
            for node in range(count)
        ]
        """Of each node, its readers on other devices."""
        self.senders: list[set[int]] = [set() for _ in range(self.accelerators)]
        """Of each accelerator, its nodes with a reader elsewhere."""
        self.reads: list[dict[int, int]] = [{} for _ in range(self.accelerators)]
        """Of each accelerator, the outside nodes that it reads, with the number of edges."""
        self.entering = [0] * self.accelerators
        for node, device in enumerate(place):
            self.held[device] += 1
            self.size[device] += self.sizes[node]
            if device >= self.accelerators:
                self.load[device] += self.cpu_time[node]
                continue
            self.load[device] += self.accelerator_time[node]
            if self.outside[node]:
                self.senders[device].add(node)
                self.load[device] += self.costs[node]
            reads = self.reads[device]
            for before in self.predecessors[node]:
                if place[before] != device:
                    self.entering[device] += 1
                    if before not in reads:
                        reads[before] = 0
                        self.load[device] += self.costs[before]
                    reads[before] += 1

    def move(self, node: int, to: int) -> None:  # noqa: PLR0915 - the inner loop: no calls
        """Put a node on another device."""
        place, costs, k = self.place, self.costs, self.accelerators
        outside, load = self.outside, self.load
        source = place[node]
        if source == to:
            return
        self.held[source] -= 1
        self.held[to] += 1
        self.size[source] -= self.sizes[node]
        self.size[to] += self.sizes[node]
        before, after = self.predecessors[node], self.successors[node]
        if source < k:
            load[source] -= self.accelerator_time[node]
            reads = self.reads[source]
            if outside[node]:
                load[source] -= costs[node]
                self.senders[source].discard(node)
            for each in before:
                if place[each] != source:
                    left = reads[each] - 1
                    self.entering[source] -= 1
                    if left:
                        reads[each] = left
                    else:
                        del reads[each]
                        load[source] -= costs[each]
            inner = 0
            for each in after:
                if place[each] == source:
                    inner += 1
            if inner:
                reads[node] = inner
                self.entering[source] += inner
                load[source] += costs[node]
        else:
            load[source] -= self.cpu_time[node]
        for each in before:
            there = place[each]
            if there == source:
                outside[each] += 1
                if source < k and outside[each] == 1:
                    self.senders[source].add(each)
                    load[source] += costs[each]
            elif there == to:
                outside[each] -= 1
                if to < k and not outside[each]:
                    self.senders[to].discard(each)
                    load[to] -= costs[each]
        place[node] = to
        elsewhere = 0
        for each in after:
            if place[each] != to:
                elsewhere += 1
        outside[node] = elsewhere
        if to < k:
            load[to] += self.accelerator_time[node]
            reads = self.reads[to]
            if elsewhere:
                self.senders[to].add(node)
                load[to] += costs[node]
            if node in reads:
                self.entering[to] -= reads.pop(node)
                load[to] -= costs[node]
            for each in before:
                if place[each] != to:
                    self.entering[to] += 1
                    if each in reads:
                        reads[each] += 1
                    else:
                        reads[each] = 1
                        load[to] += costs[each]
        else:
            load[to] += self.cpu_time[node]

    def latency(self, most: float = math.inf) -> float | None:  # noqa: PLR0915 - the inner loop: no calls
        """When all is done; None where a set isn't convex or accelerators wait for each other, or
        where that is later than ``most``.

        A topological walk over the graph in which each accelerator is one vertex: one that isn't
        convex waits for itself there.
        """
        place, k = self.place, self.accelerators
        successors, cpu_time = self.successors, self.cpu_time
        waiting = self._indegree.copy()
        begin = [0.0] * len(place)
        entering = self.entering.copy()
        starts = [0.0] * k
        ready = [node for node in self._sources if place[node] >= k]
        full = [each for each in range(k) if self.held[each]]
        devices = [each for each in full if not entering[each]]
        left = sum(self.held[k:]) + len(full)
        latest = 0.0
        while True:
            while ready:
                node = ready.pop()
                left -= 1
                end = begin[node] + cpu_time[node]
                if end > latest:
                    if end > most:
                        return None
                    latest = end
                for after in successors[node]:
                    device = place[after]
                    if device >= k:
                        if end > begin[after]:
                            begin[after] = end
                        waiting[after] -= 1
                        if not waiting[after]:
                            ready.append(after)
                    else:
                        if end > starts[device]:
                            starts[device] = end
                        entering[device] -= 1
                        if not entering[device]:
                            devices.append(device)
            if not devices:
                break
            own = devices.pop()
            left -= 1
            end = starts[own] + self.load[own]
            if end > latest:
                if end > most:
                    return None
                latest = end
            for node in self.senders[own]:
                for after in successors[node]:
                    device = place[after]
                    if device == own:
                        continue
                    if device >= k:
                        if end > begin[after]:
                            begin[after] = end
                        waiting[after] -= 1
                        if not waiting[after]:
                            ready.append(after)
                    else:
                        if end > starts[device]:
                            starts[device] = end
                        entering[device] -= 1
                        if not entering[device]:
                            devices.append(device)
        return latest if left == 0 else None

    def critical(self) -> list[int]:
        """The nodes that the latency depends on: a chain of nodes on CPUs, and all that is held by
        accelerators, each of which is waited for by the next. The state has to be one that may be
        written."""
        end = self._ends()
        chain: list[int] = []
        last = max(range(len(end)), key=end.__getitem__)
        while True:
            device = self.place[last]
            if device < self.accelerators:
                chain += [node for node, there in enumerate(self.place) if there == device]
                before: Iterable[int] = self.reads[device]
            else:
                chain.append(last)
                before = self.predecessors[last]
            last = max(before, key=end.__getitem__, default=-1)
            if last < 0:
                return chain

    def _ends(self) -> list[float]:
        """When each node is done."""
        place, k = self.place, self.accelerators
        end = [0.0] * len(place)
        done = [False] * len(place)  # no time tells it: rounding may leave a load of -1e-17
        stack = list(range(len(place)))
        while stack:
            node = stack[-1]
            device = place[node]
            if done[node]:
                stack.pop()
                continue
            before = self.reads[device] if device < k else self.predecessors[node]
            waiting = [each for each in before if not done[each]]
            if waiting:
                stack += waiting
                continue
            start = max((end[each] for each in before), default=0.0)
            end[node] = start + (self.load[device] if device < k else self.cpu_time[node])
            done[node] = True
            stack.pop()
        return end
