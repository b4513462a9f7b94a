"""``search`` and ``improve``: the search that suits a problem and a policy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from dioe.planning import cpsat
from dioe.planning.assigned import Assigned
from dioe.planning.bounds import bound
from dioe.planning.budget import Budget
from dioe.planning.fast import Fast
from dioe.planning.search.lanes import Lanes, assigned_of, lanes_of
from dioe.planning.search.late import late_acceptance
from dioe.planning.search.loads import Loads, balance
from dioe.planning.search.shop import Shop, whole
from dioe.planning.search.tabu import tabu
from dioe.planning.search.windows import exact_windows, prove, sweep_all
from dioe.planning.tables import Tables

SMALL_WORK = 200
"""Placements that are judged of a small problem before CP-SAT takes over."""


QUEUED = (1.0, 2.0, 4.0)
"""How much longer transfers are taken to be where they wait for each other: one after the other,
as nobody knows beforehand."""

SWEPT_FROM = 500
"""Blocks from which on windows are swept, as a step among all of them takes too long."""


class Searched(NamedTuple):
    """An assignment, and what no value can be below as far as the search has shown."""

    assigned: Assigned
    bound: float


def improve(
    tables: Tables, policy: str, start: Assigned, budget: Budget, seed: int = 0
) -> Assigned:
    """An assignment that is no worse than ``start``, by ``Judged.key``, and better if the budget
    is enough to find one. The same for the same seed, where the budget is a work limit."""
    return search(tables, policy, [start], budget, seed).assigned


def search(
    tables: Tables,
    policy: str,
    starts: Sequence[Assigned],
    budget: Budget,
    seed: int = 0,
    *,
    exact: bool = True,
) -> Searched:
    """Search from several assignments, the best first; ``exact`` with CP-SAT where that is
    installed and knows the problem (latency, without stages or queues)."""
    rng = random.Random(seed)
    fast = Fast(tables, policy)
    least = bound(tables, policy)
    if not fast.plain:
        start = starts[0]
        if balances(tables, policy):
            part = budget.part(0.9)
            start = min(start, balanced(tables, start, part, rng, least), key=fast.key)
            budget.spend(part.work)
        return Searched(_general(fast, start, budget, rng), least)
    exact = exact and cpsat.available() and cpsat.worth_loading(budget.left_s)
    small = tables.n <= cpsat.MOST_BLOCKS
    part = budget.part(0.4 if exact else 1.0)
    if exact and small:  # what the search finds soon helps CP-SAT, which then does the rest
        part = budget.part(0.2, most=SMALL_WORK)
    shop = whole(tables)
    lanes = _from_all(shop, tables, starts, part, rng, least)
    budget.spend(part.work)
    if exact and budget.left and lanes.latency() > least * (1 + 1e-9):
        if small:
            least = max(least, prove(lanes, budget, seed))
        else:
            exact_windows(lanes, tables.memory, budget, rng)
    return Searched(min(starts[0], assigned_of(lanes), key=fast.key), least)


def balances(tables: Tables, policy: str) -> bool:
    """Whether only loads count."""
    allowed = tables.problem.allowed
    return (
        policy == "throughput"
        and tables.flat
        and allowed.latency_ms is None
        and allowed.together is None
    )


def balanced(
    tables: Tables, start: Assigned, budget: Budget, rng: random.Random, least: float = 0.0
) -> Assigned:
    """The assignment with the least load of the busiest device or queue that is found."""
    loads = Loads(tables, start)
    return loads.assigned(balance(loads, budget, rng, least), start.order)


def _from_all(
    shop: Shop,
    tables: Tables,
    starts: Sequence[Assigned],
    budget: Budget,
    rng: random.Random,
    least: float,
) -> Lanes:
    """Tabu search from each start for a while, then from the best of what that found."""
    best: Lanes | None = None
    for start in starts:
        lanes = lanes_of(shop, tables, start)
        if len(starts) > 1:
            part = budget.part(0.4 / len(starts))
            if tables.n >= SWEPT_FROM:
                sweep_all(lanes, part, rng)
            tabu(lanes, part, rng, least=least)
            budget.spend(part.work)
        if best is None or lanes.latency() < best.latency():
            best = lanes
    assert best is not None
    if tables.n >= SWEPT_FROM:
        sweep_all(best, budget, rng)
    tabu(best, budget, rng, least=least)
    return best


def _general(fast: Fast, start: Assigned, budget: Budget, rng: random.Random) -> Assigned:
    tables, best, key = fast.tables, start, fast.key(start)
    if fast.policy == "latency" and tables.flat and tables.problem.allowed.together is None:
        factors = QUEUED if tables.queued else (1.0,)
        for number, factor in enumerate(factors):
            part = budget.part(0.4 / (len(factors) - 0.4 * number))
            lanes = lanes_of(whole(tables, slower=factor), tables, best)
            tabu(lanes, part, rng, lambda found: fast.key(assigned_of(found)))
            budget.spend(part.work)
            found = assigned_of(lanes)
            if fast.key(found) < key:
                best, key = found, fast.key(found)
    return late_acceptance(fast, best, budget, rng)[1]
