"""The table of published placement instances."""

from __future__ import annotations

import pytest

from benchmarks.planning import placement
from dioe.planning.splits import read_instance


def test_the_table_has_medians_and_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        placement.Row("one", 10, 2, 100.0, 50.0, (90.0, 80.0, 100.0), 10.25),
        placement.Row("other", 20, 4, 10.0, 5.0, (5.0, 5.0, 5.0), 10.5),
    ]
    monkeypatch.setattr(placement, "run", lambda time_limit_s, count: rows)
    text = placement.table(10.0, 3)
    assert "| one | 10 | 2 | 100 | 90.000 | 0.900 | 1.000 | 50.0 | 10.2 s |" in text
    assert "On average 0.700 of the best published latency (0.750 at worst)." in text


def test_the_instances_are_there() -> None:
    for name in placement.PUBLISHED:
        assert read_instance(placement.INSTANCES / f"{name}.json").nodes


def test_one_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "PUBLISHED", {"bert24_layers": 100.219})
    (row,) = placement.run(time_limit_s=0.5, count=1)
    assert row.nodes == 32
    assert row.bound < row.latencies[0] < 110
