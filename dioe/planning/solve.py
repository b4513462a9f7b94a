"""``solve``: the best schedule of a problem that can be found within a budget.

A portfolio of schedulers gives the first answers, every feasible single-device placement among
them; a search then improves the best ones as long as the budget lasts. So no answer is worse than
any scheduler's, nor than a single device. Problems of thousands of blocks are searched as clusters
of blocks first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dioe.planning.assigned import Assigned, placed
from dioe.planning.bounds import assigned_bound, bound
from dioe.planning.budget import Budget
from dioe.planning.canonical import Canonical
from dioe.planning.chain import check_placeable
from dioe.planning.coarsening import multilevel_answers
from dioe.planning.collector import collector_paused
from dioe.planning.fast import NEVER, Fast, Key
from dioe.planning.infeasible import infeasible
from dioe.planning.objective import Judged, judged
from dioe.planning.portfolio import keeps_groups, one_stages, portfolio
from dioe.planning.problem import Problem
from dioe.planning.schedule import Schedule
from dioe.planning.search import search
from dioe.planning.simulator import Placement
from dioe.planning.tables import Tables, stages_are_free

DEFAULT_WORK = 100_000
"""Blocks of all placements together that are judged where no limit is given: some tenths of a
second on one core of the 2020s, up to a thousand blocks."""

LARGE = 1_500
"""Blocks from which on clusters of them are searched first."""

CLUSTER_WORK = 300
"""Placements of clusters that are judged where no limit is given."""

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
            every time, and whatever blocks are called and in which order they stand, where stages
            cost nothing of their own. Without either limit it is ``DEFAULT_WORK`` divided by the
            number of blocks, 20 to 1000; with 0 the answer is the portfolio's best. Of more than
            ``LARGE`` blocks only clusters are searched then.
        hint: A placement to start from as well, such as that of the plan so far; the answer is
            never worse. One that breaks a colocation group isn't looked at.
        seed: Of the random choices of the search.

    Raises:
        InputError: an unknown policy.
        UnsupportedError: a block that no target runs, or limits that no placement found keeps; says
            which one, and by how much. Or a hint that puts a block where it can't run.
    """
    large = len(problem.blocks) > LARGE
    limited = time_limit_s is not None or work_limit is not None
    if not limited:
        work_limit = max(20, min(1000, DEFAULT_WORK // len(problem.blocks)))
        work_limit = CLUSTER_WORK if large else work_limit
    budget = Budget(time_limit_s, work_limit)
    with collector_paused(if_=large):
        if large or not stages_are_free(problem):
            return _solved(problem, policy, budget, hint, seed, deep=limited or not large)
        own = Canonical(problem)
        found = _solved(
            own.problem, policy, budget, None if hint is None else own.here(hint), seed, deep=True
        )
    return replace(found, problem=problem, placement=own.back(found.placement))


def _solved(
    problem: Problem,
    policy: str,
    budget: Budget,
    hint: Placement | None,
    seed: int,
    *,
    deep: bool,
) -> Schedule:
    check_placeable(problem, {})
    tables = Tables(problem)
    if any(min(row) == math.inf for row in tables.ms):
        raise infeasible(tables, ())
    kept = hint if hint is not None and keeps_groups(problem, hint) else None
    hinted = None if kept is None else judged(problem, kept, policy)
    found, least = _search_sets(tables, policy, kept, budget, seed, deep=deep)
    if found is None:
        raise infeasible(tables, ())
    placement, name = placed(tables, found.best.assigned), found.best.name
    value = judged(problem, placement, policy)
    if kept is not None and hinted is not None and hinted.key <= value.key:
        placement, value, name = kept, hinted, "hint"
    for each, alone in one_stages(tables, policy):
        other = judged(problem, alone, policy)
        if not other.over:
            found.tried[each] = other.value
        if other.key < value.key:
            placement, value, name = alone, other, each
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


def _search_sets(
    tables: Tables, policy: str, hint: Placement | None, budget: Budget, seed: int, *, deep: bool
) -> tuple[_Found | None, float]:
    """``_search`` among each set of devices that may be used together, where that is limited."""
    together = tables.problem.allowed.together
    if together is None:
        return _search(Fast(tables, policy), hint, budget, seed, deep=deep)
    best: _Found | None = None
    values: dict[str, float] = {}
    bounds = []
    sets = [tables.only(devices) for devices in together]
    sets = [each for each in sets if all(min(row) < math.inf for row in each.ms)]
    for number, each in enumerate(sets):
        part = budget.part(1 / (len(sets) - number))
        found, least = _search(Fast(each, policy), hint, part, seed, deep=deep)
        budget.spend(part.work)
        bounds.append(least)
        if found is None:
            continue
        for name, value in found.tried.items():
            values[name] = min(value, values.get(name, math.inf))
        if best is None or found.best.key < best.best.key:
            best = found
    return (None if best is None else _Found(best.best, values)), min(bounds, default=0.0)


def _search(
    fast: Fast, hint: Placement | None, budget: Budget, seed: int, *, deep: bool
) -> tuple[_Found | None, float]:
    """The best candidate with the values of the portfolio, and the bound; ``deep`` searches the
    blocks themselves too where clusters of them have been searched."""
    tables, policy = fast.tables, fast.policy
    least = bound(tables, policy)
    candidates = tried(fast, hint, budget)
    if tables.n > LARGE and budget.left:
        part = budget.part(0.5)
        known = min((each.key[1] for each in candidates if not each.key[0]), default=math.inf)
        answers = multilevel_answers(tables, policy, part, seed, _inner, known=known)
        candidates += _judged(fast, (("multilevel", each) for each in answers), candidates)
        budget.spend(part.work)
    if not candidates:
        return None, least
    candidates.sort(key=lambda each: each.key)
    values: dict[str, float] = {}
    for key, name, _ in candidates:
        if not key[0]:
            values.setdefault(name, key[1])
    best = candidates[0]
    if deep and budget.left and (best.key[0] or best.key[1] > least * (1 + PROVED)):
        result = search(tables, policy, starts(candidates), budget, seed)
        key = fast.key(result.assigned)
        least = max(least, result.bound)
        if key < best.key:
            best = Candidate(key, "search", result.assigned)
    return _Found(best, values), least


def tried(fast: Fast, hint: Placement | None, budget: Budget) -> list[Candidate]:
    """The portfolio, judged, the best first. Of thousands of blocks only what can be better than
    those before; what has the least work goes first there."""
    tables, few = fast.tables, fast.tables.n > LARGE
    answers: Iterable[tuple[str, Assigned]] = portfolio(tables, hint, fast.policy, few=few)
    if few:
        answers = sorted(answers, key=lambda each: assigned_bound(tables, fast.policy, each[1]))
    found = _judged(fast, answers, ())
    budget.spend(len(found))
    return sorted(found, key=lambda each: each.key)


def _judged(
    fast: Fast, answers: Iterable[tuple[str, Assigned]], known: Sequence[Candidate]
) -> list[Candidate]:
    found: list[Candidate] = []
    best = min((each.key[:2] for each in known), default=NEVER[:2])
    for name, assigned in answers:
        if fast.tables.n > LARGE and not best[0]:
            least = assigned_bound(fast.tables, fast.policy, assigned)
        else:
            least = -math.inf
        if least >= best[1]:
            continue
        key = fast.key(assigned)
        if key[2] < math.inf:
            found.append(Candidate(key, name, assigned))
            best = min(best, key[:2])
    return found


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
