"""No plan that the planner gives ever breaks a limit, and what it gives is the best of those."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import (
    Allowed,
    BlockNode,
    Cost,
    Placement,
    Problem,
    TargetCosts,
    block_reports,
    place,
    place_within,
    single_stage,
)
from dioe.planning.memory import fits
from dioe.planning.tradeoff import Sensitivity, tradeoff_curve
from dioe.types import Precision, Target, UnsupportedError
from tests.unit.planning.problems import DIAMOND, SKIP, chain, problems

DEVICES = ("cpu", "gpu:0", "npu:0")
DEVICES_ALONE = tuple(frozenset({device}) for device in DEVICES)
SHAPES = [chain(3), chain(4), DIAMOND, SKIP]


@st.composite
def limited(draw: st.DrawFn) -> tuple[Problem, tuple[frozenset[str], ...] | None, int | None]:
    """A small problem over several devices whose memories are limited, sets of devices that may be
    used together, and a number of stages."""
    made = draw(problems(draw(st.sampled_from(SHAPES))))
    caps = {d: draw(st.none() | st.integers(8, 80)) for d in DEVICES}
    device = draw(st.lists(st.sampled_from(DEVICES), min_size=3, max_size=3))
    targets = tuple(
        replace(t, target=Target(d, t.target.backend, t.target.precisions), memory_bytes=caps[d])
        for t, d in zip(made.targets, device, strict=False)
    )
    sizes = [draw(st.integers(0, 20)) for _ in made.blocks]
    blocks = tuple(replace(b, weight_bytes=n) for b, n in zip(made.blocks, sizes, strict=True))
    sets = st.lists(st.frozensets(st.sampled_from(DEVICES), min_size=1), min_size=1, max_size=3)
    together = draw(st.none() | sets)
    most = draw(st.none() | st.integers(1, 3))
    return (
        replace(made, blocks=blocks, targets=targets, handover={}),
        None if together is None else tuple(together),
        most,
    )


def keeps(
    problem: Problem,
    placement: Placement,
    together: tuple[frozenset[str], ...] | None,
    most: int | None,
) -> bool:
    used = {problem.targets[t].target.device for t in placement.targets.values()}
    return (
        fits(problem, placement)
        and (most is None or len(placement.stages) <= most)
        and (together is None or any(used <= each for each in together))
    )


@given(limited())
def test_no_plan_breaks_a_limit(
    given: tuple[Problem, tuple[frozenset[str], ...] | None, int | None],
) -> None:
    problem, together, most = given
    try:
        placements = place_within(problem, allowed=Allowed(together, most))
    except UnsupportedError:
        return
    assert all(keeps(problem, each, together, most) for each in placements)
    assert len(set(placements)) == len(placements)
    costs = [each.predicted_ms or 0.0 for each in placements]
    assert costs == pytest.approx(sorted(costs))


@given(limited(), st.floats(0, 1))
def test_no_choice_of_precisions_breaks_one(
    given: tuple[Problem, tuple[frozenset[str], ...] | None, int | None], share: float
) -> None:
    problem, _, most = given
    errors: Sensitivity = {
        (b.id, p): share for b in problem.blocks for p in Precision if p != Precision.FP32
    }
    try:
        curve = tradeoff_curve(problem, errors, max_stages=most)
    except UnsupportedError:
        return
    assert all(keeps(problem, point.placement, None, most) for point in curve)


@given(problems(chain(4)))
def test_the_error_names_the_least_number_of_stages(problem: Problem) -> None:
    least = min(len(each.stages) for each in place(problem))
    if least == 1:
        assert all(len(each.stages) == 1 for each in place(problem, max_stages=1))
        return
    with pytest.raises(UnsupportedError, match=f": {least} are needed at least"):
        place_within(problem, allowed=Allowed(None, least - 1))
    assert place_within(problem, allowed=Allowed(None, least))


@given(problems(chain(2)))
def test_no_set_of_devices_is_left(problem: Problem) -> None:
    with pytest.raises(UnsupportedError):
        place_within(problem, allowed=Allowed((frozenset(),)))
    with pytest.raises(UnsupportedError, match="no device may be used"):
        place_within(problem, allowed=Allowed(()))


def three(cpu_ms: float, npu_ms: tuple[float, float, float]) -> Problem:
    blocks = tuple(
        BlockNode(f"b{i}", "conv", (f"o{i}",), {f"v{i}": 8}, {f"v{i + 1}": 8}) for i in range(3)
    )
    cpu = {block.id: Cost(cpu_ms) for block in blocks}
    npu = {block.id: Cost(ms) for block, ms in zip(blocks, npu_ms, strict=True)}
    targets = (
        TargetCosts(Target.parse("cpu/a/fp32"), cpu),
        TargetCosts(Target.parse("npu:0/b/fp32"), npu),
    )
    return Problem(blocks, targets, ("v3",), ("v0",))


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        (Allowed(max_stages=1), "limits: it would take 3 stages, more than the 1 allowed"),
        (Allowed(max_stages=2), "limits: it would take 3 stages, more than the 2 allowed"),
        (Allowed(max_stages=3), "measured time of whole plans: "),
        (Allowed(DEVICES_ALONE), "limits: cpu and npu:0 may not be used together"),
        (Allowed((frozenset(DEVICES),)), "measured time of whole plans: "),
        (None, "measured time of whole plans: "),
    ],
)
def test_blocks_say_that_limits_kept_them_away(allowed: Allowed | None, reason: str) -> None:
    problem = three(2.0, (5.0, 1.0, 5.0))
    on_cpu = single_stage(problem, 0)
    assert on_cpu is not None
    (first, second, _) = block_reports(problem, on_cpu, allowed)
    assert second.difference_ms == -1
    assert second.reason.startswith(reason)
    assert first.reason.startswith("its own cost")


def test_the_best_of_devices_that_are_used_alone() -> None:
    problem = three(2.0, (5.0, 1.0, 1.0))
    apart = place_within(problem, allowed=Allowed(DEVICES_ALONE))
    assert apart[0].targets == {"b0": 0, "b1": 0, "b2": 0}
    assert place_within(problem, allowed=Allowed())[0].targets == {"b0": 0, "b1": 1, "b2": 1}
