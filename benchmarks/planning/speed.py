"""How fast: tasks a second of HEFT, and planning again from live costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from benchmarks.planning import instances
from dioe.planning import Problem, Tables, placed, simulate, solve
from dioe.planning.replan import TIME_LIMIT_S, Replanner
from dioe.planning.schedulers import heft

SIZES = (1_000, 10_000, 50_000)
BLOCKS = (50, 200, 500)


def table(sizes: Sequence[int] = SIZES, blocks: Sequence[int] = BLOCKS, count: int = 9) -> str:
    """HEFT on three devices by the number of tasks; planning again by the number of blocks.
    Medians of ``count`` runs."""
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
        "Planning again when the time of every block has changed by up to a fifth, "
        f"{1e3 * TIME_LIMIT_S:g} ms of it to search from the plan so far (`Replanner`):",
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
    replanner = Replanner(problem, solve(problem).placement)
    seconds, ratios = [], []
    for number in range(count):
        costs = _drifted(problem, number)
        begin = time.perf_counter()
        found = replanner.replan(costs)
        seconds.append(time.perf_counter() - begin)
        ratios.append(found.value / found.before)
    yield f"{1e3 * statistics.median(seconds):.1f}"
    yield f"{1e3 * max(seconds):.1f}"
    yield f"{statistics.mean(ratios):.3f}"


def _drifted(problem: Problem, seed: int) -> dict[int, dict[str, float]]:
    """Other times of all blocks, by target."""
    rng = np.random.default_rng((6, seed))
    changed = {}
    for target, costs in enumerate(problem.targets):
        factors = rng.uniform(0.8, 1.2, len(costs.blocks)).tolist()
        rows = zip(costs.blocks.items(), factors, strict=True)
        changed[target] = {name: cost.ms * factor for (name, cost), factor in rows}
    return changed


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
