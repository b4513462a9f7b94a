"""HEFT that looks ahead.

L. F. Bittencourt, R. Sakellariou, E. R. M. Madeira, "DAG scheduling using a lookahead variant of
the heterogeneous earliest finish time algorithm", PDP 2010.

Blocks are taken by upward rank, as in HEFT. For each target of a block, the blocks that read from
it are placed as well for a moment, each where it ends first; the block goes to the target with
which the last of them ends first.
"""

from __future__ import annotations

import math

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.ranks import by_rank, upward
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def lookahead(tables: Tables) -> Assigned | None:
    """Every block where those that read from it end first."""
    timetable = lookahead_times(tables)
    return None if timetable is None else timetable.assigned()


def lookahead_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""
    edges = EdgeCosts(tables)
    timetable = Timetable(tables, edges)
    order = by_rank(upward(tables, edges))
    place_of = {block: place for place, block in enumerate(order)}
    for i in order:
        children = sorted({block for block, _ in tables.succs[i]}, key=place_of.__getitem__)
        ends = timetable.ends_with_results(i)
        last = [
            _last_end(timetable, i, t, children) if end < math.inf else end
            for t, end in enumerate(ends)
        ]
        timetable.ends(i)
        if not timetable.place_best(i, ends, [max(*pair) for pair in zip(ends, last, strict=True)]):
            return None
    return timetable


def _last_end(timetable: Timetable, i: int, t: int, children: list[int]) -> float:
    """When the last of the children ends if block i is on target t; inf if one finds no room."""
    last = 0.0
    timetable.ends(i)
    done = [timetable.place(i, t)]
    for child in children:
        ends = timetable.ends_with_results(child)
        end = min(ends)
        last = max(last, end)
        if end == math.inf:
            break
        done.append(timetable.place(child, ends.index(end)))
    for what in reversed(done):
        timetable.undo(what)
    return last
