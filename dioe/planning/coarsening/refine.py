"""Refinement: nodes at a border between devices move where they end earlier, level by level.

For latency a pass looks at one node after the other in the order of the longest way to the end
(upward ranks, H. Topcuoglu et al., IEEE TPDS 13(3), 2002), as a list scheduler does, but each has
a place already: it may stay, or follow a neighbour. What counts is when it ends there plus the
longest way from there to the end over the places of its successors, so a move is judged by both
sides of the border. For throughput loads of devices and queues are kept, and a node that is on the
busiest one moves where that lowers the largest. Both work on ``Graph``, so at every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dioe.planning.coarsening.graph import Graph
from dioe.planning.tables import Tables


@dataclass(frozen=True)
class Machine:
    """What a refinement needs of the devices: by target its device, and by device its lanes (0: any
    number) and its memory."""

    device_of: Sequence[int]
    lanes: Sequence[int]
    memory: Sequence[float]

    @classmethod
    def of(cls, tables: Tables) -> Machine:
        """The devices of a problem."""
        return cls(tables.device_of, tables.lanes, tables.memory)


class Refiner:
    """One level: targets by node, and passes over them."""

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self._graph = graph
        self._machine = machine
        self._ms: list[list[float]] = graph.ms.tolist()
        self._weights: list[list[float]] = graph.weights.tolist()
        self._preds: list[list[tuple[int, float]]] = [[] for _ in range(graph.n)]
        self._succs: list[list[tuple[int, float]]] = [[] for _ in range(graph.n)]
        for a, b, ms in zip(
            graph.source.tolist(),
            graph.destination.tolist(),
            graph.transfer_ms.tolist(),
            strict=True,
        ):
            self._preds[b].append((a, ms))
            self._succs[a].append((b, ms))
        self._held = graph.group.tolist()
        """A member of a colocation group stays where the group is: -1 for all others."""

    def tails(self, targets: Sequence[int]) -> list[float]:
        """By node the longest way from its start to the end, where everything is placed so."""
        device_of = self._machine.device_of
        tail = [0.0] * self._graph.n
        for i in range(self._graph.n - 1, -1, -1):
            t = targets[i]
            tail[i] = self._rest(i, device_of[t], targets, tail) + self._ms[i][t]
        return tail

    def _rest(self, i: int, device: int, targets: Sequence[int], tail: Sequence[float]) -> float:
        """The longest way from the end of a node on that device."""
        device_of = self._machine.device_of
        return max(
            (
                tail[j] if device_of[targets[j]] == device else tail[j] + ms
                for j, ms in self._succs[i]
            ),
            default=0.0,
        )

    def order(self, tail: Sequence[float]) -> list[int]:
        """Nodes by the longest way to the end; topological, as ways grow along edges backwards."""
        return sorted(range(self._graph.n), key=lambda i: (-tail[i], i))

    def latency(self, targets: list[int], *, move: bool = True) -> tuple[float, list[int]]:
        """One pass: when the last node ends, and where nodes are then; without ``move`` as they
        were."""
        machine, ms_of = self._machine, self._ms
        device_of, memory = machine.device_of, machine.memory
        tail = self.tails(targets)
        free = [[0.0] * lanes for lanes in machine.lanes]
        weight = self._loads(targets)
        now = list(targets)
        end = [0.0] * self._graph.n
        for i in self.order(tail):
            t = now[i]
            a = device_of[t]
            best = (math.inf, math.inf, True, t)  # of equal ones it stays
            for c in self._choices(i, now) if move else (t,):
                ms, device = ms_of[i][c], device_of[c]
                if ms == math.inf or (
                    device != a and weight[device] + self._weights[i][c] > memory[device]
                ):
                    continue
                start = max(
                    (
                        end[j] if device_of[now[j]] == device else end[j] + cross
                        for j, cross in self._preds[i]
                    ),
                    default=0.0,
                )
                if free[device]:
                    start = max(start, min(free[device]))
                finish = start + ms
                best = min(best, (finish + self._rest(i, device, now, tail), finish, c != t, c))
            _, end[i], _, c = best
            b = device_of[c]
            weight[a] -= self._weights[i][t]
            weight[b] += self._weights[i][c]
            now[i] = c
            if free[b]:
                free[b][free[b].index(min(free[b]))] = end[i]
        return max(end), now

    def _choices(self, i: int, now: Sequence[int]) -> set[int]:
        """Where a node may be: where it is, and where its neighbours are."""
        found = {now[i]}
        if self._held[i] < 0:
            found.update(now[j] for j, _ in self._preds[i])
            found.update(now[j] for j, _ in self._succs[i])
        return found

    def _loads(self, targets: Sequence[int]) -> list[float]:
        """Weights by device."""
        found = [0.0] * len(self._machine.lanes)
        for i, t in enumerate(targets):
            found[self._machine.device_of[t]] += self._weights[i][t]
        return found

    def throughput(self, targets: list[int]) -> tuple[float, list[int]]:
        """One pass: the largest load of a device (its lanes share it) or of the way between two,
        and where nodes are then."""
        device_of, lanes, memory = (
            self._machine.device_of, self._machine.lanes, self._machine.memory,
        )  # fmt: skip
        share = [1.0 / n if n else 0.0 for n in lanes]
        count = len(lanes)
        load = [0.0] * count
        way = [[0.0] * count for _ in range(count)]
        now = list(targets)
        for i, t in enumerate(now):
            load[device_of[t]] += self._ms[i][t] * share[device_of[t]]
            for j, ms in self._succs[i]:
                if device_of[now[j]] != device_of[t]:
                    way[device_of[t]][device_of[now[j]]] += ms
        weight = self._loads(targets)
        largest = max(*load, *map(max, way))
        for i in range(self._graph.n):
            t = now[i]
            a = device_of[t]
            near = [(j, ms, True) for j, ms in self._succs[i]]
            near += [(j, ms, False) for j, ms in self._preds[i]]
            choices = {now[j] for j, _, _ in near} - {t}
            if self._held[i] >= 0 or not choices:
                continue
            best, chosen = (largest, load[a]), t
            for c in choices:
                b, ms = device_of[c], self._ms[i][c]
                if ms == math.inf or a == b:
                    continue
                if weight[b] + self._weights[i][c] > memory[b]:
                    continue
                worst = load[b] + ms * share[b]
                if worst > best[1] and worst >= best[0]:
                    continue
                for j, cross, after in near:
                    other = device_of[now[j]]
                    if other != b:
                        grown = way[b][other] if after else way[other][b]
                        worst = max(worst, grown + cross)
                if worst < best[1]:
                    best, chosen = (worst, worst), c
            if chosen == t:
                continue
            b = device_of[chosen]
            for j, cross, after in near:
                other = device_of[now[j]]
                if other != a:
                    way[a if after else other][other if after else a] -= cross
                if other != b:
                    way[b if after else other][other if after else b] += cross
            load[a] -= self._ms[i][t] * share[a]
            load[b] += self._ms[i][chosen] * share[b]
            weight[a] -= self._weights[i][t]
            weight[b] += self._weights[i][chosen]
            now[i] = chosen
            largest = max(*load, *map(max, way))
        return largest, now
