"""Problems of thousands of blocks: still no worse than a device by itself."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from dioe.planning import Line, Problem, Tables, judged, placed, solve, task_problem, violations
from dioe.planning.portfolio import single_devices
from dioe.planning.solve import LARGE


def layered(count: int) -> Problem:
    rng = np.random.default_rng(11)
    wide = 40
    edges = [
        (int(j), i, int(rng.integers(1, 500)))
        for i in range(wide, count)
        for j in set(rng.integers((i // wide - 1) * wide, i // wide * wide, 2).tolist())
    ]
    ms = rng.uniform(0.5, 2.0, (count, 3))
    return task_problem(ms, edges, ms_per_byte=2e-3, latency_ms=0.01, queue="")


def on_one_lane(problem: Problem) -> Problem:
    """The same for a caller with one lane, where stages cost."""
    return replace(
        problem,
        devices=(),
        links=(),
        targets=tuple(
            replace(costs, dispatch_ms=0.5, entry=Line(0.01), exit=Line(0.01))
            for costs in problem.targets
        ),
    )


@pytest.mark.parametrize("policy", ["latency", "throughput", "memory"])
@pytest.mark.parametrize("lanes", [True, False])
def test_no_worse_than_a_device(policy: str, lanes: bool) -> None:
    problem = layered(LARGE + 100)
    if not lanes:
        problem = on_one_lane(problem)
    collecting = gc.isenabled()
    schedule = solve(problem, policy)
    assert gc.isenabled() == collecting
    assert violations(problem, schedule) == ()
    tables = Tables(problem)
    alone = [
        judged(problem, placed(tables, each), policy).value for _, each in single_devices(tables)
    ]
    assert schedule.value <= min(alone) * (1 + 1e-9)


def test_the_same_answer_twice() -> None:
    problem = layered(LARGE + 50)
    first, second = (solve(problem, seed=3) for _ in range(2))
    assert first.placement == second.placement
