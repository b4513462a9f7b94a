"""Tabu search over sequences on lanes, for latency.

Each step moves one block of a longest path to the place where the longest path through it is
shortest, and doesn't move it back for a while; with no progress for long it goes on from the best
so far, shaken (Mastrolilli and Gambardella 2000, as in ``lanes``).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dioe.planning.budget import Budget
from dioe.planning.fast import Key
from dioe.planning.search.lanes import Lanes, Sequences

MOST_BLOCKS = 4
"""Blocks of longest paths that a step looks at: of 1 to 100, the best on random problems of 60 to
200 blocks within half a second (fewer choose badly, more are slow)."""

SLACK = 0.01
"""By how much the longest path may be above that of the best so far for its score to be worth a
look."""

Score = Callable[[Lanes], Key]


def tabu(
    lanes: Lanes,
    budget: Budget,
    rng: random.Random,
    score: Score | None = None,
    *,
    least: float = 0.0,
) -> bool:
    """Make ``lanes`` shorter; False, and as before, if nothing better is found.

    ``score`` judges what the longest path doesn't show (waiting transfers, memory), less is better;
    ``least`` is a bound at which nothing is left to find.
    """
    now = best_ms = lanes.latency()
    best: Sequences | None = None
    first = lanes.state()
    best_key = None if score is None else score(lanes)
    patience = 100 + 4 * lanes.count
    slack = -1e-12 if score is None else SLACK
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
        v = chosen.block
        left = lanes.device[v] if lanes.lane[v] < 0 else ~lanes.lane[v]
        if lanes.apply(chosen):
            now = lanes.latency()
        until[v, left] = step + 6 + rng.randrange(6 + len(blocks))
        since += 1
        if now < best_ms * (1 + slack):
            key = None if score is None else score(lanes)
            if key is None or best_key is None or key < best_key:
                best, best_ms, best_key, since = lanes.state(), now, key, 0
        if since > patience:
            since = 0
            until.clear()
            lanes.load(*(best or first))
            shake(lanes, rng, 3 + rng.randrange(max(1, lanes.count // 10)))
            now = lanes.latency()
    lanes.load(*(best or first))
    return best is not None


def shake(lanes: Lanes, rng: random.Random, count: int) -> None:
    """Some moves of blocks, critical or not, to good places somewhere."""
    for _ in range(count):
        moves = lanes.moves([rng.randrange(lanes.count)])
        if moves:
            lanes.apply(rng.choice(moves))
