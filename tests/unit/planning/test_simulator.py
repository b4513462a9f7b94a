"""What a placement costs, added up by hand."""

from __future__ import annotations

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
    simulate,
)
from dioe.types import Target, UnsupportedError
from tests.unit.planning import problems as small

# b0 gives h (8 bytes) to b1 and b2 and g (an output); b1 gives k to b2; b2 gives y.
BLOCKS = (
    BlockNode("b0", "conv", ("o0",), {"x": 16}, {"h": 8, "g": 4}),
    BlockNode("b1", "conv", ("o1",), {"h": 8}, {"k": 2}),
    BlockNode("b2", "conv", ("o2",), {"k": 2, "h": 8, "x": 16}, {"y": 1}),
)


def target(text: str, *costs: float, entry: Line, leave: Line, dispatch: float) -> TargetCosts:
    blocks = {f"b{i}": Cost(ms) for i, ms in enumerate(costs)}
    mixes = "/a/" in text
    return TargetCosts(Target.parse(text), blocks, mixes=mixes, dispatch_ms=dispatch, entry=entry, exit=leave)  # noqa: E501  # fmt: skip


LOW = target("cpu/a/bf16", 1, 2, 3, entry=Line(0.5), leave=Line(0.25), dispatch=10)
FULL = target("cpu/a/fp32", 2, 4, 6, entry=Line(0, 1), leave=Line(0, 2), dispatch=20)
OTHER = target("cpu/b/fp32", 5, 5, entry=Line(1), leave=Line(1), dispatch=30)
PROBLEM = Problem(
    BLOCKS,
    (LOW, FULL, OTHER),
    ("y", "g"),
    ("x",),
    {(LOW.context, OTHER.context): 100.0, (OTHER.context, LOW.context): 1000.0},
    Line(0.0, 0.125),
)


def placement(*stages: tuple[str, tuple[int, ...]]) -> Placement:
    return Placement(tuple(PlacedStage(tuple(blocks.split()), t) for blocks, t in stages))


def test_one_stage() -> None:
    found = simulate(PROBLEM, placement(("b0 b1 b2", (0, 0, 0))))
    (stage,) = found.stages
    assert stage.times.dispatch_ms == 10
    assert stage.times.entries == {"x": 0.5}  # once, though two blocks read it
    assert stage.times.exits == {"g": 0.25, "y": 0.25}
    assert stage.times.blocks == {"b0": 1, "b1": 2, "b2": 3}
    assert (stage.times.switches, stage.times.switch_ms) == (0, 0.0)
    assert found.total_ms == stage.end_ms == 10 + 0.5 + 0.5 + 6
    assert (stage.start_ms, stage.handover_ms) == (0.0, 0.0)


def test_precisions_within_a_stage() -> None:
    (stage,) = simulate(PROBLEM, placement(("b0 b1 b2", (1, 0, 0)))).stages
    # h goes from fp32 to two bf16 blocks; x enters with b0, g leaves it, y leaves b2
    assert (stage.times.switches, stage.times.switch_ms) == (2, 2.0)
    assert stage.times.dispatch_ms == 20
    assert stage.times.entries == {"x": 16.0}
    assert stage.times.exits == {"g": 8.0, "y": 0.25}
    assert stage.times.boundary_ms == 44.25
    assert stage.times.total_ms == 44.25 + 2.0 + 2 + 2 + 3


