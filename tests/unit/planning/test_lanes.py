"""Problems with devices and links: what simulate, lifetimes and objectives make of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from dioe.planning import (
    Allowed,
    Assigned,
    DeviceNode,
    Line,
    LinkCosts,
    PlacedStage,
    Placement,
    Problem,
    Tables,
    assigned_of,
    judged,
    lifetimes,
    peak_bytes,
    placed,
    simulate,
    task_problem,
)
from dioe.types import InputError, UnsupportedError

DIAMOND = [(0, 1, 100), (0, 2, 100), (1, 3, 10), (2, 3, 20)]
MS = [[2.0, 3.0], [4.0, 8.0], [9.0, 4.0], [1.0, 1.0]]


def diamond(queue: str | None = "") -> Problem:
    return task_problem(MS, DIAMOND, ms_per_byte=0.01, latency_ms=0.5, queue=queue)


def test_branches_run_at_the_same_time_and_transfers_overlap() -> None:
    problem = diamond()
    placement = placed(Tables(problem), Assigned([0, 0, 1, 0], [0, 1, 2, 3]))
    found = simulate(problem, placement)
    # t0 0-2, t1 2-6 on machine:0; its value crosses 2-3.5, t2 3.5-7.5, back 7.5-8.2, t3 8.2-9.2
    spans = [(stage.start_ms, stage.end_ms) for stage in found.stages]
    assert np.ravel(spans) == pytest.approx([0, 2, 2, 6, 3.5, 7.5, 8.2, 9.2])
    assert found.total_ms == pytest.approx(9.2)
    assert [(t.value, t.source, t.destination) for t in found.transfers] == [
        ("t0>t2", "machine:0", "machine:1"),
        ("t2>t3", "machine:1", "machine:0"),
    ]
    assert found.period_ms == pytest.approx(7.0)  # machine:0 computes 2 + 4 + 1


def test_the_slowest_of_lanes_and_queues_is_the_period() -> None:
    problem = task_problem([[1.0, 9.0], [9.0, 1.0]], [(0, 1, 500)], ms_per_byte=0.01, queue="")
    placement = placed(Tables(problem), Assigned([0, 1], [0, 1]))
    assert simulate(problem, placement).period_ms == pytest.approx(5.0)


def test_stages_hold_values_back_until_they_end() -> None:
    problem = dataclasses.replace(
        diamond(None),
        targets=tuple(dataclasses.replace(t, dispatch_ms=0.25) for t in diamond().targets),
    )
    tables = Tables(problem)
    assert not tables.flat
    joined = placed(tables, Assigned([0, 0, 1, 0], [0, 1, 2, 3]))
    assert [stage.blocks for stage in joined.stages] == [("t0", "t1"), ("t2",), ("t3",)]
    cut = placed(tables, Assigned([0, 0, 1, 0], [0, 1, 2, 3], frozenset({1})))
    assert [stage.blocks for stage in cut.stages] == [("t0",), ("t1",), ("t2",), ("t3",)]
    assert simulate(problem, joined).total_ms == pytest.approx(0.25 + 6 + 1.5 + 4.25 + 0.7 + 1.25)
    assert simulate(problem, cut).total_ms == pytest.approx(2.25 + 1.5 + 4.25 + 0.7 + 1.25)
    assert placed(tables, assigned_of(tables, cut)) == cut


def test_peaks_count_weights_and_what_is_alive() -> None:
    problem = task_problem(MS, DIAMOND, ms_per_byte=0.01, weight_bytes=[1000, 100, 10, 1], queue="")
    placement = placed(Tables(problem), Assigned([0, 0, 1, 0], [0, 1, 2, 3]))
    found = simulate(problem, placement)
    peaks = peak_bytes(problem, placement, found)
    # while t0 runs both its values; t0>t2 leaves machine:0 when it has crossed
    assert peaks == {"machine:0": 1101 + 210, "machine:1": 10 + 120}
    held = {
        (h.device, h.what): (h.start_ms, h.end_ms) for h in lifetimes(problem, placement, found)
    }
    assert held["machine:1", "t0>t2"] == pytest.approx((2.0, 7.0))
    assert held["machine:0", "t0>t2"] == pytest.approx((0.0, 3.0))


def test_energy_is_that_of_busy_lanes() -> None:
    problem = diamond(None)
    with pytest.raises(UnsupportedError, match="what machine:0 draws"):
        judged(problem, placed(Tables(problem), Assigned([0] * 4, [0, 1, 2, 3])), "efficiency")
    devices = (
        DeviceNode("machine:0", 1, None, 100.0, 10.0),
        DeviceNode("machine:1", 2, None, 50.0),
    )
    problem = dataclasses.replace(problem, devices=devices)
    placement = placed(Tables(problem), Assigned([0, 0, 1, 0], [0, 1, 2, 3]))
    found = judged(problem, placement, "efficiency")
    total = found.simulation.total_ms
    assert found.value == pytest.approx((100 * 7 + 10 * (total - 7) + 50 * 4 / 2) / 1e3)


def test_limits_that_are_not_kept_are_named() -> None:
    problem = task_problem(MS, DIAMOND, weight_bytes=[50] * 4, memory_bytes=[120, None])
    allowed = Allowed((frozenset({"machine:0"}),), max_stages=2, latency_ms=5.0)
    problem = dataclasses.replace(problem, allowed=allowed)
    placement = placed(Tables(problem), Assigned([0, 0, 1, 0], [0, 1, 2, 3]))
    over = {each.what: each for each in judged(problem, placement, "latency").over}
    assert set(over) == {"memory", "stages", "latency", "devices"}
    assert over["memory"].place == "machine:0"
    assert over["memory"].needed > 150
    assert (over["stages"].needed, over["stages"].limit) == (3, 2)
    with pytest.raises(InputError, match="no policy"):
        judged(problem, placement, "speed")


def test_groups_share_a_device_and_only_one_that_runs_them_all() -> None:
    problem = task_problem([[1.0, 1.0, math.inf], [1.0, math.inf, 1.0]], groups={0: "a", 1: "a"})
    tables = Tables(problem)
    assert tables.peers == [(0, 1), (0, 1)]
    assert np.isfinite(tables.durations).tolist() == [[True, False, False]] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"devices": (DeviceNode("machine:0"), DeviceNode("machine:0"))}, "two devices"),
        ({"devices": (DeviceNode("machine:0"),), "links": ()}, "'machine:1' is none"),
        ({"home": "cpu"}, "'cpu' is none"),
        ({"devices": ()}, "need devices"),
        ({"links": (LinkCosts("machine:0", "machine:0", Line()),)}, "to itself"),
        ({"links": (LinkCosts("machine:0", "machine:1", Line(-1.0)),)}, "no time"),
        ({"links": (LinkCosts("machine:0", "machine:1", Line()),) * 2}, "same ends"),
        ({"devices": (DeviceNode("machine:0", 0), DeviceNode("machine:1"))}, "no lane"),
    ],
)
def test_contradictions_are_told(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(diamond(), **change)  # type: ignore[arg-type]


def test_hand_made_problems_are_checked() -> None:
    with pytest.raises(InputError, match="waits for itself"):
        task_problem([[1.0]] * 2, [(0, 1), (1, 0)])
    with pytest.raises(InputError, match="no such tasks"):
        task_problem([[1.0]], [(0, 1)])
    with pytest.raises(InputError, match="shape"):
        task_problem([[]])
    with pytest.raises(InputError, match="no such task: 1"):
        task_problem([[1.0]], weight_bytes=[3, 4])
    with pytest.raises(InputError, match="no such task: 2"):
        task_problem([[1.0]], groups={2: "a"})
    with pytest.raises(InputError, match="1 entries for 2 devices"):
        task_problem([[1.0, 2.0]], lanes=[1])
    problem = task_problem([[1.0], [2.0]], [(1, 0, 4)])
    assert [block.id for block in problem.blocks] == ["t1", "t0"]


def test_a_placement_in_the_wrong_order_is_none() -> None:
    stages = (PlacedStage(("t1",), (0,)), PlacedStage(("t0",), (0,)))
    problem = task_problem([[1.0], [2.0]], [(0, 1, 4)])
    with pytest.raises(ValueError, match="before it is made"):
        simulate(problem, Placement(stages))
