"""dmda."""

from __future__ import annotations

from dataclasses import replace

from dioe.planning import BlockNode, Problem, Tables, task_problem
from dioe.planning.schedulers.dmda import dmda


def targets(problem: Problem) -> list[int]:
    found = dmda(Tables(problem))
    assert found is not None
    return found.targets


def test_transfers_count_beside_the_end() -> None:
    """Of t1 and its transfer: 1 + 2 on machine:1 against 4, then 1 + 4."""
    times = [[2.0, 9.0], [4.0, 1.0]]
    assert targets(task_problem(times, [(0, 1, 2)], ms_per_byte=1.0)) == [0, 1]
    assert targets(task_problem(times, [(0, 1, 4)], ms_per_byte=1.0)) == [0, 0]


def test_a_value_that_is_there_costs_nothing_more() -> None:
    """The second reader of a value follows the first one to where it has come."""
    problem = task_problem([[1.0, 50.0], [9.0, 1.0], [10.0, 3.0]], ms_per_byte=1.0)
    blocks = (
        replace(problem.blocks[0], gives={"x": 4}),
        replace(problem.blocks[1], reads={"x": 4}),
        BlockNode("t2", "task", ("t2",), {"x": 4}, {}),
    )
    assert targets(replace(problem, blocks=blocks)) == [0, 1, 1]  # 6 + 3 against 1 + 10
    apart = (*blocks[:2], replace(blocks[2], reads={"y": 4}))
    first = replace(blocks[0], gives={"x": 4, "y": 4})
    assert targets(replace(problem, blocks=(first, *apart[1:]))) == [0, 1, 0]  # 4 more there
