"""HEFT that looks ahead."""

from __future__ import annotations

from dioe.planning import Tables, placed, simulate
from dioe.planning.schedulers.lookahead import lookahead, lookahead_times
from tests.unit.planning.schedulers.examples import arabnejad


def test_schedule_that_the_paper_on_peft_prints() -> None:
    tables = Tables(arabnejad())
    times, found = lookahead_times(tables), lookahead(tables)
    assert times is not None
    assert found is not None
    assert times.total_ms == 127
    assert simulate(tables.problem, placed(tables, found)).total_ms == 127
