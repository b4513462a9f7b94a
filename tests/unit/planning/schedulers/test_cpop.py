"""CPOP."""

from __future__ import annotations

import math

from dioe.planning import Tables, placed, simulate, task_problem
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.cpop import cpop, cpop_times, critical_path
from dioe.planning.schedulers.ranks import downward, upward
from tests.unit.planning.schedulers.examples import topcuoglu


def test_critical_path_of_the_paper() -> None:
    tables = Tables(topcuoglu())
    edges = EdgeCosts(tables)
    pairs = zip(upward(tables, edges), downward(tables, edges), strict=True)
    path = critical_path(tables, [up + down for up, down in pairs])
    ids = {tables.problem.blocks[i].id for i in path}
    assert ids == {"t0", "t1", "t8", "t9"}  # n1, n2, n9, n10


def test_schedule_of_the_paper() -> None:
    tables = Tables(topcuoglu())
    times, found = cpop_times(tables), cpop(tables)
    assert times is not None
    assert found is not None
    assert times.total_ms == 86
    assert simulate(tables.problem, placed(tables, found)).total_ms == 86


def test_a_block_of_the_path_that_its_target_cant_run() -> None:
    problem = task_problem([[1.0, 5.0], [math.inf, 2.0], [1.0, 5.0]], [(0, 1), (1, 2)])
    found = cpop(Tables(problem))
    assert found is not None
    # machine:1 runs the whole path, machine:0 would be faster for most of it
    assert found.targets == [1, 1, 1]
    problem = task_problem([[1.0, math.inf], [math.inf, 2.0], [1.0, 5.0]], [(0, 1), (1, 2)])
    found = cpop(Tables(problem))
    assert found is not None
    assert found.targets == [0, 1, 0]
