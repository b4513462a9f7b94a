"""Late acceptance hill climbing: for every policy, with any limits.

A change is taken if it is no worse than now or than what there was some steps ago (E. K. Burke and
Y. Bykov, "The late acceptance hill-climbing heuristic", European Journal of Operational Research
258, 2017). It has one parameter and no temperature, so it works alike on ms, joules and bytes.
"""

from __future__ import annotations

import random

from dioe.planning.assigned import Assigned
from dioe.planning.budget import Budget
from dioe.planning.fast import Fast, Key
from dioe.planning.search.moves import Moves

HISTORY = 60
"""Steps that a worse score is remembered for."""


def late_acceptance(
    fast: Fast, start: Assigned, budget: Budget, rng: random.Random, *, history: int = HISTORY
) -> tuple[Key, Assigned]:
    """The best assignment found from ``start``, with its key; ``start`` if none is better."""
    moves = Moves(fast.tables, rng)
    now, key = start, fast.key(start)
    best, best_key = now, key
    past = [key] * history
    step = since = 0
    patience = 40 * history + 20 * fast.tables.n
    while budget.left:
        budget.spend()
        step += 1
        since += 1
        changed = moves.any(now)
        if changed is None:
            continue
        found = fast.key(changed)
        slot = step % history
        if found <= key or found <= past[slot]:
            now, key = changed, found
        past[slot] = min(past[slot], key)
        if key < best_key:
            best, best_key, since = now, key, 0
        elif since > patience:
            now, key, since = best, best_key, 0
            for _ in range(3):
                now = moves.any(now) or now
            key = fast.key(now)
            past = [max(key, best_key)] * history
    return best_key, best
