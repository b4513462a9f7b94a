"""Exact answers inside a search: the whole problem where it is small, else windows of the order.

A window is a run of the order whose blocks get new places and machines, the best there are, while
all others keep theirs (large neighbourhood search: P. Shaw, "Using constraint programming and local
search methods to solve vehicle routing problems", CP 1998).
"""

from __future__ import annotations

import random

from dioe.planning import cpsat
from dioe.planning.assigned import Assigned
from dioe.planning.budget import Budget
from dioe.planning.exactly import Part, whole, window
from dioe.planning.fast import Fast
from dioe.planning.search.lanes import Lanes

WORTH = 1e-6
"""The share of the latency that a window has to gain."""

SIZES = (12, 60)
"""Blocks of a window: the fewest and the most; between them as many as are solved in time."""

_WINDOW_S, _WINDOW_WORK = 0.25, 300
"""What a window may take: seconds, or as many placements as are judged in that time."""

_MODEL_WORK = 20
"""What it takes to write a window down for CP-SAT, in placements."""


def prove(
    fast: Fast, best: Assigned, least: float, budget: Budget, seed: int
) -> tuple[Assigned, float]:
    """The best assignment of a small problem, and the bound: what it takes, if there was time."""
    tables = fast.tables
    lanes = Lanes(tables, best)
    part = whole(tables)
    now = fast.key(best)[1]
    start = [end - ms for end, ms in zip(lanes.finish, lanes.p, strict=True)]
    solved = cpsat.solve_part(
        tables,
        part,
        now,
        hint=(lanes.device, start),
        time_limit_s=budget.left_s,
        deterministic_limit=_deterministic(budget.left_work),
        seed=seed,
    )
    budget.spend(int(solved.work / cpsat.PER_WORK))
    least = max(least, solved.bound_ms)
    if solved.machines is not None:
        found = _spliced(lanes, part, (0, tables.n), solved)
        if fast.key(found)[1] < now:
            best = found
    return best, least


def reopen_windows(fast: Fast, best: Assigned, budget: Budget, rng: random.Random) -> Assigned:
    """Windows anywhere, smaller where they take too long and larger where they don't."""
    lanes = Lanes(fast.tables, best)
    now = lanes.latency()
    size, count = 24, fast.tables.n
    while budget.left:
        first = rng.randrange(-size // 2, max(1, count - size // 2))
        first, last = max(0, first), min(count, first + size)
        part = window(lanes, first, last)
        budget.spend(_MODEL_WORK)
        if part.rest_ms >= now * (1 - WORTH):
            continue
        left = budget.left_s
        solved = cpsat.solve_part(
            fast.tables,
            part,
            now * (1 - WORTH),
            time_limit_s=None if left is None else min(left, _WINDOW_S),
            deterministic_limit=_deterministic(budget.left_work, _WINDOW_WORK),
            seed=rng.randrange(1000),
        )
        budget.spend(int(solved.work / cpsat.PER_WORK))
        if solved.machines is not None:
            lanes.load(_spliced(lanes, part, (first, last), solved))
            now = lanes.latency()
        if solved.proved:
            size = min(SIZES[1], size + 1)
        elif solved.machines is None:
            size = max(SIZES[0], size * 3 // 4)
    return min(best, lanes.assigned(), key=fast.key)


def _deterministic(work: int | None, most: int | None = None) -> float | None:
    """The limit in CP-SAT's own measure that stands for a number of placements."""
    if work is None:
        return None
    return max(1, work if most is None else min(work, most)) * cpsat.PER_WORK


def _spliced(lanes: Lanes, part: Part, places: tuple[int, int], solved: cpsat.Solved) -> Assigned:
    """The assignment with these places of the order as they were solved."""
    assert solved.machines is not None
    first, last = places
    targets = [row[d] for row, d in zip(lanes.fastest, lanes.device, strict=True)]
    count = range(len(part.blocks))
    for k in count:
        targets[part.blocks[k]] = part.target[k][solved.machines[k]]
    # the order of the part is topological, so what starts at one instant keeps it
    inner = [part.blocks[k] for k in sorted(count, key=solved.start.__getitem__)]
    return Assigned(targets, [*lanes.order[:first], *inner, *lanes.order[last:]])
