"""Balancing loads, for throughput where stages cost nothing: only who runs what counts then.

The period is the load of the busiest device (shared by its lanes) or queue, whatever the order. A
move changes a few loads, so many more of them can be looked at than placements could be simulated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from dioe.planning.assigned import Assigned
from dioe.planning.budget import Budget
from dioe.planning.search.shop import fastest_targets
from dioe.planning.tables import Tables

POWER = 6
"""Loads are compared by the sum of their powers: the largest counts most, and of the others what
makes room for it."""

HISTORY = 50
"""Steps that a worse sum is remembered for (late acceptance, as in ``late``)."""

MOVES_A_PLACEMENT = 20
"""Moves that are looked at in the time of one simulated placement."""


class Loads:
    """Blocks, and groups of them that have to stay together, on devices; loads by resource.

    ``ms`` are by unit and device, inf where it can't run; ``device`` is by unit. Resources are the
    devices, by number, and behind them the queues. ``load`` is what each is busy for one request.
    """

    def __init__(self, tables: Tables, assigned: Assigned) -> None:
        self.tables = tables
        devices = len(tables.devices)
        self.units = sorted({group or (i,) for i, group in enumerate(tables.peers)})
        self.unit_of = [0] * tables.n
        for u, unit in enumerate(self.units):
            for i in unit:
                self.unit_of[i] = u
        self.fastest = [fastest_targets(tables, row, devices) for row in tables.ms]
        share = [lanes or math.inf for lanes in tables.lanes]
        self.ms = [
            [
                sum(tables.ms[i][self.fastest[i][d]] for i in unit) / share[d]
                if all(self.fastest[i][d] >= 0 for i in unit)
                else math.inf
                for d in range(devices)
            ]
            for unit in self.units
        ]
        self.weights = [
            [sum(tables.weights[i][self.fastest[i][d]] for i in unit) for d in range(devices)]
            for unit in self.units
        ]
        self._queues = self._crossings() if tables.queued else []
        self.device = [tables.device_of[assigned.targets[unit[0]]] for unit in self.units]
        self.room = list(tables.memory)
        number = 1 + max((queue for row in tables.queue_of for queue in row), default=-1)
        self.load = [0.0] * (devices + number)
        for u, d in enumerate(self.device):
            self.load[d] += self.ms[u][d]
            self.room[d] -= self.weights[u][d]
        for v in range(len(self._queues)):
            self._count(v, self.device, 1.0, self.load)

    def _crossings(self) -> list[tuple[int, list[int], bool]]:
        """By value: the unit that makes it (-1: it is at home), those that read it, and whether it
        has to get home."""
        tables = self.tables
        readers: list[set[int]] = [set() for _ in tables.maker]
        for i, (preds, inputs) in enumerate(zip(tables.preds, tables.inputs, strict=True)):
            for v in [v for _, v in preds] + inputs:
                readers[v].add(self.unit_of[i])
        lasting = set(tables.outputs) if tables.home >= 0 else set()
        self._values_of: list[list[int]] = [[] for _ in self.units]
        found = []
        for v, maker in enumerate(tables.maker):
            source = -1 if maker < 0 else self.unit_of[maker]
            own = sorted(readers[v])
            for u in {source, *own} - {-1}:
                self._values_of[u].append(v)
            found.append((source, own, v in lasting))
        return found

    def _count(self, v: int, device: Sequence[int], sign: float, load: list[float]) -> None:
        """Add (or take away) a value's transfers to queues."""
        tables = self.tables
        source, readers, lasting = self._queues[v]
        origin = tables.home if source < 0 else device[source]
        if origin < 0:
            return
        there = {device[u] for u in readers}
        if lasting:
            there.add(tables.home)
        there.discard(origin)
        for d in there:
            queue = tables.queue_of[origin][d]
            if queue >= 0:
                load[len(tables.devices) + queue] += sign * tables.cross[v][origin][d]

    def moved(self, changes: Sequence[tuple[int, int]]) -> list[float] | None:
        """The loads with some units on other devices; None where one can't be there."""
        load = list(self.load)
        room: dict[int, float] = {}
        for u, d in changes:
            old = self.device[u]
            if self.ms[u][d] == math.inf:
                return None
            load[old] -= self.ms[u][old]
            load[d] += self.ms[u][d]
            room[old] = room.get(old, self.room[old]) + self.weights[u][old]
            room[d] = room.get(d, self.room[d]) - self.weights[u][d]
        if any(left < 0 and left < self.room[d] for d, left in room.items()):
            return None
        if self._queues:
            values = {v for u, _ in changes for v in self._values_of[u]}
            for v in values:
                self._count(v, self.device, -1.0, load)
            before = [(u, self.device[u]) for u, _ in changes]
            for u, d in changes:
                self.device[u] = d
            for v in values:
                self._count(v, self.device, 1.0, load)
            for u, d in before:
                self.device[u] = d
        return load

    def apply(self, changes: Sequence[tuple[int, int]], load: list[float]) -> None:
        """Make a change whose loads are known."""
        for u, d in changes:
            self.room[self.device[u]] += self.weights[u][self.device[u]]
            self.room[d] -= self.weights[u][d]
            self.device[u] = d
        self.load = load

    def assigned(self, device: Sequence[int], order: Sequence[int]) -> Assigned:
        """The assignment of units to devices."""
        targets = [-1] * self.tables.n
        for unit, d in zip(self.units, device, strict=True):
            for i in unit:
                targets[i] = self.fastest[i][d]
        return Assigned(targets, list(order))


