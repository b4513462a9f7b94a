"""Why each block is where it is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.planning import (
    BlockNode,
    Cost,
    Line,
    PlacedStage,
    Placement,
    Problem,
    TargetCosts,
    block_reports,
    place,
    simulate,
    single_stage,
)
from dioe.types import Basis, Resources, Target
from tests.unit.planning import problems as small

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
any_problem = st.sampled_from([small.chain(4), small.SKIP[:4], small.DIAMOND]).flatmap(
    small.problems
)


def moved(problem: Problem, placement: Placement, block: str, target: int) -> float:
    """The least cost with one block moved: cut around it, every join of neighbours tried."""
    runs: list[list[tuple[str, int]]] = []
    fixed: set[int] = set()
    for stage in placement.stages:
        cut = [
            (b, target if b == block else t)
            for b, t in zip(stage.blocks, stage.targets, strict=True)
        ]
        at = next((i for i, (b, _) in enumerate(cut) if b == block), None)
        parts = [cut] if at is None else [cut[:at], cut[at : at + 1], cut[at + 1 :]]
        runs += [part for part in parts if part]
    here = next(i for i, run in enumerate(runs) if run[0][0] == block)
    fixed = {i for i in range(1, len(runs)) if i not in (here, here + 1)}
    best = float("inf")
    for keep in itertools.product([False, True], repeat=2):
        ends = {here: keep[0], here + 1: keep[1]}
        stages: list[list[tuple[str, int]]] = []
        for i, run in enumerate(runs):
            if i and i not in fixed and ends.get(i):
                stages[-1] = stages[-1] + run
            else:
                stages.append(list(run))
        try:
            found = Placement(
                tuple(PlacedStage(tuple(b for b, _ in s), tuple(t for _, t in s)) for s in stages)
            )
            best = min(best, simulate(problem, found).total_ms)
        except ValueError:  # targets that can't share a stage
            continue
    return best


@quick
@given(any_problem, st.data())
def test_the_runner_up_is_the_best_move(problem: Problem, data: st.DataObject) -> None:
    """For any placement, the best one or not."""
    every = small.placements_of(problem, tuple(range(len(problem.blocks))))
    placement = data.draw(
        st.sampled_from([place(problem, most=1)[0], *itertools.islice(every, 60)])
    )
    total = simulate(problem, placement).total_ms
    reports = block_reports(problem, placement)
    assert [r.block for r in reports] == list(placement.targets)
    for report in reports:
        target = placement.targets[report.block]
        others = {
            i: moved(problem, placement, report.block, i) - total
            for i, costs in enumerate(problem.targets)
            if i != target and report.block in costs.blocks
        }
        if others:
            assert report.difference_ms == pytest.approx(min(others.values()), abs=1e-9)
            assert report.runner_up
        else:
            assert (report.runner_up, report.difference_ms) == ("", None)
        assert report.reason


@quick
@given(any_problem)
def test_no_move_is_better_than_the_best_placement(problem: Problem) -> None:
    for report in block_reports(problem, place(problem, most=1)[0]):
        assert report.difference_ms is None or report.difference_ms >= -1e-9


def chain(**costs: tuple[float | None, ...]) -> Problem:
    """Three blocks of 1000 bytes on targets named ``backend_precision`` by their costs."""
    blocks = tuple(
        BlockNode(f"b{i}", "conv", (f"o{i}",), {f"v{i - 1}" if i else "x": 1000}, {f"v{i}": 1000})
        for i in range(3)
    )
    targets = tuple(
        TargetCosts(
            Target.parse(f"cpu/{name.replace('_', '/')}"),
            {
                f"b{i}": Cost(ms, Basis.CORRECTED, 40)
                for i, ms in enumerate(given)
                if ms is not None
            },
            mixes=name.startswith("a"),
            dispatch_ms=0.25,
            entry=Line(0.125),
            exit=Line(0.125),
        )
        for name, given in costs.items()
    )
    return Problem(blocks, targets, ("v2",), ("x",), switch=Line(0.5))


def test_reasons() -> None:
    problem = chain(a_fp32=(1.0, 1.0, 1.0), b_fp32=(0.75, 9.0, None))
    first, second, third = block_reports(problem, place(problem, most=1)[0])
    # alone it is 0.25 cheaper there; a dispatch, an exit and an entry more are 0.5
    assert (first.target, first.runner_up, first.difference_ms) == (
        "cpu/a/fp32", "cpu/b/fp32", 0.25,
    )  # fmt: skip
    assert first.reason == (
        "boundaries: 0.250 ms cheaper there, but moving it costs 0.500 ms around it"
    )
    assert (first.cost_ms, first.basis, first.runs) == (1.0, Basis.CORRECTED, 40)
    assert (first.block, first.kind, first.ops, first.stage) == ("b0", "conv", ("o0",), "s0")
    assert second.difference_ms == 9.0
    assert second.reason == "its own cost: 8.000 ms more on cpu/b/fp32"
    assert (third.runner_up, third.difference_ms) == ("", None)
    assert third.reason == "only cpu/a/fp32 runs it"


def test_reasons_of_a_slower_and_dearer_move() -> None:
    problem = chain(a_fp32=(1.0, 1.0, 1.0), b_fp32=(9.0, 1.25, 9.0))
    report = block_reports(problem, place(problem, most=1)[0])[1]
    assert report.difference_ms == 1.25
    assert report.reason == (
        "boundaries: moving it costs 1.000 ms around it, and it is 0.250 ms slower there"
    )


def test_changes_of_precision() -> None:
    problem = chain(a_bf16=(1.0, 1.0, 1.0), a_fp32=(2.0, 0.75, 2.0))
    report = block_reports(problem, place(problem, most=1)[0])[1]
    assert (report.target, report.runner_up, report.difference_ms) == (
        "cpu/a/bf16", "cpu/a/fp32", 0.75,
    )  # fmt: skip
    assert report.reason == (
        "changes of precision: 0.250 ms cheaper there, but moving it costs 1.000 ms around it"
    )


def test_a_prediction_that_was_overruled() -> None:
    problem = chain(a_bf16=(1.0, 1.0, 1.0), a_fp32=(3.0, 3.0, 3.0), b_fp32=(1.0, 1.0, 1.0))
    exact = single_stage(problem, 1)
    assert exact is not None
    report = block_reports(problem, exact)[0]
    assert report.runner_up == "cpu/a/bf16"
    assert report.difference_ms == -1.5
    assert report.reason == "the error limit: cpu/a/bf16 is predicted 1.500 ms faster"
    others = replace(problem, targets=problem.targets[1:])
    report = block_reports(
        others, replace(exact, stages=(PlacedStage(exact.stages[0].blocks, (0,) * 3),))
    )[0]
    assert report.reason == (
        "measured time of whole plans: cpu/b/fp32 is predicted 1.500 ms faster"
    )


def test_targets_alike_and_targets_that_differ_in_threads_only() -> None:
    problem = chain(a_fp32=(1.0, 1.0, 1.0))
    (costs,) = problem.targets
    free = replace(costs, dispatch_ms=0.0, entry=Line(), exit=Line(), mixes=False)
    one = replace(free, resources=Resources(threads=1))
    problem = replace(problem, targets=(free, one))
    placement = Placement((PlacedStage(("b0", "b1", "b2"), (0, 0, 0)),))
    report = block_reports(problem, placement)[0]
    assert report.target == "cpu/a/fp32"
    assert report.runner_up == "cpu/a/fp32 on 1 thread"
    assert report.reason == "nothing: cpu/a/fp32 on 1 thread is as fast"
    placement = Placement((PlacedStage(("b0", "b1", "b2"), (1, 1, 1)),))
    assert block_reports(problem, placement)[0].runner_up == "cpu/a/fp32 on default threads"


def test_what_is_no_placement_is_refused() -> None:
    problem = chain(a_fp32=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="'b2' is in no stage"):
        block_reports(problem, Placement((PlacedStage(("b0", "b1"), (0, 0)),)))
