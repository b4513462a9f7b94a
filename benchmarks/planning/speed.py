"""How fast: tasks a second of HEFT, and planning again from live costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from benchmarks.planning import instances
from dioe.planning import Cost, Placement, Problem, Tables, placed, simulate, solve
from dioe.planning.schedulers import heft

SIZES = (1_000, 10_000, 50_000)
BLOCKS = (50, 200, 500)
BUDGET_S = 0.01


def table(sizes: Sequence[int] = SIZES, blocks: Sequence[int] = BLOCKS, count: int = 9) -> str:
    """HEFT on three devices by the number of tasks; planning again by the number of blocks, with
    the plan so far as a hint and ``BUDGET_S`` to search. Medians of ``count`` runs."""
    rows = [
        "Three devices, layers with up to three edges a task, communication as long as computation "
        "on average. HEFT works on arrays of the problem that all schedulers share:",
        "",
        "| tasks | arrays ms | HEFT ms | HEFT, tasks a second | simulation ms |",
        "|---|---|---|---|---|",
    ]
    for size in sizes:
        rows.append(f"| {size:,} | {' | '.join(_heft(size, count))} |")
    rows += [
        "",
        f"Planning again when the time of every block has changed by up to a fifth, with the plan "
        f"so far as a hint and {1e3 * BUDGET_S:g} ms to search:",
        "",
        "| blocks | ms | slowest ms | latency over that of the plan so far |",
        "|---|---|---|---|",
    ]
    for size in blocks:
        rows.append(f"| {size} | {' | '.join(_again(size, count))} |")
    return "\n".join(rows)


def _heft(size: int, count: int) -> Iterator[str]:
    problem = _layered(size, 3)
    tables = Tables(problem)
    found = heft(tables)
    assert found is not None
    seconds = statistics.median(_times(partial(heft, tables), count))
    yield f"{1e3 * statistics.median(_times(partial(Tables, problem), 3)):.0f}"
    yield f"{1e3 * seconds:.1f}"
    yield f"{size / seconds:,.0f}"
    simulating = _times(partial(simulate, problem, placed(tables, found)), 1)
    yield f"{1e3 * simulating[0]:.0f}"


def _again(size: int, count: int) -> Iterator[str]:
    problem = _layered(size, 3)
    hint = solve(problem).placement
    seconds, ratios = [], []
    for number in range(count):
        changed = _drifted(problem, number)
        begin = time.perf_counter()
        schedule = solve(changed, time_limit_s=BUDGET_S, hint=hint)
        seconds.append(time.perf_counter() - begin)
        ratios.append(schedule.value / _latency(changed, hint))
    yield f"{1e3 * statistics.median(seconds):.1f}"
    yield f"{1e3 * max(seconds):.1f}"
    yield f"{statistics.mean(ratios):.3f}"


def _latency(problem: Problem, placement: Placement) -> float:
    return simulate(problem, placement).total_ms


def _drifted(problem: Problem, seed: int) -> Problem:
    rng = np.random.default_rng((6, seed))
    for target, costs in enumerate(problem.targets):
        factors = rng.uniform(0.8, 1.2, len(costs.blocks))
        pairs = zip(costs.blocks.items(), factors.tolist(), strict=True)
        changed = {name: Cost(cost.ms * factor) for (name, cost), factor in pairs}
        problem = problem.with_costs(target, changed)
    return problem


def _layered(count: int, devices: int) -> Problem:
    rng = np.random.default_rng((5, count))
    ms = instances.heterogeneous_ms(rng, count, devices, 1.0)
    return instances.with_edges(rng, ms, instances.layered(rng, count), 1.0)


def _times(work: Callable[[], object], count: int) -> list[float]:
    found = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found
