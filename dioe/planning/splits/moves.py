"""Changes to try: nodes to put on another device, colour classes whole."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dioe.planning.splits.starts import linear_order
from dioe.planning.splits.state import State

_ORDERS = 8
"""Orders of which runs are moved."""

_LOOKS = 6
"""Nodes that are looked at for one with a neighbour on another device."""

_SINGLE, _RUN = 0.3, 0.4
"""Shares of the kinds of changes: one group up to the first, runs of an order up to the second, the
rest are nodes with what they wait for, or with what waits for them."""

_DECISIVE = 0.4
"""Share of the nodes that are taken from those that the objective depends on."""

_TO_NEIGHBOUR, _TO_CPU = 0.35, 0.65
"""Shares of where they go: to a neighbour's device up to the first, to a CPU up to the second."""


class Moves:
    """Random changes of one state, which keep colour classes together and nodes off accelerators
    that can't run them; memory limits and convexity they may break. A group is a colour class, or a
    node without one."""

    def __init__(self, state: State, rng: random.Random, limit_bytes: float):
        instance = state.instance
        self.state, self.rng = state, rng
        self.devices = state.accelerators + state.cpus
        self.limit = limit_bytes
        self.groups = instance.groups
        self._group_of = [0] * len(instance.nodes)
        for index, group in enumerate(self.groups):
            for node in group:
                self._group_of[node] = index
        self._supported = [
            all(instance.nodes[node].supported for node in group) for group in self.groups
        ]
        self._size = [sum(instance.nodes[each].size_bytes for each in g) for g in self.groups]
        self._neighbours = [
            (*before, *after)
            for before, after in zip(instance.predecessors, instance.successors, strict=True)
        ]
        self.decisive: list[int] = []
        """Nodes that the objective depends on, or did lately: moved more often."""
        self._orders = [
            linear_order(instance.successors, instance.predecessors, rng, deep=number % 2 == 0)
            for number in range(_ORDERS)
        ]

    def supported(self, group: tuple[int, ...]) -> bool:
        """Whether an accelerator can run a group."""
        return self._supported[self._group_of[group[0]]]

    def propose(self) -> list[tuple[int, int]]:
        """Nodes that change their device, each with where it goes; empty if nothing was found."""
        rng = self.rng
        kind = rng.random()
        if kind < _SINGLE:
            chosen = [self._group_of[self._at_border()]]
        elif kind < _RUN:
            chosen = self._run()
        else:
            chosen = self._with_relatives()
        to = self._destination(chosen)
        return [] if to is None else self._changes(chosen, to)

    def _at_border(self) -> int:
        """A node, mostly one with a neighbour on another device."""
        place, rng = self.state.place, self.rng
        among: Sequence[int] = self.decisive if rng.random() < _DECISIVE else ()
        among = among or range(len(place))
        node = 0
        for _ in range(_LOOKS):
            node = among[int(rng.random() * len(among))]
            device = place[node]
            for each in self._neighbours[node]:
                if place[each] != device:
                    return node
        return node

    def _length(self) -> int:
        """How many to take: mostly few, at times a good part of all."""
        spread = self.rng.random() ** 3 * len(self.state.place) / 4
        return 1 + int(self.rng.expovariate(1 / (2 + spread)))

    def _run(self) -> list[int]:
        """The groups of one device in a run of an order."""
        rng, place = self.rng, self.state.place
        order = rng.choice(self._orders)
        first = rng.randrange(len(order))
        device = place[order[first]]
        run = order[first : first + self._length()]
        return list(dict.fromkeys(self._group_of[each] for each in run if place[each] == device))

    def _with_relatives(self) -> list[int]:
        """The group of a node and those before, or after, it on the same device."""
        place, state = self.state.place, self.state
        adjacent = state.predecessors if self.rng.random() < 0.5 else state.successors
        node, most = self._at_border(), self._length()
        device = place[node]
        groups, stack, seen = {self._group_of[node]: None}, [node], {node}
        while stack and len(groups) < most:
            for each in adjacent[stack.pop()]:
                if place[each] == device and each not in seen:
                    seen.add(each)
                    groups[self._group_of[each]] = None
                    stack.append(each)
        return list(groups)

    def _destination(self, chosen: list[int]) -> int | None:
        rng, state = self.rng, self.state
        kind = rng.random()
        if kind < _TO_NEIGHBOUR:
            place = state.place
            device = place[self.groups[chosen[0]][0]]
            around = [
                place[each]
                for group in {chosen[0], chosen[-1]}
                for node in self.groups[group]
                for each in self._neighbours[node]
                if place[each] != device
            ]
            if around:
                return rng.choice(around)
        elif kind < _TO_CPU and state.cpus:
            return state.accelerators + rng.randrange(state.cpus)
        return rng.randrange(self.devices)

    def _changes(self, chosen: list[int], to: int) -> list[tuple[int, int]]:
        state = self.state
        place, on_accelerator = state.place, to < state.accelerators
        nodes: list[int] = []
        added = 0.0
        for group in chosen:
            members = self.groups[group]
            if place[members[0]] == to or (on_accelerator and not self._supported[group]):
                continue
            added += self._size[group]
            nodes += members
        if not nodes:
            return []
        changes = [(node, to) for node in nodes]
        if on_accelerator and state.size[to] + added > self.limit:
            room = self._make_room(to, state.size[to] + added - self.limit, place[nodes[0]])
            return room + changes if room else []
        return changes

    def _make_room(self, device: int, needed: float, source: int) -> list[tuple[int, int]]:
        """Changes that take so many bytes off an accelerator; empty if none were found."""
        state, rng = self.state, self.rng
        place = state.place
        order = rng.choice(self._orders)
        first = rng.randrange(len(order))
        chosen: dict[int, None] = {}
        freed = 0.0
        for node in order[first:]:
            group = self._group_of[node]
            if place[node] == device and group not in chosen and self._size[group]:
                chosen[group] = None
                freed += self._size[group]
                if freed >= needed:
                    break
        else:
            return []
        last = self.groups[next(reversed(chosen))][-1]
        around = [place[each] for each in self._neighbours[last] if place[each] != device]
        to = rng.choice(around) if around and rng.random() < _TO_NEIGHBOUR else source
        return [(node, to) for group in chosen for node in self.groups[group]]
