"""m-ETF: earliest task first, within memories.

B. Jeon, L. Cai, P. Srivastava, J. Jiang, X. Ke, Y. Meng, C. Xie, I. Gupta, "Baechi: fast device
placement of machine learning graphs", SoCC 2020, section 3.2; on J.-J. Hwang, Y.-C. Chow,
F. D. Anger, C.-Y. Lee, "Scheduling precedence graphs in systems with interprocessor communication
times", SIAM Journal on Computing 18(2), 1989.

Of all pairs of a block that is ready and a device that has room for it (and for the rest of its
group) the one that can start first is next; of equal starts the block with the longest way to go,
and the target on which it ends first.
"""

from __future__ import annotations

from dioe.planning.assigned import Assigned
from dioe.planning.schedulers.greedy import least_first, without_gaps
from dioe.planning.schedulers.ranks import upward
from dioe.planning.schedulers.timetable import Timetable
from dioe.planning.tables import Tables


def metf(tables: Tables) -> Assigned | None:
    """Always the block that starts first of all."""
    timetable = metf_times(tables)
    return None if timetable is None else timetable.assigned()


def metf_times(tables: Tables) -> Timetable | None:
    """The same with the times it assumes."""
    timetable = without_gaps(tables)
    rank = upward(tables, timetable.edges)

    def start_first(start: float, i: int, t: int) -> tuple[float, float, float]:
        return start, -rank[i], tables.ms[i][t]

    return timetable if least_first(timetable, start_first) else None
