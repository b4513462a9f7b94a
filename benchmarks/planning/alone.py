"""The planner without its exact solver: the portfolio, and the search from the best of it."""

from __future__ import annotations

from dioe.planning import Assigned, Budget, Problem, Tables, assigned_of, judged, placed
from dioe.planning.portfolio import portfolio
from dioe.planning.search import improve


def search_alone(
    problem: Problem,
    policy: str = "latency",
    *,
    time_limit_s: float | None = None,
    work_limit: int | None = None,
    seed: int = 0,
) -> float:
    """The value that is found."""
    tables = Tables(problem)
    budget = Budget(time_limit_s, work_limit)
    keys = {}
    for number, (_, placement) in enumerate(portfolio(tables)):
        keys[judged(problem, placement, policy).key, number] = placement
    best = min(keys)
    start: Assigned = assigned_of(tables, keys[best])
    found = placed(tables, improve(tables, policy, start, budget, seed))
    return min(best[0], judged(problem, found, policy).key)[1]
