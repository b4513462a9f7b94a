"""m-ETF and min-min: the next block is chosen among all that are ready."""

from __future__ import annotations

import math

from hypothesis import given

from dioe.planning import Problem, Tables, task_problem
from dioe.planning.schedulers.greedy import Cost, without_gaps
from dioe.planning.schedulers.metf import metf, metf_times
from dioe.planning.schedulers.min_min import min_min_times
from dioe.planning.schedulers.ranks import upward
from dioe.planning.schedulers.timetable import Timetable
from tests.unit.planning.schedulers.test_registry import machines


def all_pairs(timetable: Timetable, cost: Cost) -> bool:
    """What least_first does, with a look at every block and target in every step."""
    tables = timetable.tables
    left = set(range(tables.n))
    while left:
        found = []
        for i in left:
            if any(p in left for p, _ in tables.preds[i]):
                continue
            ends = timetable.ends(i)
            if min(ends) == math.inf:
                return False
            found += [
                (cost(timetable.starts[t], i, t), i, t)
                for t, end in enumerate(ends)
                if end < math.inf
            ]
        _, i, t = min(found)
        timetable.ends(i)
        timetable.place(i, t)
        left.remove(i)
    return True


@given(machines(memory=True))
def test_metf_starts_first_what_can_start_first(problem: Problem) -> None:
    tables = Tables(problem)
    expected, found = without_gaps(tables), metf_times(tables)
    rank = upward(tables, expected.edges)
    if all_pairs(expected, lambda start, i, t: (start, -rank[i], tables.ms[i][t])):
        assert found is not None
        assert (found.targets, found.start) == (expected.targets, expected.start)
    else:
        assert found is None


@given(machines(memory=True))
def test_min_min_ends_first_what_can_end_first(problem: Problem) -> None:
    tables = Tables(problem)
    expected, found = without_gaps(tables), min_min_times(tables)
    home = expected.edges.results
    zero = [0.0] * tables.m
    if all_pairs(expected, lambda at, i, t: (at + tables.ms[i][t] + home.get(i, zero)[t],)):
        assert found is not None
        assert (found.targets, found.start) == (expected.targets, expected.start)
    else:
        assert found is None


def test_metf_takes_the_first_start_and_not_the_first_end() -> None:
    found = metf(Tables(task_problem([[1.0, 9.0], [1.0, 9.0]])))
    assert found is not None
    assert found.targets == [0, 1]
