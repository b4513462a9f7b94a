"""Windows of the order, each made as short as it can be while the rest stays as it is.

Large neighbourhood search (P. Shaw, "Using constraint programming and local search methods to solve
vehicle routing problems", CP 1998): exactly, with CP-SAT, where that is installed; or by tabu
search in one window after the other, for orders that are too long to be searched at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from dioe.planning import cpsat
from dioe.planning.budget import Budget
from dioe.planning.search.lanes import Lanes
from dioe.planning.search.tabu import tabu
from dioe.planning.search.window import window

WORTH = 1e-6
"""The share of the latency that a window has to gain."""

SIZES = (12, 60)
"""Blocks of an exact window: the fewest and the most; between them as many as it has time for."""

_WINDOW_S, _WINDOW_WORK = 0.25, 300
"""What a window may take: seconds, or as many placements as are judged in that time."""

SWEPT = 50
"""Blocks of a window that tabu search has for itself."""

_MODEL_WORK = 20
"""What it takes to write a window down for CP-SAT, in placements."""


def prove(lanes: Lanes, budget: Budget, seed: int) -> float:
    """Make a small shop as short as it can be; what it can't be below, if there was time."""
    start = [end - ms for end, ms in zip(lanes.finish, lanes.p, strict=False)]
    solved = cpsat.solve_shop(
        lanes.shop,
        lanes.latency(),
        hint=(lanes.device, start),
        time_limit_s=budget.left_s,
        deterministic_limit=_deterministic(budget.left_work),
        seed=seed,
    )
    budget.spend(int(solved.work / cpsat.PER_WORK))
    if solved.device is not None:
        order = list(lanes.order)
        devices, begins = [solved.device[i] for i in order], [solved.start[i] for i in order]
        _take(lanes, (0, lanes.count), devices, begins)
    return solved.bound_ms


def exact_windows(lanes: Lanes, room: Sequence[float], budget: Budget, rng: random.Random) -> None:
    """Windows anywhere, smaller where they take too long and larger where they don't."""
    now = lanes.latency()
    size, count = 24, lanes.count
    while budget.left:
        budget.spend(_MODEL_WORK)
        first = rng.randrange(-size // 2, max(1, count - size // 2))
        first, last = max(0, first), min(count, first + size)
        inner = window(lanes, first, last, room, rest=True)
        if inner.rest_ms >= now * (1 - WORTH):
            continue
        left = budget.left_s
        solved = cpsat.solve_shop(
            inner,
            now * (1 - WORTH),
            time_limit_s=None if left is None else min(left, _WINDOW_S),
            deterministic_limit=_deterministic(budget.left_work, _WINDOW_WORK),
            seed=rng.randrange(1000),
        )
        budget.spend(int(solved.work / cpsat.PER_WORK))
        if solved.device is not None:
            _take(lanes, (first, last), solved.device, solved.start)
            now = lanes.latency()
        if solved.proved:
            size = min(SIZES[1], size + 1)
        elif solved.device is None:
            size = max(SIZES[0], size * 3 // 4)


def _take(
    lanes: Lanes, places: tuple[int, int], devices: Sequence[int], start: Sequence[float]
) -> None:
    """Change these places of the order to what was found for them, if it is shorter."""
    was, now = lanes.state(), lanes.latency()
    first, last = places
    inner = lanes.order[first:last]
    device = list(lanes.device)
    for i, d in zip(inner, devices, strict=True):
        device[i] = d
    # the window is in a topological order, so what starts at one instant keeps it
    inner = [inner[k] for k in sorted(range(len(inner)), key=start.__getitem__)]
    lanes.load(device, [*lanes.order[:first], *inner, *lanes.order[last:]])
    if lanes.latency() > now:
        lanes.load(*was)


def _deterministic(work: int | None, most: int | None = None) -> float | None:
    """The limit in CP-SAT's own measure that stands for a number of placements."""
    if work is None:
        return None
    return max(1, work if most is None else min(work, most)) * cpsat.PER_WORK


def sweep(lanes: Lanes, budget: Budget, rng: random.Random, steps: int) -> None:
    """Tabu search of ``steps`` in one window after the other, from the start of the order to its
    end; each takes about the same time, however long the order is."""
    first = 0
    while first < lanes.count and budget.left:
        last = min(lanes.count, first + SWEPT)
        chosen = lanes.order[first:last]
        part = Lanes(
            window(lanes, first, last, lanes.shop.room, rest=False),
            [lanes.device[i] for i in chosen],
            range(last - first),
        )
        part.load(part.device, part.order, [lanes.lane[i] for i in chosen])
        own = Budget(budget.left_s, steps)
        tabu(part, own, rng)
        lanes.replace(first, last, part.state())  # the heads before the next window, too
        budget.spend(max(1, own.work * SWEPT // lanes.count))  # as steps among all blocks
        first += SWEPT // 2
    lanes.settle()


def sweep_all(lanes: Lanes, budget: Budget, rng: random.Random) -> None:
    """Sweeps, with ever more steps a window, until they gain nothing any more."""
    steps, now = 20, lanes.latency()
    while budget.left and steps <= 160:
        sweep(lanes, budget, rng, steps)
        was, now = now, lanes.latency()
        if now > was * (1 - 1e-3):
            steps *= 2
