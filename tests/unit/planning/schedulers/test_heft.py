"""HEFT."""

from __future__ import annotations

import pytest

from dioe.planning import Tables, placed, simulate
from dioe.planning.edge_costs import EdgeCosts
from dioe.planning.schedulers.heft import heft, heft_times
from dioe.planning.schedulers.ranks import upward
from tests.unit.planning.schedulers.examples import arabnejad, topcuoglu


def test_ranks_of_the_paper() -> None:
    tables = Tables(topcuoglu())
    ranks = upward(tables, EdgeCosts(tables))
    by_id = {b.id: r for b, r in zip(tables.problem.blocks, ranks, strict=True)}
    expected = [108, 77, 80, 80, 69, 63.333, 42.667, 35.667, 44.333, 14.667]
    assert [by_id[f"t{i}"] for i in range(10)] == pytest.approx(expected, abs=1e-3)


def test_schedule_of_the_paper() -> None:
    tables = Tables(topcuoglu())
    times, found = heft_times(tables), heft(tables)
    assert times is not None
    assert found is not None
    assert times.total_ms == 80
    assert simulate(tables.problem, placed(tables, found)).total_ms == 80


def test_schedule_of_the_paper_on_peft() -> None:
    times = heft_times(Tables(arabnejad()))
    assert times is not None
    assert times.total_ms == 133
