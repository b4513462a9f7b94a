"""Contiguous splits against all there are."""

from __future__ import annotations

import importlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Assigned, Line, Problem, Tables, judged, placed, simulate, task_problem
from dioe.planning.schedulers.contiguous import contiguous
from dioe.planning.schedulers.segment_loads import SegmentLoads


@st.composite
def chains(draw: st.DrawFn, most: int = 6) -> Problem:
    count, devices = draw(st.integers(2, most)), draw(st.integers(2, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    alike = draw(st.booleans())
    ms = rng.uniform(0.5, 3.0, (count, 1 if alike else devices)) * np.ones((1, devices))
    return task_problem(
        ms,
        [(i, i + 1, int(rng.integers(1, 200))) for i in range(count - 1)],
        ms_per_byte=draw(st.sampled_from([0.0, 1e-3, 2e-2])),
        queue="",
        weight_bytes=rng.integers(1, 20, count).tolist(),
        memory_bytes=draw(st.sampled_from([None, [40] * devices])),
        lanes=draw(st.sampled_from([None, [2] * devices])),
    )


def splits(tables: Tables) -> list[Assigned]:
    """Every contiguous split of a chain, each device once at the most."""
    found = []
    for targets in itertools.product(range(tables.m), repeat=tables.n):
        runs = [t for t, _ in itertools.groupby(targets)]
        if len(set(runs)) == len(runs) and all(
            tables.ms[i][t] < math.inf for i, t in enumerate(targets)
        ):
            found.append(Assigned(list(targets), list(range(tables.n))))
    return found


def weights_fit(tables: Tables, assigned: Assigned) -> bool:
    held = [0.0] * len(tables.devices)
    for i, t in enumerate(assigned.targets):
        held[tables.device_of[t]] += tables.weights[i][t]
    return all(a <= b for a, b in zip(held, tables.memory, strict=True))


@given(chains())
def test_the_best_split_of_a_chain(problem: Problem) -> None:
    tables = Tables(problem)
    found = contiguous(tables)
    able = [each for each in splits(tables) if weights_fit(tables, each)]
    assert (found is None) == (not able)
    if found is None:
        return
    assert weights_fit(tables, found)

    def period(assigned: Assigned) -> float:
        return simulate(problem, placed(tables, assigned)).period_ms

    assert period(found) == pytest.approx(min(map(period, able)))


@given(chains(most=5), st.floats(0.1, 2.0), st.floats(0.0, 0.02))
def test_stages_that_cost(problem: Problem, dispatch: float, per_byte: float) -> None:
    """With a price of stages, entries and exits the split is still the best one."""
    line = Line(0.1, per_byte)
    problem = replace(
        problem,
        targets=tuple(
            replace(costs, dispatch_ms=dispatch * (i + 1), entry=line, exit=line)
            for i, costs in enumerate(problem.targets)
        ),
    )
    tables = Tables(problem)
    found = contiguous(tables)
    able = [each for each in splits(tables) if weights_fit(tables, each)]
    if found is None:
        assert not able
        return
    best = min(simulate(problem, placed(tables, each)).period_ms for each in able)
    assert simulate(problem, placed(tables, found)).period_ms == pytest.approx(best)


def test_one_device_after_another_where_kinds_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    problem = task_problem(
        rng.uniform(0.5, 3.0, (12, 4)), [(i, i + 1, 10) for i in range(11)], ms_per_byte=1e-3
    )
    tables = Tables(problem)
    exact = contiguous(tables)
    module = importlib.import_module("dioe.planning.schedulers.contiguous")
    monkeypatch.setattr(module, "MOST_STATES", 1)
    swapped = contiguous(tables)
    assert exact is not None
    assert swapped is not None
    values = [judged(problem, placed(tables, a), "throughput").value for a in (exact, swapped)]
    assert values[0] <= values[1] * (1 + 1e-9) <= values[0] * 1.1


def test_groups_are_never_cut() -> None:
    rng = np.random.default_rng(4)
    problem = task_problem(
        rng.uniform(0.5, 3.0, (10, 3)),
        [(i, i + 1, 10) for i in range(9)],
        groups={2: "a", 5: "a", 7: "b", 8: "b"},
    )
    found = contiguous(Tables(problem))
    assert found is not None
    assert len(set(found.targets[2:6])) == 1
    assert found.targets[7] == found.targets[8]


def test_cuts_of_long_chains_are_few_and_even() -> None:
    rng = np.random.default_rng(6)
    ms = rng.uniform(0.5, 1.5, (5000, 3))
    tables = Tables(task_problem(ms, [(i, i + 1, 10) for i in range(4999)], ms_per_byte=1e-4))
    loads = SegmentLoads(tables, range(5000), 100)
    assert len(loads.cuts) <= 102
    assert np.diff(loads.cuts).max() < 150
    found = contiguous(tables)
    assert found is not None
    period = simulate(tables.problem, placed(tables, found)).period_ms
    assert period < 1.02 * ms.mean() * 5000 / 3


def test_one_device_has_no_split() -> None:
    assert contiguous(Tables(task_problem([[1.0], [2.0]], [(0, 1)]))) is None
