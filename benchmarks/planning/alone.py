"""The planner without its exact solver: the portfolio, and the search from the best of it."""

from __future__ import annotations

from dioe.planning import Budget, Problem, Tables
from dioe.planning.fast import Fast
from dioe.planning.search import search
from dioe.planning.solve import starts, tried


def search_alone(
    problem: Problem,
    policy: str = "latency",
    *,
    time_limit_s: float | None = None,
    work_limit: int | None = None,
    seed: int = 0,
) -> float:
    """The value that is found."""
    budget = Budget(time_limit_s, work_limit)
    fast = Fast(Tables(problem), policy)
    candidates = tried(fast, None, budget)
    found = search(fast.tables, policy, starts(candidates), budget, seed, exact=False)
    return min(candidates[0].key, fast.key(found.assigned))[1]
