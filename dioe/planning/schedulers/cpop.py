"""CPOP: critical path on a processor.

H. Topcuoglu, S. Hariri, M.-Y. Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE Transactions on Parallel and Distributed Systems 13(3), 2002.

The rank of a block is its upward and its downward rank together: the length of the longest path
through it. Blocks on the longest of all run on the one target that is fastest for them together,
others where they end first; of those that are ready the highest rank is next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.ranks import downward, ready_by_rank, upward
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def cpop(tables: Tables) -> Assigned | None:
    """The critical path on one target, and every other block where it ends first.

    A block of the path that its target can't run, or has no room for, is placed as others are.
    """
    timetable = cpop_times(tables)
    return None if timetable is None else timetable.assigned()


def cpop_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""
    edges = EdgeCosts(tables)
    timetable = Timetable(tables, edges)
    pairs = zip(upward(tables, edges), downward(tables, edges), strict=True)
    rank = [up + down for up, down in pairs]
    path = critical_path(tables, rank)
    own = _target_of_path(tables, path)
    for i in ready_by_rank(tables, rank):
        ends = timetable.ends_with_results(i)
        if i in path and ends[own] < math.inf:
            timetable.place(i, own)
        elif not timetable.place_best(i, ends):
            return None
    return timetable


def critical_path(tables: Tables, rank: Sequence[float]) -> set[int]:
    """The blocks of the longest path: from the first one on, always the highest rank that follows.

    ``rank`` are the lengths of the longest paths through blocks.
    """
    at = max((i for i in range(tables.n) if not tables.preds[i]), key=rank.__getitem__)
    path = {at}
    while tables.succs[at]:
        at = max((block for block, _ in tables.succs[at]), key=rank.__getitem__)
        path.add(at)
    return path


def _target_of_path(tables: Tables, path: set[int]) -> int:
    """The target that runs most blocks of a path, and of those the fastest for all of them."""

    def missing_and_ms(t: int) -> tuple[int, float]:
        times = [tables.ms[i][t] for i in path]
        able = [ms for ms in times if ms < math.inf]
        return len(times) - len(able), sum(able)

    return min(range(tables.m), key=missing_and_ms)
