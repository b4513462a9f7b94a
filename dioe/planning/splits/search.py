"""Finding a split: starts by dynamic programming, then annealing, in as many processes as help."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dioe.planning.splits.anneal import Annealing, Budget
from dioe.planning.splits.instance import Instance
from dioe.planning.splits.merged import merged
from dioe.planning.splits.objectives import (
    Latency,
    MaxLoad,
    Objective,
    ObjectiveName,
    Overflow,
    PooledLoad,
)
from dioe.planning.splits.starts import Blocks, Place, cut, scattered_on_cpus
from dioe.planning.splits.state import State
from dioe.types import OutOfMemory

_ORDERS = 8
"""Orders that are cut for starts, at most."""

_START_SHARE = 0.15
"""Of the budget, for starts."""

_FEW_PLACES = 5000
"""Ways to place all groups, of which as many are tried one by one."""

_FEW_NODES = 100
"""Instances with more are searched merged first."""

_HOT = 0.02
"""The first temperature, as a share of the objective."""

_FIRST_ROUNDS = ((0.55, _HOT), (0.6, 0.2), (0.75, 0.005))
_LAST_ROUNDS = ((0.95, 0.005), (1.0, 0.001))
"""The annealings one after another, each from the best found: the share of the budget that is spent
when it ends, and its first temperature. The last ones move all nodes, the first merged ones."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a search ended: ``place`` has the device of each node as in ``State``."""

    value: float
    place: Place
    moves: int


def search(
    instance: Instance, objective: ObjectiveName, seed: int, *, seconds: float, moves: float
) -> Found:
    """Search in this process until the seconds or the moves are over, whichever is first.

    With ``seconds`` infinite the answer depends on nothing but the arguments. Raises OutOfMemory
    where no split was found that fits.
    """
    budget = Budget(seconds=seconds, moves=moves)
    rng = random.Random(seed)
    smaller = merged(instance) if len(instance.nodes) > _FEW_NODES else None
    try:
        annealing = _started(smaller.instance if smaller else instance, objective, rng, budget)
    except OutOfMemory:
        if smaller is None:
            raise
        smaller = None  # what was merged may fit when it isn't
        annealing = _started(instance, objective, rng, budget)
    _run(annealing, budget, _FIRST_ROUNDS)
    place = annealing.best_place
    places = [place if smaller is None else smaller.expanded(place)]
    if smaller is not None:  # a cutting of all nodes may be better: where it was merged, it may end
        places += _cuttings(instance, objective, Blocks(instance), rng)
    cpus = instance.max_cpus if objective == "throughput" else min(instance.max_cpus, 1)
    goal: Objective = MaxLoad() if objective == "throughput" else Latency()
    annealing = _best_of(
        instance, goal, rng, [on_cpus(instance, each, cpus) for each in places], cpus
    )
    if (instance.max_accelerators + cpus) ** len(instance.groups) <= _FEW_PLACES:
        annealing.try_all()
    _run(annealing, budget, _LAST_ROUNDS)
    return Found(annealing.best, annealing.best_place, int(budget.used))


def _run(annealing: Annealing, budget: Budget, rounds: Iterable[tuple[float, float]]) -> None:
    for until, hot in rounds:
        if budget.spent() < until:
            annealing.restart(annealing.best_place)
            annealing.run(budget, until, hot)


def _started(
    instance: Instance, objective: ObjectiveName, rng: random.Random, budget: Budget
) -> Annealing:
    """The annealing from the best start, all on CPUs or a cutting; one CPU stands for all.

    Raises OutOfMemory where there is no start that fits.
    """
    blocks = Blocks(instance)
    places: list[Place] = []
    if instance.max_cpus:
        places.append([instance.max_accelerators] * len(instance.nodes))
    kinds = [(instance, blocks), *scattered_on_cpus(instance, blocks)]
    for _ in range(_ORDERS):
        for kind, its_blocks in kinds:
            places += _cuttings(kind, objective, its_blocks, rng)
        if budget.spent() > _START_SHARE:
            break
    if not places:
        places.append(_made_to_fit(instance, blocks, rng, budget))
    goal: Objective = PooledLoad(instance) if objective == "throughput" else Latency()
    return _best_of(instance, goal, rng, places, min(instance.max_cpus, 1))


def _cuttings(
    instance: Instance, objective: ObjectiveName, blocks: Blocks, rng: random.Random
) -> Iterator[Place]:
    """The best cuttings of an order."""
    order = blocks.order(rng)
    for by_load in (False, True) if objective == "throughput" else (False,):
        place = cut(instance, blocks, order, by_load=by_load)
        if place is not None:
            yield place


def _best_of(
    instance: Instance, goal: Objective, rng: random.Random, places: Iterable[Place], cpus: int
) -> Annealing:
    """The annealing from the place that is best."""
    states = [State(instance, instance.max_accelerators, cpus, place) for place in places]
    weighed = [goal.weigh(state, math.inf) or (math.inf, math.inf) for state in states]
    best = min(range(len(states)), key=lambda number: weighed[number][1])
    return Annealing(states[best], goal, rng, instance.usable_bytes)


def on_cpus(instance: Instance, place: Place, cpus: int) -> Place:
    """The place with what is on CPUs spread over all of them: the longest group first, each to the
    CPU with the least to do (Graham, SIAM J. Appl. Math. 17, 1969)."""
    spread = list(place)
    groups = [group for group in instance.groups if place[group[0]] >= instance.max_accelerators]
    times = [math.fsum(instance.nodes[node].cpu_time for node in group) for group in groups]
    loads = [(0.0, instance.max_accelerators + number) for number in range(cpus)]
    for time, group in sorted(zip(times, groups, strict=True), reverse=True):
        load, device = heapq.heappop(loads)
        heapq.heappush(loads, (load + time, device))
        for node in group:
            spread[node] = device
    return spread


def _made_to_fit(instance: Instance, blocks: Blocks, rng: random.Random, budget: Budget) -> Place:
    """A place where memory suffices, found from one where it doesn't; there are no CPUs to help.

    Raises OutOfMemory if none was found.
    """
    count = instance.max_accelerators
    share = math.fsum(node.size_bytes for node in instance.nodes) / count
    best = math.inf
    for _ in range(_ORDERS):
        place, device, filled = [0] * len(instance.nodes), 0, 0.0
        for block in blocks.order(rng):
            size = math.fsum(instance.nodes[node].size_bytes for node in blocks.nodes[block])
            if filled and filled + size / 2 > share * (device + 1) and device < count - 1:
                device += 1
            filled += size
            for node in blocks.nodes[block]:
                place[node] = device
        state = State(instance, count, 0, place)
        annealing = Annealing(state, Overflow(instance.usable_bytes), rng, math.inf)
        annealing.run(budget, min(1.0, budget.spent() + _FIT_SHARE), _HOT, enough=0.0)
        if annealing.best <= 0.0:
            return annealing.best_place
        best = min(best, annealing.best)
    raise OutOfMemory(
        f"no split was found that fits: {count} accelerators of {instance.memory_bytes:.0f} bytes "
        f"lack {best:.0f} bytes in the best, and there are no CPUs to take the rest",
        place="placement",
        fix="allow CPUs (maxCPUs), more accelerators or more memory, or more time",
    )


_FIT_SHARE = 0.1
"""Of the budget, for one attempt at fitting everything into accelerators."""
