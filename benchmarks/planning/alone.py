"""The planner without its exact solver: the portfolio, and the search from the best of it."""

from __future__ import annotations

from dioe.planning import Budget, Problem, Tables, judged, placed
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
    """The value that is found, as ``solve`` does it where OR-Tools isn't installed."""
    budget = Budget(time_limit_s, work_limit)
    tables = Tables(problem)
    candidates = tried(Fast(tables, policy), None, budget)
    found = search(tables, policy, starts(candidates), budget, seed, exact=False)
    return judged(problem, placed(tables, found.assigned), policy).value
