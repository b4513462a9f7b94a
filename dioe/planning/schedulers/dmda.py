"""dmda: StarPU's greedy scheduler, "deque model, data aware".

C. Augonnet, S. Thibault, R. Namyst, P.-A. Wacrenier, "StarPU: a unified platform for task
scheduling on heterogeneous multicore architectures", Concurrency and Computation: Practice and
Experience 23(2), 2011; and ``src/sched_policies/deque_modeling_policy_data_aware.c`` of StarPU,
with its default weights (alpha = beta = 1, no power).

A block is pushed when all that it reads is made, to the queue with the least sum of the time at
which its tasks would end, this one included, and of the transfers that the block needs there:
values that are already on the device, or on their way, cost none.
"""

from __future__ import annotations

import heapq
import math

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def dmda(tables: Tables) -> Assigned | None:
    """Every block, when it gets ready, to the queue that is best then."""
    timetable = dmda_times(tables)
    return None if timetable is None else timetable.assigned()


def dmda_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""
    edges = EdgeCosts(tables)
    timetable = Timetable(tables, edges, insertion=False)
    there: set[tuple[int, int]] = set()  # values on devices that they came to
    missing = [len(preds) for preds in tables.preds]
    ready = [(0.0, i) for i, count in enumerate(missing) if not count]
    while ready:
        now, i = heapq.heappop(ready)
        penalties = _transfers(timetable, i, there)
        ends = timetable.ends(i)
        scores = [
            max(timetable.free(t), now) + ms + penalty if end < math.inf else math.inf
            for t, (ms, penalty, end) in enumerate(zip(tables.ms[i], penalties, ends, strict=True))
        ]
        if not timetable.place_best(i, ends, scores):
            return None
        device = tables.device_of[timetable.targets[i]]
        there.update((value, device) for _, value in tables.preds[i])
        there.update((value, device) for value in tables.inputs[i])
        for block, _ in tables.succs[i]:
            missing[block] -= 1
            if not missing[block]:
                made = max(timetable.finish[p] for p, _ in tables.preds[block])
                heapq.heappush(ready, (made, block))
    return timetable


def _transfers(timetable: Timetable, i: int, there: set[tuple[int, int]]) -> list[float]:
    """What the transfers of all that block i reads take together, by target."""
    tables, edges = timetable.tables, timetable.edges
    total = [0.0] * tables.m
    rows = [(value, edges.row(value, timetable.targets[p])) for p, value in tables.preds[i]]
    rows += [(value, edges.from_home(value)) for value in tables.inputs[i]]
    for value, row in rows:
        for t, ms in enumerate(row):
            if (value, tables.device_of[t]) not in there:
                total[t] += ms
    return total
