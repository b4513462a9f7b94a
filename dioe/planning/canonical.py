"""Problems whose blocks and devices are numbered by what they are, not by how they were written.

A search breaks ties by numbers, so the same problem with other ids or in another order would get
another answer, and a worse one at times. Numbers are given by colours instead: what a block costs
and is joined to, as in colour refinement (B. Weisfeiler and A. Leman, 1968), by one sweep along the
edges and one against them. What has one colour at last is alike as far as these see, mostly by a
symmetry of the problem.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from dioe.planning.problem import BlockNode, Problem
from dioe.planning.simulator import PlacedStage, Placement

Colour = int


class Canonical:
    """A problem in its own order, and the way there and back for placements."""

    def __init__(self, problem: Problem) -> None:
        devices, blocks = _colours(problem)
        order = _topological(problem, blocks)
        rank = {name: at for at, name in enumerate(_sorted_ids(problem, devices))}
        self._targets = sorted(
            range(len(problem.targets)),
            key=lambda t: (rank[problem.targets[t].target.device], t),
        )
        self._number = {t: at for at, t in enumerate(self._targets)}
        self.problem = replace(
            problem,
            blocks=_in_order(problem, order),
            targets=tuple(problem.targets[t] for t in self._targets),
            devices=tuple(sorted(problem.devices, key=lambda device: rank[device.id])),
        )

    def here(self, placement: Placement) -> Placement:
        """A placement of the original as one of ``problem``."""
        return _renumbered(placement, self._number)

    def back(self, placement: Placement) -> Placement:
        """A placement of ``problem`` as one of the original."""
        return _renumbered(placement, dict(enumerate(self._targets)))


def _renumbered(placement: Placement, number: dict[int, int]) -> Placement:
    stages = tuple(
        PlacedStage(stage.blocks, tuple(number.get(t, t) for t in stage.targets))
        for stage in placement.stages
    )
    return replace(placement, stages=stages)


def _colours(problem: Problem) -> tuple[dict[str, Colour], list[Colour]]:
    """Of devices by id, and of blocks by position."""
    times = [
        [(t.target.device, t.blocks[block.id].ms) for t in problem.targets if block.id in t.blocks]
        for block in problem.blocks
    ]
    sizes: dict[str, int] = {}
    for block in problem.blocks:
        if block.group:
            sizes[block.group] = sizes.get(block.group, 0) + 1
    own = [
        hash((tuple(sorted(ms for _, ms in row)), block.weight_bytes, sizes.get(block.group, 0)))
        for block, row in zip(problem.blocks, times, strict=True)
    ]
    blocks = _swept(problem, own)
    seen: dict[str, list[tuple[Colour, float]]] = {device.id: [] for device in problem.devices}
    for colour, row in zip(blocks, times, strict=True):
        for device, ms in row:
            seen[device].append((colour, ms))
    linked: dict[str, list[tuple[float, ...]]] = {device.id: [] for device in problem.devices}
    for link in problem.links:
        line = (link.cost.fixed_ms, link.cost.ms_per_byte)
        linked[link.source].append((0.0, *line))
        linked[link.destination].append((1.0, *line))
    devices = {}
    for d in problem.devices:
        around = tuple(sorted(seen[d.id])), tuple(sorted(linked[d.id]))
        devices[d.id] = hash((d.lanes or 0, d.memory_bytes or -1, *around))
    own = [
        hash((colour, tuple(sorted((devices[device], ms) for device, ms in row))))
        for colour, row in zip(blocks, times, strict=True)
    ]
    return devices, _swept(problem, own)


def _swept(problem: Problem, own: Sequence[Colour]) -> list[Colour]:
    """Each block's colour with those of all it comes from and all that comes from it."""
    count = len(own)
    before: list[list[tuple[int, int, float]]] = [[] for _ in range(count)]
    after: list[list[tuple[int, int, float]]] = [[] for _ in range(count)]
    for i, block in enumerate(problem.blocks):
        for value, nbytes in block.reads.items():
            source = problem.producers.get(value, -1)
            edge = (nbytes, problem.edge_ms.get(value, -1.0))
            before[i].append((source, *edge))
            if source >= 0:
                after[source].append((i, *edge))
    down = list(own)
    for i in range(count):  # the problem's order is topological
        row = sorted((down[p] if p >= 0 else 0, *edge) for p, *edge in before[i])
        down[i] = hash((own[i], tuple(row)))
    up = list(own)
    for i in reversed(range(count)):
        up[i] = hash((own[i], tuple(sorted((up[s], *edge) for s, *edge in after[i]))))
    return [hash(pair) for pair in zip(down, up, strict=True)]


def _sorted_ids(problem: Problem, colours: dict[str, Colour]) -> list[str]:
    return sorted(colours, key=lambda name: (name != problem.home, colours[name]))


def _topological(problem: Problem, colours: Sequence[Colour]) -> list[int]:
    """An order of the blocks, of those that are ready the one of the least colour first."""
    missing = [0] * len(colours)
    after: list[list[int]] = [[] for _ in colours]
    for i, block in enumerate(problem.blocks):
        sources = {problem.producers[value] for value in block.reads if value in problem.producers}
        missing[i] = len(sources)
        for source in sources:
            after[source].append(i)
    ready = [(colours[i], i) for i, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(i)
        for user in after[i]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (colours[user], user))
    return order


def _in_order(problem: Problem, order: Sequence[int]) -> tuple[BlockNode, ...]:
    """The blocks in an order, their values sorted by it as well."""
    at = {i: place for place, i in enumerate(order)}

    def made(value: str) -> int:
        return at.get(problem.producers.get(value, -1), -1)

    def used(value: str) -> int:
        return min((at[i] for i in problem.readers.get(value, ())), default=len(order))

    blocks = []
    for i in order:
        block = problem.blocks[i]
        reads = {value: block.reads[value] for value in sorted(block.reads, key=made)}
        gives = {value: block.gives[value] for value in sorted(block.gives, key=used)}
        blocks.append(replace(block, reads=reads, gives=gives))
    return tuple(blocks)
