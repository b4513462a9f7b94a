"""PEFT: predict earliest finish time.

H. Arabnejad, J. G. Barbosa, "List scheduling algorithm for heterogeneous systems by an optimistic
cost table", IEEE Transactions on Parallel and Distributed Systems 25(3), 2014.

The optimistic cost table has, for each block and target, the longest way from the block's end to
the last result if all blocks behind it run where that is best for this way. Blocks that are ready
are taken by the mean of their row; each goes to the target where its end and that way together are
shortest.
"""

from __future__ import annotations

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.ranks import ready_by_rank
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def peft(tables: Tables) -> Assigned | None:
    """Every block where it and what is behind it would end first."""
    timetable = peft_times(tables)
    return None if timetable is None else timetable.assigned()


def peft_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""
    edges = EdgeCosts(tables)
    timetable = Timetable(tables, edges)
    table = optimistic_costs(tables, edges)
    for i in ready_by_rank(tables, [sum(row) / tables.m for row in table]):
        ends = timetable.ends(i)
        scores = [end + way for end, way in zip(ends, table[i], strict=True)]
        if not timetable.place_best(i, ends, scores):
            return None
    return timetable


def optimistic_costs(tables: Tables, edges: EdgeCosts) -> list[list[float]]:
    """By block and target, the longest way from the block's end on, with mean costs of values.

    Where the paper looks at each pair of targets, the least of all and the least of those that
    share a stage are enough: to all other targets a value costs the same.
    """
    values = edges.mean()
    m = tables.m
    together = [[b for b in range(m) if edges.shares[a][b]] for a in range(m)]
    alone = all(len(row) == 1 for row in together)
    table = [[0.0] * m for _ in range(tables.n)]
    for i, row in edges.results.items():
        table[i] = row.copy()
    for i in range(tables.n - 1, -1, -1):
        # the way from the start of this block: the least by target, and of all
        own = [ms + way for ms, way in zip(tables.ms[i], table[i], strict=True)]
        near = own if alone else [min(own[b] for b in row) for row in together]
        least = min(own)
        for block, value in tables.preds[i]:
            far = least + values[value]
            table[block] = [
                max(known, here if here < far else far)
                for known, here in zip(table[block], near, strict=True)
            ]
    return table
