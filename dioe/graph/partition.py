"""Convex groups and quotient graphs, on integers: fast enough for graphs of thousands of ops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import networkx as nx

from dioe.graph.opgraph import OpGraph


def is_convex(graph: OpGraph, ops: Iterable[str]) -> bool:
    """Whether no path between two of ``ops`` leaves them. Raises ValueError for an unknown op."""
    inside = {_index(graph, op) for op in ops}
    if not inside:
        return True
    last = max(inside)
    # Indices are topological: a path can only come back below the last of them.
    left = [s for i in inside for s in graph.successors[i] if s not in inside and s < last]
    seen = set(left)
    while left:
        for target in graph.successors[left.pop()]:
            if target in inside:
                return False
            if target < last and target not in seen:
                seen.add(target)
                left.append(target)
    return True


def quotient(graph: OpGraph, groups: Sequence[Sequence[str]]) -> nx.DiGraph[int]:
    """The graph of groups: node = group index with ``ops``, edge with the ``values`` that cross.

    Raises ValueError if the groups don't cover each op exactly once, or depend on each other in a
    circle.
    """
    group_of: dict[str, int] = {}
    for number, ops in enumerate(groups):
        for op in ops:
            _index(graph, op)
            if op in group_of:
                raise ValueError(f"op {op!r} is in groups {group_of[op]} and {number}")
            group_of[op] = number
    missing = [op for op in graph.ids if op not in group_of]
    if missing:
        raise ValueError(f"{len(missing)} ops are in no group, {missing[0]!r} first")
    result: nx.DiGraph[int] = nx.DiGraph()
    for number, ops in enumerate(groups):
        result.add_node(number, ops=tuple(ops))
    crossing: dict[tuple[int, int], dict[str, None]] = {}
    for info in graph.ops.values():
        for name in info.reads:
            source = graph.producers.get(name)
            if source is not None and group_of[source] != group_of[info.id]:
                edge = (group_of[source], group_of[info.id])
                crossing.setdefault(edge, {})[name] = None
    for (source_group, target_group), names in crossing.items():
        result.add_edge(source_group, target_group, values=tuple(names))
    if not nx.is_directed_acyclic_graph(result):
        cycle = [str(source) for source, _ in nx.find_cycle(result)]
        raise ValueError(f"groups depend on each other in a circle: {' -> '.join(cycle)}")
    return result


def _index(graph: OpGraph, op: str) -> int:
    try:
        return graph.index[op]
    except KeyError:
        raise ValueError(f"the graph has no op {op!r}") from None


class Partition:
    """Groups of ops, grown by merging, whose quotient graph stays acyclic.

    Groups are integers, at first one an op (its index). A topological order of the groups is kept;
    a merge only looks at, and reorders, the stretch of it between the merged groups (the idea of
    D. J. Pearce, P. H. J. Kelly, "A dynamic topological sort algorithm for directed acyclic
    graphs", 2006).
    """

    def __init__(self, graph: OpGraph) -> None:
        """Every op of ``graph`` in a group of its own."""
        count = len(graph.ids)
        self.group_of = list(range(count))
        self.members: dict[int, list[int]] = {i: [i] for i in range(count)}
        self.successors = {i: set(graph.successors[i]) for i in range(count)}
        self.predecessors = {i: set(graph.predecessors[i]) for i in range(count)}
        self._order: list[int] = list(range(count))
        self._position = list(range(count))

    def position(self, group: int) -> int:
        """A number that grows along every edge between groups; valid until the next merge."""
        return self._position[group]

    def groups(self) -> list[int]:
        """All groups, in topological order."""
        return [group for group in self._order if group >= 0]

    def merge(self, groups: Iterable[int]) -> int | None:
        """Merge groups into one and return it; None, with nothing changed, if that made a cycle."""
        chosen = set(groups)
        positions = sorted(self._position[group] for group in chosen)
        if len(chosen) < 2:
            return next(iter(chosen), None)
        first, last = positions[0], positions[-1]
        after = self._reachable(chosen, last)
        if after is None:
            return None
        keep = min(chosen, key=lambda group: self._position[group])
        stale = self._order[first : last + 1]
        window = [group for group in stale if group >= 0 and group not in chosen]
        before = [group for group in window if group not in after]
        behind = [group for group in window if group in after]
        # Holes (-1) keep all other positions as they are.
        holes = [-1] * (len(stale) - len(window) - 1)
        stretch = [*before, keep, *behind, *holes]
        self._order[first : last + 1] = stretch
        for offset, group in enumerate(stretch):
            if group >= 0:
                self._position[group] = first + offset
        self._join(keep, chosen)
        return keep

    def _reachable(self, chosen: set[int], last: int) -> set[int] | None:
        """Groups after ``chosen`` up to a position; None if one of them leads back to it."""
        found: set[int] = set()
        queue = [t for group in chosen for t in self.successors[group] if t not in chosen]
        while queue:
            group = queue.pop()
            if group in found or self._position[group] > last:
                continue
            found.add(group)
            for target in self.successors[group]:
                if target in chosen:
                    return None
                queue.append(target)
        return found

    def _join(self, keep: int, chosen: set[int]) -> None:
        for group in chosen - {keep}:
            moved = self.members.pop(group)
            self.members[keep] += moved
            for op in moved:
                self.group_of[op] = keep
            for target in self.successors.pop(group):
                self.predecessors[target].discard(group)
                if target not in chosen:
                    self.predecessors[target].add(keep)
                    self.successors[keep].add(target)
            for source in self.predecessors.pop(group):
                self.successors.get(source, set()).discard(group)
                if source not in chosen:
                    self.successors[source].add(keep)
                    self.predecessors[keep].add(source)
        self.successors[keep] -= chosen
        self.predecessors[keep] -= chosen
