"""Lanes with gaps, and memories."""

from __future__ import annotations

import copy
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Problem, Tables, task_problem
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.timetable import Timetable
from tests.unit.planning.schedulers.test_registry import machines


def earliest(timetable: Timetable, i: int, t: int) -> float:
    """The earliest start of block i on a device with one lane, from the other blocks' times."""
    tables = timetable.tables
    ready, ms = timetable.ready[t], tables.ms[i][t]
    taken = [
        (timetable.start[j], timetable.finish[j])
        for j, u in enumerate(timetable.targets)
        if u >= 0 and tables.device_of[u] == tables.device_of[t]
    ]
    starts = [ready, *(end for _, end in taken if end > ready)]
    return min(at for at in starts if all(end <= at or at + ms <= start for start, end in taken))


@given(machines(), st.integers(0, 2**32))
def test_a_block_starts_as_early_as_any_lane_allows(problem: Problem, seed: int) -> None:
    tables = Tables(problem)
    timetable = Timetable(tables, EdgeCosts(tables))
    choice = random.Random(seed)
    order = list(range(tables.n))
    if not any(tables.preds):
        choice.shuffle(order)
    for i in order:
        ends = timetable.ends(i)
        for t, end in enumerate(ends):
            if end == math.inf:
                continue
            lanes = tables.lanes[tables.device_of[t]]
            if not lanes:
                assert timetable.starts[t] == timetable.ready[t]
            elif lanes == 1 and tables.ms[i][t] > 0:  # without time it fits into no gap of its own
                assert timetable.starts[t] == earliest(timetable, i, t)
            else:
                assert timetable.starts[t] >= timetable.ready[t]
        timetable.place(i, choice.choice([t for t, end in enumerate(ends) if end < math.inf]))


@given(machines(memory=True), st.integers(0, 2**32))
def test_undo_leaves_no_trace(problem: Problem, seed: int) -> None:
    tables = Tables(problem)
    timetable = Timetable(tables, EdgeCosts(tables))
    choice = random.Random(seed)
    done = []
    for i in range(tables.n):
        before = copy.deepcopy([timetable.ends(j) for j in range(i, tables.n)])
        tried = []
        for j in range(i, min(i + 3, tables.n)):
            ends = timetable.ends(j)
            able = [t for t, end in enumerate(ends) if end < math.inf]
            if able:
                tried.append(timetable.place(j, choice.choice(able)))
        for what in reversed(tried):
            timetable.undo(what)
        assert [timetable.ends(j) for j in range(i, tables.n)] == before
        if not timetable.place_best(i, timetable.ends(i)):
            return
        done.append(i)
    assert done == list(range(tables.n))


def test_a_gap_is_filled() -> None:
    problem = task_problem([[1.0], [2.0], [3.0], [1.0]], [])
    tables = Tables(problem)
    timetable = Timetable(tables, EdgeCosts(tables))
    timetable.ends(0)
    timetable.starts[0] = 5.0  # as if what it reads came late
    timetable.place(0, 0)
    assert timetable.ends(2) == [3.0]
    timetable.place(2, 0)
    assert timetable.ends(1) == [5.0]
    timetable.place(1, 0)
    assert timetable.ends(3) == [7.0]


@pytest.mark.parametrize(("lanes", "ends"), [(1, 3.0), (2, 2.0), (None, 2.0)])
def test_lanes(lanes: int | None, ends: float) -> None:
    tables = Tables(task_problem([[1.0], [2.0]], lanes=[lanes]))
    timetable = Timetable(tables, EdgeCosts(tables))
    timetable.ends(0)
    timetable.place(0, 0)
    assert timetable.ends(1) == [ends]
