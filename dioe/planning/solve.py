"""``solve``: the best schedule of a problem that can be found within a budget.

A portfolio of schedulers gives the first answers, every feasible single-device placement among
them; a search then improves the best ones as long as the budget lasts. So no answer is worse than
any scheduler's, nor than a single device. Problems of thousands of blocks are searched as clusters
of blocks first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from dioe.planning.assigned import Assigned, placed
from dioe.planning.bounds import bound
from dioe.planning.budget import Budget
from dioe.planning.chain import check_placeable
from dioe.planning.coarsening.multilevel import multilevel
from dioe.planning.fast import Fast, Key
from dioe.planning.infeasible import infeasible
from dioe.planning.objective import Judged, judged
from dioe.planning.portfolio import keeps_groups, portfolio
from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.search import search
from dioe.planning.simulator import Placement
from dioe.planning.tables import Tables

DEFAULT_WORK = 100_000
"""Blocks of all placements together that are judged where no limit is given: some tenths of a
second on one core of the 2020s, up to a thousand blocks."""

LARGE = 1_500
"""Blocks from which on clusters of them are searched first."""

STARTS = 3
"""Of the portfolio: how many a search starts from."""

PROVED = 1e-6
"""How close to the bound a value is as good as at it: what the rounding of times may hide."""


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
            every time. Without either limit it is ``DEFAULT_WORK`` divided by the number of blocks,
            20 to 1000; with 0 the answer is the portfolio's best.
        hint: A placement to start from as well, such as that of the plan so far; the answer is
            never worse. One that breaks a colocation group isn't looked at.
        seed: Of the random choices of the search.

    Raises:
        InputError: an unknown policy.
        UnsupportedError: a block that no target runs, or limits that no placement found keeps; says
            which one, and by how much. Or a hint that puts a block where it can't run.
    """
    check_placeable(problem, {})
    if time_limit_s is None and work_limit is None:
        work_limit = max(20, min(1000, DEFAULT_WORK // len(problem.blocks)))
    budget = Budget(time_limit_s, work_limit)
    tables = Tables(problem)
    if any(min(row) == math.inf for row in tables.ms):
        raise infeasible(tables, ())
    fast = Fast(tables, policy)
    kept = hint if hint is not None and keeps_groups(problem, hint) else None
    hinted = None if kept is None else judged(problem, kept, policy)
    found, least = _search(fast, kept, budget, seed)
    if found is None:
        raise infeasible(tables, ())
    placement, name = placed(tables, found.best.assigned), found.best.name
    value = judged(problem, placement, policy)
    if kept is not None and hinted is not None and hinted.key <= value.key:
        placement, value, name = kept, hinted, "hint"
    if value.over:
        raise infeasible(tables, value.over)
    return _schedule(problem, placement, policy, value, least, name, found.tried)


def _schedule(
    problem: Problem,
    placement: Placement,
    policy: str,
    value: Judged,
    least: float,
    name: str,
    tried: Mapping[str, float],
) -> Schedule:
    return Schedule(
        problem, placement, value.simulation, policy, value.value, min(least, value.value),
        proved=value.value <= least * (1 + PROVED), found_by=name, tried=tried,
    )  # fmt: skip


class Candidate(NamedTuple):
    """An assignment, what it is worth, and what found it."""

    key: Key
    name: str
    assigned: Assigned


class _Found(NamedTuple):
    best: Candidate
    tried: dict[str, float]


def _search(
    fast: Fast, hint: Placement | None, budget: Budget, seed: int
) -> tuple[_Found | None, float]:
    """The best candidate with the values of the portfolio, and the bound."""
    tables, policy = fast.tables, fast.policy
    least = bound(tables, policy)
    candidates = tried(fast, hint, budget)
    if tables.n > LARGE and budget.left and tables.problem.devices:
        assigned = multilevel(tables, policy, budget.part(0.9), seed, _inner)
        candidates.append(Candidate(fast.key(assigned), "multilevel", assigned))
    if not candidates:
        return None, least
    candidates.sort(key=lambda each: each.key)
    values: dict[str, float] = {}
    for key, name, _ in candidates:
        if not key[0]:
            values.setdefault(name, key[1])
    best = candidates[0]
    if budget.left and (best.key[0] or best.key[1] > least * (1 + PROVED)):
        result = search(tables, policy, starts(candidates), budget, seed)
        key = fast.key(result.assigned)
        least = max(least, result.bound)
        if key < best.key:
            best = Candidate(key, "search", result.assigned)
    return _Found(best, values), least


def tried(fast: Fast, hint: Placement | None, budget: Budget) -> list[Candidate]:
    """The portfolio, judged, the best first."""
    found = []
    for name, assigned in portfolio(fast.tables, hint, fast.policy, few=fast.tables.n > LARGE):
        key = fast.key(assigned)
        budget.spend()
        if key[2] < math.inf:
            found.append(Candidate(key, name, assigned))
    return sorted(found, key=lambda each: each.key)


def starts(candidates: list[Candidate]) -> list[Assigned]:
    """The best few that differ in what they are worth."""
    found: dict[Key, Assigned] = {}
    for key, _, assigned in candidates:
        found.setdefault(key, assigned)
    return list(found.values())[:STARTS]


def _inner(tables: Tables, policy: str, budget: Budget, seed: int) -> Assigned:
    """The search among clusters."""
    candidates = tried(Fast(tables, policy), None, budget)
    return search(tables, policy, starts(candidates), budget, seed, exact=False).assigned
