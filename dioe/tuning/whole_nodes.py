"""Placements of a pipeline that keep each model whole: what people would try first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from dioe.planning import Assigned, Placement, Problem, Tables, judged, placed
from dioe.tuning.modelled_work import Work

_MOST = 500
"""Placements that are looked at."""


def best_of_whole_nodes(problem: Problem, work: Work, policy: str) -> Placement | None:
    """The best placement with each model on one device, each block on its fastest target there, and
    each Python step where it takes least; None for a single model, whose devices are tried anyway,
    where a model can't be on one device, and where there are too many to look at."""
    tables = Tables(problem)
    nodes = [
        [problem.positions[each.id] for each in part.nodes] for part in work.models if part.nodes
    ]
    if len(nodes) < 2:
        return None
    able = [list(_on_devices(tables, blocks)) for blocks in nodes]
    if not all(able) or math.prod(map(len, able)) > _MOST:
        return None
    start = [min(range(tables.m), key=row.__getitem__) for row in tables.ms]
    found = []
    for chosen in itertools.product(*able):
        targets = list(start)
        for each in chosen:
            for block, target in each.items():
                targets[block] = target
        placement = placed(tables, Assigned(targets, list(range(tables.n))))
        found.append((judged(problem, placement, policy).key, placement))
    return min(found, key=lambda each: each[0])[1]


def _on_devices(tables: Tables, blocks: Sequence[int]) -> Iterator[Mapping[int, int]]:
    """For each device that can run all the blocks the fastest target of each there."""
    for device in range(len(tables.devices)):
        own = [t for t in range(tables.m) if tables.device_of[t] == device]
        if not own:
            continue
        fastest = {block: min(own, key=tables.ms[block].__getitem__) for block in blocks}
        if all(tables.ms[block][target] < math.inf for block, target in fastest.items()):
            yield fastest
