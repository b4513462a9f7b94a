"""A smaller instance of the same problem: nodes that belong together are one.

Merged are a node and its only reader, where that reads nothing else (a chain); a node that takes
no CPU time and reads nothing, as weights do, and its only reader; and a node that takes no CPU time
and is read by none, and the only one that it reads. A split of the smaller instance is one of the
whole, with exactly the same latency and loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import networkx as nx

from dioe.planning.splits.instance import Instance, Node

_PART_OF_MEMORY, _PART_OF_TIME = 0.1, 0.02
"""What a merged node may have of an accelerator's memory, and of the time of all nodes."""


@dataclass(frozen=True)
class Merged:
    """``instance`` is the smaller one; ``member_of`` has the node of it that each node became."""

    instance: Instance
    member_of: tuple[int, ...]

    def expanded(self, place: Sequence[int]) -> list[int]:
        """A place of the smaller instance as one of the whole."""
        return [place[node] for node in self.member_of]


def merged(instance: Instance) -> Merged:
    """Merge what may be, until nothing is left or parts get too large."""
    parts = _Parts(instance)
    waiting = list(instance.order)
    while waiting:
        part = parts.of(waiting.pop())
        other = parts.partner(part)
        if other is not None:
            joined = parts.join(part, other)
            waiting += [joined, *parts.before[joined], *parts.after[joined]]
    return parts.result()


class _Parts:
    """Parts of the nodes, named by one of them, with what each reads and is read by."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.parent = list(range(len(instance.nodes)))
        self.before = [set(each) for each in instance.predecessors]
        self.after = [set(each) for each in instance.successors]
        self.nodes = list(instance.nodes)
        self.cost = list(instance.costs)
        self.most_bytes = _PART_OF_MEMORY * instance.memory_bytes
        self.most_time = _PART_OF_TIME * sum(node.accelerator_time for node in instance.nodes)

    def of(self, node: int) -> int:
        """The part that a node is in."""
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def partner(self, part: int) -> int | None:
        """Another part to join this one, or be joined; None if there is none."""
        before, after, free = self.before[part], self.after[part], self.nodes[part].cpu_time == 0
        if len(after) == 1:
            reader = next(iter(after))
            if (len(self.before[reader]) == 1 or (free and not before)) and self._fits(
                part, reader
            ):
                return reader
        if len(before) == 1:
            (source,) = before
            if (len(self.after[source]) == 1 or (free and not after)) and self._fits(part, source):
                return source
        return None

    def _fits(self, one: int, other: int) -> bool:
        a, b = self.nodes[one], self.nodes[other]
        return (
            a.size_bytes + b.size_bytes <= self.most_bytes
            and a.accelerator_time + b.accelerator_time <= self.most_time
        )

    def join(self, one: int, other: int) -> int:
        """Make two parts one, of which one reads the other; gives its name."""
        first, second = (one, other) if other in self.after[one] else (other, one)
        self.parent[first] = second
        a, b = self.nodes[first], self.nodes[second]
        if not self.after[second]:  # then it is what the first sends to others that leaves
            self.cost[second] = self.cost[first]
        self.nodes[second] = Node(
            id=b.id,
            cpu_time=a.cpu_time + b.cpu_time,
            accelerator_time=a.accelerator_time + b.accelerator_time,
            size_bytes=a.size_bytes + b.size_bytes,
            supported=a.supported and b.supported,
        )
        self.after[first].discard(second)
        self.before[second].discard(first)
        for each in self.before[first]:
            self.after[each].discard(first)
            self.after[each].add(second)
        for each in self.after[first]:
            self.before[each].discard(first)
            self.before[each].add(second)
        self.before[second] |= self.before[first]
        self.after[second] |= self.after[first]
        return second

    def result(self) -> Merged:
        """The parts as an instance."""
        instance = self.instance
        roots = [node for node in range(len(self.parent)) if self.parent[node] == node]
        number = {root: position for position, root in enumerate(roots)}
        member_of = tuple(number[self.of(node)] for node in range(len(self.parent)))
        color_of = _colors(instance, member_of)
        nodes = tuple(
            replace(self.nodes[root], color=color_of.get(position))
            for position, root in enumerate(roots)
        )
        edges = tuple(
            (number[root], number[reader]) for root in roots for reader in sorted(self.after[root])
        )
        return Merged(
            replace(
                instance, nodes=nodes, edges=edges, costs=tuple(self.cost[root] for root in roots)
            ),
            member_of,
        )


def _colors(instance: Instance, member_of: Sequence[int]) -> dict[int, int]:
    """Classes of the merged nodes: those that share a class of a member are one."""
    graph: nx.Graph[tuple[str, int]] = nx.Graph()
    for index, node in enumerate(instance.nodes):
        if node.color is not None:
            graph.add_edge(("part", member_of[index]), ("color", node.color))
    return {
        part: number
        for number, together in enumerate(nx.connected_components(graph))
        for kind, part in together
        if kind == "part"
    }
