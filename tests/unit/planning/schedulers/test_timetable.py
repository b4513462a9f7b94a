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
    """The earliest start of block i on a target, from the other blocks' times alone."""
    tables = timetable.tables
    device, ready, ms = tables.device_of[t], timetable.ready[t], tables.ms[i][t]
    taken = [
        (timetable.start[j], timetable.finish[j])
        for j, u in enumerate(timetable.targets)
        if u >= 0 and tables.device_of[u] == device and timetable.finish[j] > timetable.start[j]
    ]
    starts = sorted([ready, *(end for _, end in taken if end > ready)])
    for at in starts:
        inside = [(s, e) for s, e in taken if s < at + ms and at < e]
        events = sorted({at, *(s for s, _ in inside if s > at)})
        if all(sum(s <= x < e for s, e in inside) < tables.lanes[device] for x in events):
            return at
    raise AssertionError("behind all blocks there is always room")


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
            if not tables.lanes[tables.device_of[t]]:
                assert timetable.starts[t] == timetable.ready[t]
            elif tables.lanes[tables.device_of[t]] == 1 and tables.ms[i][t] > 0:
                assert timetable.starts[t] == earliest(timetable, i, t)
            else:  # which lane a block is on may matter to later ones
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
