"""Why each block of a schedule is where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import (
    Allowed,
    BlockNode,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    PlacedStage,
    Placement,
    Problem,
    Schedule,
    TargetCosts,
    block_reasons,
    gap_text,
    judged,
    simulate,
    task_problem,
)
from dioe.types import BlockReport, Target


def scheduled(
    problem: Problem, targets: Mapping[str, int], policy: str = "latency", **more: float
) -> Schedule:
    """Each block a stage of its own."""
    stages = tuple(PlacedStage((block.id,), (targets[block.id],)) for block in problem.blocks)
    return of(problem, Placement(stages), policy, **more)


def of(problem: Problem, placement: Placement, policy: str, **more: float) -> Schedule:
    """A schedule of a placement."""
    found = judged(problem, placement, policy)
    return Schedule(
        problem, placement, found.simulation, policy, found.value, more.get("bound", 0.0),
        proved=bool(more.get("proved")),
    )  # fmt: skip


def reports(schedule: Schedule) -> dict[str, BlockReport]:
    return {report.block: report for report in block_reasons(schedule)}


def test_its_own_cost() -> None:
    schedule = scheduled(task_problem([[1.0, 4.0]]), {"t0": 0})
    (report,) = block_reasons(schedule)
    assert (report.stage, report.target, report.cost_ms) == ("s0", "machine:0/task/fp32", 1.0)
    assert report.runner_up == "machine:1/task/fp32"
    assert report.difference_ms == 3.0
    assert report.reason == "its own cost: 3.000 ms more on machine:1/task/fp32"
    assert report.least_ms == 1.0


def test_transfers() -> None:
    problem = task_problem([[2.0, 9.0], [2.0, 1.0]], [(0, 1, 5)], ms_per_byte=1.0)
    report = reports(scheduled(problem, {"t0": 0, "t1": 0}))["t1"]
    assert report.difference_ms == 4.0
    assert report.reason == (
        "transfers: 1.000 ms cheaper there, but moving it costs 5.000 ms around it"
    )


def test_waiting_for_a_lane() -> None:
    problem = task_problem([[5.0, 9.0], [3.0, 3.0]])
    report = reports(scheduled(problem, {"t0": 0, "t1": 1}))["t1"]
    assert report.difference_ms == 3.0
    assert report.reason == (
        "waiting for a lane: machine:0 is taken, and all would end 3.000 ms later"
    )


def test_nothing_decides_between_equals() -> None:
    report = reports(scheduled(task_problem([[2.0, 2.0]]), {"t0": 1}))["t0"]
    assert report.reason == "nothing: machine:0/task/fp32 is as good"


def test_the_search_may_have_missed_something() -> None:
    report = reports(scheduled(task_problem([[2.0, 1.5]]), {"t0": 0}))["t0"]
    assert report.difference_ms == -0.5
    assert report.reason == (
        "the end of the search: machine:1/task/fp32 is predicted 0.500 ms better"
    )


def test_only_one_target() -> None:
    report = reports(scheduled(task_problem([[math.inf, 1.0]]), {"t0": 1}))["t0"]
    assert (report.runner_up, report.difference_ms) == ("", None)
    assert report.reason == "only machine:1/task/fp32 runs it"


def test_a_group_stays_together() -> None:
    problem = task_problem([[1.0, 2.0]] * 2, groups={0: "g", 1: "g"})
    report = reports(scheduled(problem, {"t0": 0, "t1": 0}))["t1"]
    assert report.runner_up == ""
    assert report.reason == "its group 'g' is on machine:0"


def test_memory_decided() -> None:
    """The faster device is full: it comes before others that are slower."""
    problem = task_problem(
        [[1.0, 9.0, 9.0], [1.0, 4.0, 5.0]],
        memory_bytes=[10, None, None],
        weight_bytes=[10, 10],
        edges=[(0, 1)],
    )
    report = reports(scheduled(problem, {"t0": 0, "t1": 1}))["t1"]
    assert report.runner_up == "machine:0/task/fp32"
    assert report.difference_ms == -3.0
    assert report.reason == "memory: machine:0 has 10 bytes, and 20 are needed"


def test_a_full_device_that_is_slower_anyway_is_no_runner_up() -> None:
    problem = task_problem(
        [[1.0, 9.0, 9.0], [6.0, 4.0, 5.0]],
        memory_bytes=[10, None, None],
        weight_bytes=[10, 10],
        edges=[(0, 1)],
    )
    report = reports(scheduled(problem, {"t0": 0, "t1": 1}))["t1"]
    assert report.runner_up == "machine:2/task/fp32"


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        (Allowed(max_stages=1), "limits: it would take 2 stages, more than the 1 allowed"),
        (
            Allowed(together=(frozenset({"gpu:0"}), frozenset({"cpu"}))),
            "limits: cpu and gpu:0 may not be used together",
        ),
    ],
)
def test_limits_of_plans_decided(allowed: Allowed, reason: str) -> None:
    problem = replace(two_stages(), allowed=allowed)
    one = Placement((PlacedStage(("a", "b"), (0, 0)),))
    report = reports(of(problem, one, "latency"))["b"]
    assert report.difference_ms is not None
    assert report.difference_ms < 0
    assert report.reason == reason


def test_the_latency_limit_decided() -> None:
    problem = replace(
        task_problem([[4.0, 1.0]], edges=[]), allowed=Allowed(latency_ms=3.0),
        devices=(DeviceNode("machine:0", busy_w=1.0), DeviceNode("machine:1", busy_w=10.0)),
    )  # fmt: skip
    report = reports(scheduled(problem, {"t0": 1}, "efficiency"))["t0"]
    assert report.reason == "limits: it would take 4.000 ms, more than 3.000 ms"
    assert report.difference_ms == 3.0  # of the latency


def test_energy_decided_and_unknown_power_does() -> None:
    known = replace(
        task_problem([[4.0, 1.0]]),
        devices=(DeviceNode("machine:0", busy_w=1.0), DeviceNode("machine:1", busy_w=10.0)),
    )
    report = reports(scheduled(known, {"t0": 0}, "efficiency"))["t0"]
    assert report.reason == "its own energy: 0.006 J more on machine:1/task/fp32"
    assert report.difference_ms == -3.0
    unknown = replace(known, devices=(known.devices[0], DeviceNode("machine:1")))
    report = reports(scheduled(unknown, {"t0": 0}, "efficiency"))["t0"]
    assert report.reason == "limits: no figure says what machine:1 draws"
    assert report.difference_ms is None


def test_load_decides_for_throughput() -> None:
    problem = task_problem([[2.0, 3.0], [3.0, 2.0]], [(0, 1)])
    report = reports(scheduled(problem, {"t0": 0, "t1": 1}, "throughput"))["t0"]
    assert report.difference_ms == 3.0
    assert report.reason == "load: machine:1 would be busy for 5.000 ms of each request"


def test_the_peak_decides_for_memory() -> None:
    problem = task_problem([[2.0, 3.0], [3.0, 2.0]], weight_bytes=[10, 20])
    report = reports(scheduled(problem, {"t0": 0, "t1": 1}, "memory"))["t0"]
    assert report.reason == "memory: the largest peak would be 30 bytes"


def two_stages() -> Problem:
    """Two blocks on a CPU and a GPU, where stages have a price."""
    return Problem(
        blocks=(
            BlockNode("a", "conv", ("a",), {"in": 4}, {"x": 4}),
            BlockNode("b", "conv", ("b",), {"x": 4}, {"out": 4}),
        ),
        targets=tuple(
            TargetCosts(
                Target(name, "null"),
                {"a": Cost(a), "b": Cost(b)},
                dispatch_ms=0.5,
                entry=Line(0.25),
                exit=Line(0.25),
            )
            for name, a, b in (("cpu", 1.0, 6.0), ("gpu:0", 3.0, 1.0))
        ),
        inputs=("in",),
        outputs=("out",),
        devices=(DeviceNode("cpu"), DeviceNode("gpu:0")),
        links=(
            LinkCosts("cpu", "gpu:0", Line(0.5)),
            LinkCosts("gpu:0", "cpu", Line(0.5)),
        ),
        home="cpu",
    )


def test_a_moved_block_joins_the_stage_beside_it() -> None:
    problem = two_stages()
    split = Placement((PlacedStage(("a",), (0,)), PlacedStage(("b",), (1,))))
    schedule = of(problem, split, "latency")
    together = simulate(problem, Placement((PlacedStage(("a", "b"), (1, 1)),)))
    report = reports(schedule)["a"]
    assert report.difference_ms == pytest.approx(together.total_ms - schedule.value)


def test_a_moved_block_leaves_its_stage() -> None:
    problem = two_stages()
    schedule = of(problem, Placement((PlacedStage(("a", "b"), (1, 1)),)), "latency")
    split = simulate(problem, Placement((PlacedStage(("a",), (0,)), PlacedStage(("b",), (1,)))))
    report = reports(schedule)["a"]
    assert report.difference_ms == pytest.approx(split.total_ms - schedule.value)


def test_only_so_many_moves_are_simulated() -> None:
    problem = task_problem([[3.0, 4.0], [1.0, 2.0], [2.0, 3.0]])
    schedule = scheduled(problem, {"t0": 0, "t1": 0, "t2": 0})
    found = {r.block: r for r in block_reasons(schedule, most_simulated=12)}
    assert found["t0"].runner_up
    assert found["t2"].runner_up
    assert not found["t1"].runner_up
    assert found["t1"].reason == "not compared: only blocks that take longer (2 of 3)"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_runner_up_is_the_best_move(data: st.DataObject) -> None:
    count, devices = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 3))
    quarters = st.integers(1, 20).map(lambda q: q / 4)
    problem = task_problem(
        [[data.draw(quarters) for _ in range(devices)] for _ in range(count)],
        [(a, b, 3) for b in range(count) for a in range(b) if data.draw(st.booleans())],
        ms_per_byte=data.draw(quarters),
        queue=data.draw(st.sampled_from(["", None])),
    )
    targets = {b.id: data.draw(st.integers(0, devices - 1)) for b in problem.blocks}
    schedule = scheduled(problem, targets, data.draw(st.sampled_from(["latency", "throughput"])))
    for block, report in reports(schedule).items():
        values = [
            scheduled(problem, {**targets, block: t}, schedule.policy).value
            for t in range(devices)
            if t != targets[block]
        ]
        assert report.difference_ms == pytest.approx(min(values) - schedule.value)
        assert report.reason


def test_the_gap_in_words() -> None:
    problem = task_problem([[1.0, 4.0]])
    assert gap_text(scheduled(problem, {"t0": 1}, bound=1.0)) == (
        "4.000 ms, and no schedule can be below 1.000 ms (gap 75.0%)"
    )
    assert gap_text(scheduled(problem, {"t0": 1}, proved=True)) == (
        "4.000 ms: nothing better exists"
    )
    assert gap_text(scheduled(problem, {"t0": 1})) == "4.000 ms: no lower bound is known"
