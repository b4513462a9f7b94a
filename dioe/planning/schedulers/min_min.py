"""Min-min.

O. H. Ibarra, C. E. Kim, "Heuristic algorithms for scheduling independent tasks on nonidentical
processors", Journal of the ACM 24(2), 1977 (their algorithm D), under the name that M. Maheswaran,
S. Ali, H. J. Siegel, D. Hensgen and R. F. Freund gave it in "Dynamic mapping of a class of
independent tasks onto heterogeneous computing systems", JPDC 59(2), 1999; here for blocks that
depend on each other: it chooses among those that are ready.

Of all blocks that are ready, each on the target where it ends first, the one that ends first is
next. Nothing goes into gaps.
"""

from __future__ import annotations

from dioe.planning.assigned import Assigned
from dioe.planning.schedulers.greedy import least_first, without_gaps
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def min_min(tables: Tables) -> Assigned | None:
    """Always the block that ends first of all."""
    timetable = min_min_times(tables)
    return None if timetable is None else timetable.assigned()


def min_min_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""

    timetable = without_gaps(tables)
    results = timetable.edges.results

    def end(start: float, i: int, t: int) -> tuple[float]:
        ms = start + tables.ms[i][t]
        return (ms + results[i][t],) if i in results else (ms,)

    return timetable if least_first(timetable, end) else None
