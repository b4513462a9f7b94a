"""Tabu search over sequences on lanes, for latency.

Each step moves one block of a longest path to the place where the longest path through it is
shortest, and doesn't move it back for a while; with no progress for long it goes on from the best
so far, shaken (Mastrolilli and Gambardella 2000, as in ``lanes``).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dioe.planning.assigned import Assigned
from dioe.planning.budget import Budget
from dioe.planning.fast import Key
from dioe.planning.search.lanes import Lanes
from dioe.planning.tables import Tables

MOST_BLOCKS = 4
"""Blocks of longest paths that a step looks at: of 1 to 100, the best on random problems of 60 to
200 blocks within half a second (fewer choose badly, more are slow)."""


def tabu(
    tables: Tables,
    start: Assigned,
    budget: Budget,
    rng: random.Random,
    score: Callable[[Assigned], Key] | None = None,
    *,
    least: float = 0.0,
    patience: int | None = None,
) -> Assigned:
    """The best assignment that is found from ``start``; ``start`` itself if none is better.

    ``score`` judges what the longest path doesn't show (waiting transfers, memory), less is better;
    ``least`` is a bound at which nothing is left to find.
    """
    lanes = Lanes(tables, start)
    now = lanes.latency()
    best_ms, best_score = now, None if score is None else score(start)
    best = start
    stopped = patience or 100 + 4 * tables.n
    until: dict[tuple[int, int], int] = {}
    step = since = 0
    while budget.left and best_ms > least * (1 + 1e-9):
        step += 1
        budget.spend()
        blocks = lanes.critical(now)
        if len(blocks) > MOST_BLOCKS:
            blocks = rng.sample(blocks, MOST_BLOCKS)
        moves = lanes.moves(blocks)
        if not moves:
            break
        free = [
            m
            for m in moves
            if until.get((m.block, m.device if m.lane < 0 else ~m.lane), 0) < step
            or m.ms < best_ms - 1e-9
        ]
        chosen = min(free or moves, key=lambda m: (m.ms, rng.random()))
        left = (
            lanes.device[chosen.block]
            if lanes.lane[chosen.block] < 0
            else ~lanes.lane[chosen.block]
        )
        if lanes.apply(chosen):
            now = lanes.latency()
        until[chosen.block, left] = step + 6 + rng.randrange(6 + len(blocks))
        if now < best_ms * (1 - 1e-12):
            found = lanes.assigned()
            if score is None:
                best, best_ms, since = found, now, 0
            else:
                judged = score(found)
                if best_score is None or judged < best_score:
                    best, best_ms, best_score, since = found, now, judged, 0
        since += 1
        if since > stopped:
            since = 0
            until.clear()
            lanes.load(best)
            shake(lanes, rng, 3 + rng.randrange(max(1, tables.n // 10)))
            now = lanes.latency()
    return best


def shake(lanes: Lanes, rng: random.Random, count: int) -> None:
    """Some moves of blocks, critical or not, to good places somewhere."""
    n = lanes.tables.n
    for _ in range(count):
        moves = lanes.moves([rng.randrange(n)])
        if moves:
            lanes.apply(rng.choice(moves))
