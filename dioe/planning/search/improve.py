"""``improve``: the search that suits a problem and a policy."""

from __future__ import annotations

import random

from dioe.planning.assigned import Assigned
from dioe.planning.bounds import bound
from dioe.planning.budget import Budget
from dioe.planning.fast import Fast
from dioe.planning.search.late import late_acceptance
from dioe.planning.search.tabu import tabu
from dioe.planning.tables import Tables


def improve(
    tables: Tables, policy: str, start: Assigned, budget: Budget, seed: int = 0
) -> Assigned:
    """An assignment that is no worse than ``start``, by ``Judged.key``, and better if the budget
    is enough to find one. The same for the same seed, where the budget is a work limit."""
    rng = random.Random(seed)
    fast = Fast(tables, policy)
    if fast.plain:
        return tabu(tables, start, budget, rng, least=bound(tables, policy))
    best, key = start, fast.key(start)
    if policy == "latency" and tables.flat and tables.problem.allowed.together is None:
        part = budget.part(0.5)
        found = tabu(tables, start, part, rng, fast.key)
        budget.spend(part.work)
        if fast.key(found) < key:
            best = found
    return late_acceptance(fast, best, budget, rng)[1]
