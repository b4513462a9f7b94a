"""HEFT: heterogeneous earliest finish time.

H. Topcuoglu, S. Hariri, M.-Y. Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE Transactions on Parallel and Distributed Systems 13(3), 2002.

Blocks are taken by decreasing upward rank; each goes to the target on which it ends first, into a
gap between two others if one is long enough.
"""

from __future__ import annotations

from dioe.planning.assigned import Assigned
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.ranks import by_rank, upward
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def heft(tables: Tables) -> Assigned | None:
    """Every block where it ends first, the one with the longest way to go before all others."""
    timetable = heft_times(tables)
    return None if timetable is None else timetable.assigned()


def heft_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""
    edges = EdgeCosts(tables)
    timetable = Timetable(tables, edges)
    for i in by_rank(upward(tables, edges)):
        if not timetable.place_best(i, timetable.ends_with_results(i)):
            return None
    return timetable
