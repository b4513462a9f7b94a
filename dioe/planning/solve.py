"""``solve``: the best schedule of a problem that can be found within a budget.

A portfolio of schedulers gives the first answers, every feasible single-device placement among
them; a search then improves the best one as long as the budget lasts. So no answer is worse than
any scheduler's, nor than a single device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dioe.planning.assigned import assigned_of, placed
from dioe.planning.bounds import bound
from dioe.planning.budget import Budget
from dioe.planning.chain import check_placeable
from dioe.planning.fast import Fast
from dioe.planning.infeasible import infeasible
from dioe.planning.objective import Judged, judged
from dioe.planning.portfolio import portfolio
from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.search import improve
from dioe.planning.simulator import Placement
from dioe.planning.tables import Tables

DEFAULT_WORK = 200_000
"""Blocks that are moved or judged where no limit is given, all placements together: a few tenths of
a second on one core of 2020's, for up to a thousand blocks."""


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
            every time. Without either limit it is ``DEFAULT_WORK`` divided by the number of blocks;
            0 is the portfolio's best.
        hint: A placement to start from as well, such as that of the plan so far. One that breaks a
            colocation group isn't looked at.
        seed: Of the random choices of the search.

    Raises:
        InputError: an unknown policy.
        UnsupportedError: a block that no target runs, or limits that no placement found keeps; says
            which one, and by how much.
    """
    check_placeable(problem, {})
    if time_limit_s is None and work_limit is None:
        work_limit = max(20, min(2000, DEFAULT_WORK // len(problem.blocks)))
    budget = Budget(time_limit_s, work_limit)
    tables = Tables(problem)
    if any(min(row) == math.inf for row in tables.ms):
        raise infeasible(tables, ())
    least = bound(tables, policy)
    best, tried = _tried(tables, policy, hint, budget)
    if budget.left and best is not None and not _at(best, least):
        best = _improved(tables, policy, best, budget, seed)
    if best is None or best.judged.over:
        raise infeasible(tables, () if best is None else best.judged.over)
    return Schedule(
        problem, best.placement, best.judged.simulation, policy, best.judged.value, least,
        proved=_at(best, least), found_by=best.name, tried=tried,
    )  # fmt: skip


class _Found(NamedTuple):
    judged: Judged
    placement: Placement
    name: str


def _at(found: _Found, least: float) -> bool:
    return not found.judged.over and found.judged.value <= least * (1 + 1e-9)


def _tried(
    tables: Tables, policy: str, hint: Placement | None, budget: Budget
) -> tuple[_Found | None, dict[str, float]]:
    """The best of the portfolio, and the values of all that keep the limits."""
    best: _Found | None = None
    tried: dict[str, float] = {}
    for name, placement in portfolio(tables, hint, policy):
        found = judged(tables.problem, placement, policy)
        budget.spend()
        if not found.over:
            tried[name] = min(found.value, tried.get(name, math.inf))
        if best is None or found.key < best.judged.key:
            best = _Found(found, placement, name)
    return best, tried


def _improved(tables: Tables, policy: str, best: _Found, budget: Budget, seed: int) -> _Found:
    start = assigned_of(tables, best.placement)
    assigned = improve(tables, policy, start, budget, seed)
    if Fast(tables, policy).key(assigned) >= best.judged.key:
        return best
    placement = placed(tables, assigned)
    found = judged(tables.problem, placement, policy)
    return _Found(found, placement, "search") if found.key < best.judged.key else best
