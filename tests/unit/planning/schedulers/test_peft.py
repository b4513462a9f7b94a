"""PEFT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Problem, Tables, placed, simulate
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.peft import optimistic_costs, peft, peft_times
from tests.unit.planning.problems import DIAMOND, SKIP, TWO_BRANCHES, problems
from tests.unit.planning.schedulers.examples import arabnejad


def test_table_of_the_paper() -> None:
    tables = Tables(arabnejad())
    table = optimistic_costs(tables, EdgeCosts(tables))
    by_id = {b.id: row for b, row in zip(tables.problem.blocks, table, strict=True)}
    ranks = [sum(by_id[f"t{i}"]) / 3 for i in range(10)]
    assert [round(rank) for rank in ranks] == [73, 41, 37, 44, 31, 42, 17, 21, 16, 0]


def test_schedule_of_the_paper() -> None:
    tables = Tables(arabnejad())
    times, found = peft_times(tables), peft(tables)
    assert times is not None
    assert found is not None
    assert times.total_ms == 122
    assert simulate(tables.problem, placed(tables, found)).total_ms == 122


@given(st.sampled_from([SKIP, DIAMOND, TWO_BRANCHES]).flatmap(problems))
def test_the_table_is_that_of_all_pairs_of_targets(problem: Problem) -> None:
    """Equation 1 of the paper, term by term."""
    tables = Tables(problem)
    edges = EdgeCosts(tables)
    mean, count = edges.mean(), range(tables.m)
    expected = [edges.results.get(i, [0.0] * tables.m).copy() for i in range(tables.n)]
    for i in reversed(range(tables.n)):
        for t in count:
            for j, value in tables.succs[i]:
                way = min(
                    expected[j][u] + tables.ms[j][u] + (0 if edges.shares[t][u] else mean[value])
                    for u in count
                )
                expected[i][t] = max(expected[i][t], way)
    assert optimistic_costs(tables, edges) == [pytest.approx(row) for row in expected]