def test_stages_on_a_lane() -> None:
    found = simulate(PROBLEM, placement(("b0", (0,)), ("b1", (2,)), ("b2", (1,))))
    first, second, third = found.stages
    assert first.times.total_ms == 10 + 0.5 + (0.25 + 0.25) + 1
    assert second.times.total_ms == 30 + 1 + 1 + 5
    assert third.times.entries == {"k": 2.0, "h": 8.0, "x": 16.0}
    assert third.times.total_ms == 20 + 26 + 2 + 6
    assert [s.handover_ms for s in found.stages] == [0.0, 100.0, 1000.0]
    assert second.start_ms == first.end_ms + 100
    assert third.start_ms == second.end_ms + 1000
    assert third.end_ms == found.total_ms


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([("b0 b1", (0, 0))], "block 'b2' is in no stage"),
        ([("b0 b1 b2 b0", (0, 0, 0, 0))], "'b0' is unknown or placed twice"),
        ([("b0 b7", (0, 0))], "'b7' is unknown or placed twice"),
        ([("b1", (0,)), ("b0", (0,))], "block 'b1' reads 'h' before it is made"),
        ([("b0 b1", (0, 2))], "can't share a stage: cpu/a/bf16, cpu/b/fp32"),
        ([("b0 b1", (0,))], "not one target for each"),
        ([("", ())], "no blocks"),
    ],
)
def test_no_placements(stages: list[tuple[str, tuple[int, ...]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(PROBLEM, placement(*stages))


def test_a_target_that_cannot_run_a_block() -> None:
    with pytest.raises(UnsupportedError, match=r"block b2 \(conv\): cpu/b/fp32 can't run it"):
        simulate(PROBLEM, placement(("b0 b1", (0, 0)), ("b2", (2,))))


def test_targets_of_a_placement() -> None:
    found = placement(("b0", (0,)), ("b1 b2", (1, 0)))
    assert found.targets == {"b0": 0, "b1": 1, "b2": 0}
    assert found == replace(found, predicted_ms=3.0)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(small.problems(small.SKIP[:4]), st.data())
def test_the_parts_make_the_whole(problem: Problem, data: st.DataObject) -> None:
    """Also: dearer parts never make a cheaper whole."""
    every = list(small.placements_of(problem, tuple(range(4))))
    chosen = data.draw(st.sampled_from(every))
    found = simulate(problem, chosen)
    assert found.total_ms == pytest.approx(
        sum(s.handover_ms + s.times.total_ms for s in found.stages)
    )
    clock = 0.0
    for stage in found.stages:
        assert stage.start_ms == clock + stage.handover_ms
        assert stage.end_ms >= stage.start_ms
        clock = stage.end_ms
    dearer = replace(problem, switch=Line(problem.switch.fixed_ms + 1, problem.switch.ms_per_byte))
    extra = sum(stage.times.switches for stage in found.stages)
    assert simulate(dearer, chosen).total_ms == pytest.approx(found.total_ms + extra)


# --- memories of devices ------------------------------------------------------------------------

HOST = target("cpu/b/fp32", 1, 1, 1, entry=Line(0.25), leave=Line(), dispatch=1)
AWAY = replace(HOST, target=Target.parse("npu:0/a/fp32"), copy_in=Line(10), copy_out=Line(20))


def copies(*stages: tuple[str, tuple[int, ...]]) -> tuple[float, float]:
    """What copies cost in a placement on AWAY (0) and HOST (1), and what is spared."""
    made = Problem(BLOCKS, (AWAY, HOST), ("y", "g"), ("x",))
    free = replace(made, targets=(replace(AWAY, copy_in=Line(), copy_out=Line()), HOST))
    found = simulate(made, placement(*stages))
    return found.total_ms - simulate(free, placement(*stages)).total_ms, found.spared_ms


def test_a_value_comes_into_a_memory_once_and_leaves_it_for_others_only() -> None:
    assert copies(("b0 b1 b2", (1, 1, 1))) == (0, 0)
    assert copies(("b0 b1 b2", (0, 0, 0))) == (10 + 20 + 20, 0)
    # of what b2 reads, h and x are there, and k comes in
    assert copies(("b0", (0,)), ("b1", (1,)), ("b2", (0,))) == (10 + 40 + 10 + 20, 10 + 10)
    # between stages of one memory nothing moves: h doesn't go out, h and x don't come in
    assert copies(("b0", (0,)), ("b1 b2", (0, 0))) == (10 + 20 + 20, 20 + 10 + 10)
    assert copies(("b0", (1,)), ("b1", (0,)), ("b2", (1,))) == (10 + 20, 0)


def test_boundaries_within_a_memory_cost_no_copy() -> None:
    made = Problem(BLOCKS, (AWAY, HOST), ("y", "g"), ("x",))
    found = simulate(made, placement(("b0", (0,)), ("b1", (1,)), ("b2", (0,))))
    assert [stage.times.entries for stage in found.stages] == [
        {"x": 10.25}, {"h": 0.25}, {"k": 10.25, "h": 0.25, "x": 0.25},
    ]  # fmt: skip
    assert [stage.times.exits for stage in found.stages] == [
        {"h": 20.0, "g": 20.0}, {"k": 0.0}, {"y": 20.0},
    ]  # fmt: skip
