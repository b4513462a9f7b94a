"""Splits to start from: dynamic programming over the runs of linear orders.

Blocks are the colour classes, with those that wait for each other merged, so that they form a
directed acyclic graph (Tarnawski et al., NeurIPS 2020, appendix F, make theirs the same way). Runs
of one of its topological orders are convex, and no two of them wait for each other: any cutting of
an order into runs is a split that may be written.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import networkx as nx
import numpy as np

from dioe.planning.splits.instance import Instance

Adjacent = Sequence[Sequence[int]]
Place = list[int]
"""The device of each node, as in ``State``: accelerators first, then CPUs."""

_WORK, _LEAST_STEPS = 250_000, 200
"""Nodes that are looked at to price all runs of an order, about (some 0.3 s); where that would be
more, neighbours are taken together, but not to fewer steps than these."""

_MOST_NODES = 5_000
"""Of instances whose fewest classes on CPUs are looked for, which takes a condensation a try."""

_MOST_LEVELS = 64
"""Accelerators that a cutting uses."""


class Blocks:
    """The blocks of an instance: ``nodes`` of each, and who reads whom among them."""

    def __init__(self, instance: Instance):
        group_of = {node: index for index, group in enumerate(instance.groups) for node in group}
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(range(len(instance.groups)))
        graph.add_edges_from((group_of[a], group_of[b]) for a, b in instance.edges)
        merged = nx.condensation(graph)
        rank = {node: position for position, node in enumerate(instance.order)}
        self.nodes: list[tuple[int, ...]] = [
            tuple(
                sorted(
                    (node for group in merged.nodes[each]["members"]
                     for node in instance.groups[group]),
                    key=rank.__getitem__,
                )
            )
            for each in merged
        ]  # fmt: skip
        self.successors = [sorted(merged.successors(each)) for each in merged]
        self.predecessors = [sorted(merged.predecessors(each)) for each in merged]

    def order(self, rng: random.Random) -> list[int]:
        """A topological order of the blocks."""
        return linear_order(self.successors, self.predecessors, rng)


def scattered_on_cpus(instance: Instance, blocks: Blocks) -> list[tuple[Instance, Blocks]]:
    """The instance with colour classes on CPUs that have nodes of others between their own, so that
    these needn't be one block with them: all such classes, and only so many of the widest that
    every block fits into an accelerator (of a graph for training the outermost layers, so that the
    innermost ones may share one). Empty where there are none, or no CPUs.

    Every place of them is one of the instance as well, while one CPU stands for all.
    """
    group_of = {node: number for number, group in enumerate(instance.groups) for node in group}
    rank = {node: position for position, node in enumerate(instance.order)}
    scattered = {
        group_of[node]
        for block in blocks.nodes
        if len({group_of[node] for node in block}) > 1
        for node in block
        if len(instance.groups[group_of[node]]) > 1
    }
    if not scattered or not instance.max_cpus:
        return []

    def width(number: int) -> int:
        ranks = [rank[node] for node in instance.groups[number]]
        return max(ranks) - min(ranks)

    widest = sorted(scattered, key=width, reverse=True)
    found = [_on_cpus(instance, widest)]
    if len(instance.nodes) <= _MOST_NODES:
        few, many = 0, len(widest)  # how many are too few, and enough as far as is known
        while many - few > 1:
            middle = (few + many) // 2
            tried = _on_cpus(instance, widest[:middle])
            if _fit(*tried):
                many = middle
                found[1:] = [tried]
            else:
                few = middle
    return found


def _on_cpus(instance: Instance, groups: Sequence[int]) -> tuple[Instance, Blocks]:
    chosen = {node for number in groups for node in instance.groups[number]}
    nodes = tuple(
        replace(node, color=None, supported=False) if number in chosen else node
        for number, node in enumerate(instance.nodes)
    )
    changed = replace(instance, nodes=nodes)
    return changed, Blocks(changed)


def _fit(instance: Instance, blocks: Blocks) -> bool:
    """Whether each block that may run on an accelerator fits into one."""
    return all(
        sum(instance.nodes[node].size_bytes for node in block) <= instance.usable_bytes
        for block in blocks.nodes
        if all(instance.nodes[node].supported for node in block)
    )


def linear_order(
    successors: Adjacent, predecessors: Adjacent, rng: random.Random, *, deep: bool = True
) -> list[int]:
    """A random topological order, made from its end: what nothing waits for stands right before
    its first reader. ``deep`` follows one branch to its beginning before the next."""
    waiting = [len(after) for after in successors]
    ready = [vertex for vertex, count in enumerate(waiting) if count == 0]
    rng.shuffle(ready)
    order = []
    while ready:
        if not deep:
            chosen = rng.randrange(len(ready))
            ready[chosen], ready[-1] = ready[-1], ready[chosen]
        vertex = ready.pop()
        order.append(vertex)
        for before in rng.sample(predecessors[vertex], len(predecessors[vertex])):
            waiting[before] -= 1
            if waiting[before] == 0:
                ready.append(before)
    return order[::-1]


def cut(
    instance: Instance,
    blocks: Blocks,
    order: Sequence[int],
    *,
    by_load: bool = False,
) -> Place | None:
    """The best cutting of an order of the blocks into runs, each on an accelerator or on CPUs.

    The best for latency, where a run starts when all before it have finished: the split is at least
    as good. Or ``by_load``, where the largest load of an accelerator counts and only blocks that
    none can take go to CPUs. None if there is no such cutting.
    """
    combine = np.maximum if by_load else np.add
    steps = _steps(instance, blocks, order)
    count, levels = len(steps), min(instance.max_accelerators, len(steps), _MOST_LEVELS)
    best = np.full((levels + 1, count + 1), math.inf)
    best[0, 0] = 0.0
    begin = np.full((levels + 1, count + 1), -1)
    for first, step in enumerate(steps):
        loads = np.array(_run_loads(instance, steps, first))
        end = first + len(loads)
        if len(loads):
            reached = combine(best[:-1, first, None], loads[None, :])
            better = reached < best[1:, first + 1 : end + 1]
            best[1:, first + 1 : end + 1][better] = reached[better]
            begin[1:, first + 1 : end + 1][better] = first
        if instance.max_cpus and not (by_load and levels and len(loads)):
            time = 0.0 if by_load else _cpu_time(instance, step)
            alone = combine(best[:, first], np.full(levels + 1, time))
            better = alone < best[:, first + 1]
            best[:, first + 1][better] = alone[better]
            begin[:, first + 1][better] = -1
    level, position = int(np.argmin(best[:, count])), count
    if math.isinf(best[level, count]):
        return None
    place = [instance.max_accelerators] * len(instance.nodes)
    while position:
        first = int(begin[level, position])
        if first < 0:
            position -= 1
            continue
        level -= 1
        for step in steps[first:position]:
            for node in step:
                place[node] = level
        position = first
    return place


def _steps(instance: Instance, blocks: Blocks, order: Sequence[int]) -> list[list[int]]:
    """The nodes of the order's blocks; of neighbours together where there are too many, so that
    steps have about as many nodes each and a large block is one by itself."""
    size = math.fsum(node.size_bytes for node in instance.nodes)
    longest = len(instance.nodes) * min(1.0, instance.memory_bytes / size if size else 1.0)
    count = min(len(order), max(_LEAST_STEPS, int(_WORK / max(longest, 1.0))))
    most = len(instance.nodes) / count
    steps: list[list[int]] = []
    for block in order:
        nodes = blocks.nodes[block]
        if not steps or len(steps[-1]) + len(nodes) > most:
            steps.append([])
        steps[-1] += nodes
    return steps


def _run_loads(instance: Instance, steps: Sequence[Sequence[int]], first: int) -> list[float]:
    """The loads of an accelerator that has the steps from the first on: 1, 2, … of them, as long as
    it can take them."""
    loads: list[float] = []
    load = size = 0.0
    unread: dict[int, int] = {}
    seen: set[int] = set()
    for step in steps[first:]:
        for node in step:
            about = instance.nodes[node]
            size += about.size_bytes
            if size > instance.usable_bytes or not about.supported:
                return loads
            load += about.accelerator_time
            for before in instance.predecessors[node]:
                if before in unread:
                    unread[before] -= 1
                    if not unread[before]:
                        load -= instance.costs[before]
                elif before not in seen:
                    seen.add(before)
                    load += instance.costs[before]
            unread[node] = len(instance.successors[node])
            if unread[node]:
                load += instance.costs[node]
        loads.append(load)
    return loads


def _cpu_time(instance: Instance, step: Sequence[int]) -> float:
    """The longest path in a step, on CPUs."""
    finish: dict[int, float] = {}
    for node in step:
        start = max((finish.get(each, 0.0) for each in instance.predecessors[node]), default=0.0)
        finish[node] = start + instance.nodes[node].cpu_time
    return max(finish.values())
