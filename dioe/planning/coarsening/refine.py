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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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


class Pass(NamedTuple):
    """What a pass comes to, where nodes are then, and in which order lanes take them."""

    value: float
    targets: list[int]
    order: list[int]


_NONE: frozenset[int] = frozenset()


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

    def _tails(self, targets: Sequence[int]) -> list[float]:
        """By node the longest way from its start to the end, where everything is placed so."""
        where = [self._machine.device_of[t] for t in targets]
        tail = [0.0] * self._graph.n
        for i in range(self._graph.n - 1, -1, -1):
            tail[i] = _longest(self._succs[i], where, where[i], tail) + self._ms[i][targets[i]]
        return tail

    def latency(self, targets: Sequence[int], *, move: bool = True) -> Pass:
        """One pass; without ``move`` nodes stay where they are. ``value`` is when the last one ends
        if lanes take them in ``order``, which is that of the longest ways to the end."""
        machine, ms_of = self._machine, self._ms
        preds, succs = self._preds, self._succs
        device_of, memory = machine.device_of, machine.memory
        tail = self._tails(targets)
        # topological: of equal ones the first, and ways grow along edges backwards
        order: list[int] = np.argsort(-np.array(tail), kind="stable").tolist()
        free = [[0.0] * lanes for lanes in machine.lanes]
        weight = self._loads(targets)
        now = list(targets)
        where = [device_of[t] for t in targets]
        end = [0.0] * self._graph.n
        for i in order:
            t, a = now[i], where[i]
            choices = self._choices(i, now) if move else _NONE
            best = (math.inf, math.inf, True, t)  # of equal ones it stays
            if len(choices) < 2:
                start = _longest(preds[i], where, a, end)
                if free[a]:
                    start = max(start, min(free[a]))
                best = (0.0, start + ms_of[i][t], False, t)
            else:
                for c in choices:
                    ms, device = ms_of[i][c], device_of[c]
                    if ms == math.inf or (
                        device != a and weight[device] + self._weights[i][c] > memory[device]
                    ):
                        continue
                    start = _longest(preds[i], where, device, end)
                    if free[device]:
                        start = max(start, min(free[device]))
                    finish = start + ms
                    rest = _longest(succs[i], where, device, tail)
                    best = min(best, (finish + rest, finish, c != t, c))
            _, finish, moved, c = best
            b = device_of[c]
            if moved:
                weight[a] -= self._weights[i][t]
                weight[b] += self._weights[i][c]
                now[i], where[i] = c, b
            end[i] = finish
            lanes = free[b]
            if len(lanes) == 1:
                lanes[0] = finish
            elif lanes:
                lanes[lanes.index(min(lanes))] = finish
        return Pass(max(end), now, order)

    def _choices(self, i: int, now: Sequence[int]) -> Collection[int]:
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

    def throughput(self, targets: Sequence[int]) -> Pass:
        """One pass; ``value`` is the largest load of a device, which its lanes share, or of the way
        between two."""
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
        return Pass(largest, now, list(range(self._graph.n)))


def _longest(
    edges: Sequence[tuple[int, float]], where: Sequence[int], device: int, far: Sequence[float]
) -> float:
    """The longest of what lies behind edges, the way to ``device`` included."""
    longest = 0.0
    for j, ms in edges:
        way = far[j] if where[j] == device else far[j] + ms
        if way > longest:  # noqa: PLR1730 - a call of max takes three times as long
            longest = way
    return longest
