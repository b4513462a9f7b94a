"""``solve``: the best schedule of a problem that can be found within a budget.

A portfolio of schedulers gives the first answers, every feasible single-device placement among
them; a search then improves the best one as long as the budget lasts. So no answer is worse than
any scheduler's, nor than a single device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dioe.planning.assigned import Assigned, placed
from dioe.planning.bounds import bound
from dioe.planning.budget import Budget
from dioe.planning.chain import check_placeable
from dioe.planning.objective import Judged, judged
from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import Placement
from dioe.planning.tables import Tables
from dioe.types import UnsupportedError


def solve(
    problem: Problem,
    policy: str = "latency",
    *,
    time_limit_s: float | None = None,
    work_limit: int | None = None,
    hint: Placement | None = None,
    seed: int = 0,
) -> Schedule:
    """The best schedule found.

    Args:
        problem: Blocks, targets, devices, links and limits.
        policy: ``latency``, ``throughput``, ``efficiency`` or ``memory``.
        time_limit_s: How long to search at most, in seconds.
        work_limit: How many placements to evaluate at most; with it alone the answer is the same
            every time. Without either limit the portfolio's best is the answer.
        hint: A placement to start from as well, such as that of the plan so far.
        seed: Of the random choices of the search.

    Raises:
        InputError: an unknown policy.
        UnsupportedError: a block that no target runs, or limits that no placement found keeps; says
            which one, and by how much.
    """
    check_placeable(problem, {})
    tables = Tables(problem)
    budget = Budget(time_limit_s, work_limit)
    best: tuple[Judged, Placement, str] | None = None
    tried: dict[str, float] = {}
    for name, placement in _portfolio(tables, hint):
        found = judged(problem, placement, policy)
        budget.spend()
        if not found.over:
            tried[name] = min(found.value, tried.get(name, math.inf))
        if best is None or found.key < best[0].key:
            best = found, placement, name
    if best is None or best[0].over:
        raise _infeasible(best)
    value, placement, name = best
    return Schedule(
        problem, placement, value.simulation, policy, value.value, bound(tables, policy),
        found_by=name, tried=tried,
    )  # fmt: skip


def _portfolio(tables: Tables, hint: Placement | None) -> Iterator[tuple[str, Placement]]:
    """Everything that is tried before searching, by name."""
    if hint is not None:
        yield "hint", hint
    for name, assigned in single_devices(tables):
        yield name, placed(tables, assigned)


def single_devices(tables: Tables) -> Iterator[tuple[str, Assigned]]:
    """For each device that runs everything, each block on its fastest target there; and every
    target by itself."""
    order = list(range(tables.n))
    for device, name in enumerate(tables.devices):
        own = [t for t in range(tables.m) if tables.device_of[t] == device]
        targets = [min(own, key=row.__getitem__) if own else -1 for row in tables.ms]
        if own and all(row[t] < math.inf for row, t in zip(tables.ms, targets, strict=True)):
            yield f"all on {name}", Assigned(targets, order)
        for t in own if len(own) > 1 else ():
            if all(row[t] < math.inf for row in tables.ms):
                yield f"all on {tables.problem.targets[t].target}", Assigned([t] * tables.n, order)


def _infeasible(best: tuple[Judged, Placement, str] | None) -> UnsupportedError:
    over = () if best is None else best[0].over
    what = "; ".join(
        f"{each.what}{f' of {each.place}' if each.place else ''}: {each.needed:.6g} needed, "
        f"{each.limit:.6g} allowed"
        for each in over
    )
    return UnsupportedError(
        f"no schedule keeps the limits ({what or 'no target runs every block'})",
        place="planning",
        fix="raise the limit, or add a device",
    )