def balance(loads: Loads, budget: Budget, rng: random.Random, least: float = 0.0) -> list[int]:
    """The devices of units with the least largest load that is found."""
    best, best_ms = list(loads.device), max(loads.load)
    count, devices = len(loads.units), range(len(loads.tables.devices))
    able = [[d for d in devices if row[d] < math.inf] for row in loads.ms]
    free = [u for u, row in enumerate(able) if len(row) > 1]
    if not free:
        return best
    unit = best_ms
    now = _sum(loads.load, unit)
    past = [now] * HISTORY
    step = since = 0
    patience = 10 * HISTORY + 20 * count
    while best_ms > least * (1 + 1e-9):
        step += 1
        if step % MOVES_A_PLACEMENT == 0 and not budget.spend():
            break
        u = rng.choice(free)
        busiest = max(range(len(loads.load)), key=loads.load.__getitem__)
        if busiest in devices and rng.random() < 0.6:
            for _ in range(4):  # a block of the busiest device, if one is soon found
                if loads.device[u] == busiest:
                    break
                u = rng.choice(free)
        d = rng.choice(able[u])
        changes = [(u, d)]
        if rng.random() < 0.4:
            w = rng.choice(free)
            d = loads.device[w]
            changes = [(u, d), (w, loads.device[u])]
        if d == loads.device[u]:
            continue
        load = loads.moved(changes)
        if load is None:
            continue
        found = _sum(load, unit)
        slot = step % HISTORY
        if found <= now or found <= past[slot]:
            loads.apply(changes, load)
            now = found
        past[slot] = min(past[slot], now)
        since += 1
        if max(loads.load) < best_ms * (1 - 1e-12):
            best, best_ms, since = list(loads.device), max(loads.load), 0
        elif since > patience:
            since = 0
            _shake(loads, best, free, able, rng)
            now = _sum(loads.load, unit)
            past = [now] * HISTORY
    return best


def _shake(
    loads: Loads, best: Sequence[int], free: list[int], able: list[list[int]], rng: random.Random
) -> None:
    """From the best so far some units somewhere else."""
    for u, d in enumerate(best):
        if d != loads.device[u]:
            load = loads.moved([(u, d)])
            if load is not None:
                loads.apply([(u, d)], load)
    for _ in range(2 + rng.randrange(2 + len(free) // 8)):
        changes = [(u := rng.choice(free), rng.choice(able[u]))]
        load = loads.moved(changes)
        if load is not None:
            loads.apply(changes, load)


def _sum(load: Sequence[float], unit: float) -> float:
    return sum((ms / unit) ** POWER for ms in load) if unit else 0.0
