"""Dynamic programming against every assignment there is."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Assigned, Line, Problem, Tables, placed, simulate, task_problem
from dioe.planning.schedulers.series_parallel import series_parallel

DIAMOND = [(0, 1), (0, 2), (1, 3), (2, 3)]
NESTED = [(0, 1), (0, 2), (1, 3), (1, 4), (3, 5), (4, 5), (2, 5)]
BRANCHES = [(0, 1), (2, 3)]
"""Two starts and two ends."""
TREE = [(0, 1), (0, 2), (2, 3), (2, 4)]
SKIP = [(0, 1), (1, 2), (0, 2), (2, 3)]
NO_SERIES = [(0, 2), (0, 3), (1, 3), (1, 2), (2, 4), (3, 4)]
BRIDGE = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]


@st.composite
def problems(draw: st.DrawFn, edges: list[tuple[int, int]], lanes: int | None) -> Problem:
    count = max(b for _, b in edges) + 1
    devices = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ms = rng.uniform(0.5, 3.0, (count, devices))
    if draw(st.booleans()):
        ms[rng.random((count, devices)) < 0.2] = math.inf
        ms[:, 0] = rng.uniform(0.5, 3.0, count)
    return task_problem(
        ms,
        [(a, b, int(rng.integers(1, 100))) for a, b in edges],
        ms_per_byte=draw(st.sampled_from([0.0, 1e-2, 1e-1])),
        latency_ms=draw(st.sampled_from([0.0, 0.5])),
        lanes=[lanes] * devices,
    )


def best_ms(tables: Tables) -> float:
    able = [[t for t in range(tables.m) if tables.ms[i][t] < math.inf] for i in range(tables.n)]
    return min(
        simulate(
            tables.problem, placed(tables, Assigned(list(targets), list(range(tables.n))))
        ).total_ms
        for targets in itertools.product(*able)
    )


def total_ms(tables: Tables, assigned: Assigned | None) -> float:
    assert assigned is not None
    return simulate(tables.problem, placed(tables, assigned)).total_ms


@given(problems([(0, 1), (1, 2), (2, 3), (3, 4)], 1))
def test_chains(problem: Problem) -> None:
    tables = Tables(problem)
    assert total_ms(tables, series_parallel(tables)) == pytest.approx(best_ms(tables))


@given(
    st.sampled_from([DIAMOND, NESTED, BRANCHES, TREE, SKIP]).flatmap(lambda e: problems(e, None))
)
def test_branches_on_unbounded_lanes(problem: Problem) -> None:
    tables = Tables(problem)
    assert total_ms(tables, series_parallel(tables)) == pytest.approx(best_ms(tables))


@given(problems([(0, 1), (1, 2), (2, 3)], 1), st.floats(0.1, 2.0), st.floats(0.0, 0.02))
def test_chains_of_stages_that_cost(problem: Problem, dispatch: float, per_byte: float) -> None:
    line = Line(0.1, per_byte)
    problem = replace(
        problem,
        targets=tuple(
            replace(costs, dispatch_ms=dispatch * (i + 1), entry=line, exit=line)
            for i, costs in enumerate(problem.targets)
        ),
    )
    tables = Tables(problem)
    assert total_ms(tables, series_parallel(tables)) == pytest.approx(best_ms(tables))


@pytest.mark.parametrize("edges", [NO_SERIES, BRIDGE])
def test_other_graphs(edges: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(1)
    count = max(b for _, b in edges) + 1
    tables = Tables(task_problem(rng.uniform(0.5, 3.0, (count, 2)), edges))
    assert series_parallel(tables) is None


def test_memory_and_groups() -> None:
    edges = [(0, 1), (1, 2)]
    ms = [[1.0, 5.0]] * 3
    assert (
        series_parallel(
            Tables(task_problem(ms, edges, weight_bytes=[5, 5, 5], memory_bytes=[10, 10]))
        )
        is None
    )
    assert series_parallel(Tables(task_problem(ms, edges, groups={0: "a", 2: "a"}))) is None
    assert series_parallel(Tables(task_problem(ms, edges))) is not None


def test_long_chains() -> None:
    rng = np.random.default_rng(2)
    ms = rng.uniform(0.5, 3.0, (3000, 3))
    tables = Tables(task_problem(ms, [(i, i + 1, 10) for i in range(2999)], ms_per_byte=1e-2))
    found = series_parallel(tables)
    alone = ms.sum(axis=0).min()
    assert total_ms(tables, found) < alone
