"""Error against latency: the curve is what trying every placement gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.planning import (
    BlockNode,
    Cost,
    CurvePoint,
    Placement,
    Problem,
    TargetCosts,
    best_within,
    place,
    predicted_error,
    simulate,
    tradeoff_curve,
    tradeoffs,
)
from dioe.types import Basis, Precision, Target, UnsupportedError
from tests.unit.planning import problems as small

quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
Shares = dict[tuple[str, Precision], float]


@st.composite
def sensitivities(draw: st.DrawFn, problem: Problem) -> Shares:
    """Squared errors of every block in every lower precision."""
    return {
        (block, target.precision): draw(st.integers(1, 64)) / 2**20
        for target in problem.targets
        for block in target.blocks
        if target.precision is not Precision.FP32
    }


def every_point(problem: Problem, shares: Shares) -> list[tuple[float, float]]:
    """Squared error and latency of every placement."""
    found = []
    for order in small.orders_of(problem):
        for placement in small.placements_of(problem, order):
            error = predicted_error(problem, placement, shares)
            found.append((error**2, simulate(problem, placement).total_ms))
    return found


@quick
@given(st.sampled_from([small.chain(4), small.SKIP[:4]]).flatmap(small.problems), st.data())
def test_the_curve(problem: Problem, data: st.DataObject) -> None:
    shares = data.draw(sensitivities(problem))
    curve = tradeoff_curve(problem, shares, most=100)
    points = [(p.relative_l2, p.placement.predicted_ms or 0.0) for p in curve]
    for placement, error in curve:
        assert placement.predicted_ms == simulate(problem, placement).total_ms
        assert error == pytest.approx(predicted_error(problem, placement, shares))
    assert points == sorted(points)
    assert [ms for _, ms in points] == sorted((ms for _, ms in points), reverse=True)
    assert len({error for error, _ in points}) == len({ms for _, ms in points}) == len(points)
    everything = every_point(problem, shares)
    least = min(squared for squared, _ in everything)
    assert points[0][0] ** 2 == pytest.approx(least, abs=1e-12)
    exact = min(ms for squared, ms in everything if squared <= least + 1e-12)
    assert points[0][1] == pytest.approx(exact)
    assert points[-1][1] == pytest.approx(min(ms for _, ms in everything))
    # no placement lies below the curve: at any price of error, a point of it is the best
    for price in [0.0, *(4.0**k for k in range(16))]:
        best = min(ms + price * squared for squared, ms in everything)
        ours = min(ms + price * error**2 for error, ms in points)
        assert ours == pytest.approx(best, abs=1e-6)


@quick
@given(small.problems(small.chain(4)), st.data())
def test_the_best_within_a_limit(problem: Problem, data: st.DataObject) -> None:
    shares = data.draw(sensitivities(problem))
    curve = tradeoff_curve(problem, shares)
    for point in curve:
        assert best_within(curve, point.relative_l2) is point
    limit = data.draw(st.floats(0.0, 0.02))
    best = best_within(curve, limit)
    if best is None:
        assert limit < curve[0].relative_l2
    else:
        assert best.relative_l2 <= limit
        assert best_within(curve, limit / 2) in (None, *curve[: curve.index(best) + 1])
    assert best_within([], 1.0) is None


@quick
@given(small.problems(small.chain(4)), st.data())
def test_a_closer_look_at_a_limit(problem: Problem, data: st.DataObject) -> None:
    """With the limit known there is a choice whenever there can be one, and it is within it."""
    shares = data.draw(sensitivities(problem))
    limit = data.draw(st.sampled_from([0.004, 0.008, 0.012]))
    far, close = (
        best_within(tradeoff_curve(problem, shares, limit=given), limit) for given in (None, limit)
    )
    within = [ms for squared, ms in every_point(problem, shares) if squared <= limit**2]
    assert (far is None) == (close is None) == (not within)
    if far is not None and close is not None:
        assert close.relative_l2 <= limit
        assert simulate(problem, close.placement).total_ms >= min(within) - 1e-9


def test_room_under_a_limit_is_used() -> None:
    """One block of great error and gain hides the others, which are alike, from the hull."""
    problem = network(6)
    costs = {"b0": Cost(20.0), **{f"b{i}": Cost(2.0) for i in range(1, 6)}}
    problem = problem.with_costs(0, costs)
    shares = {
        ("b0", Precision.BF16): 1e-4,
        **{(f"b{i}", Precision.BF16): 6e-6 for i in range(1, 6)},
    }
    far = best_within(tradeoff_curve(problem, shares), 5e-3)
    close = best_within(tradeoff_curve(problem, shares, limit=5e-3), 5e-3)
    assert far is not None
    assert close is not None
    assert far.placement.predicted_ms == 30.5
    # 4 of the 5 small ones fit: 4 * 6e-6 is under 25e-6
    assert close.placement.predicted_ms == 26.5
    assert close.relative_l2 == pytest.approx(math.sqrt(24e-6))


def test_a_limit_that_cannot_be_met() -> None:
    problem = network(3)
    problem = replace(problem, targets=problem.targets[1:])
    shares = {(f"b{i}", Precision.BF16): 1e-4 for i in range(3)}
    (point,) = tradeoff_curve(problem, shares, limit=1e-3)
    assert point.relative_l2 == pytest.approx(math.sqrt(3e-4))
    assert best_within([point], 1e-3) is None
    with pytest.raises(ValueError, match="at least 0"):
        tradeoff_curve(problem, {("b0", Precision.BF16): -1e-9})


def network(count: int = 8) -> Problem:
    """A chain in fp32 at 2 ms a block or in bf16 at 1 ms."""
    blocks = tuple(
        BlockNode(f"b{i}", "conv", (f"o{i}", f"p{i}"), {f"v{i - 1}" if i else "x": 4}, {f"v{i}": 4})
        for i in range(count)
    )
    targets = tuple(
        TargetCosts(
            Target.parse(f"cpu/a/{name}"),
            {block.id: Cost(ms) for block in blocks},
            mixes=True,
            dispatch_ms=0.5,
        )
        for name, ms in (("fp32", 2.0), ("bf16", 1.0))
    )
    return Problem(blocks, targets, (f"v{count - 1}",), ("x",))


def test_the_least_sensitive_blocks_go_first() -> None:
    problem = network()
    shares = {(f"b{i}", Precision.BF16): 4.0**-i for i in range(8)}
    curve = tradeoff_curve(problem, shares)
    assert [point.placement.predicted_ms for point in curve] == [16.5 - k for k in range(9)]
    for lowered, point in enumerate(curve):
        low = {block for block, target in point.placement.targets.items() if target == 1}
        assert low == {f"b{i}" for i in range(8 - lowered, 8)}
        assert point.relative_l2 == pytest.approx(
            math.sqrt(sum(4.0**-i for i in range(8 - lowered, 8)))
        )
    described = tradeoffs(problem, curve)
    assert described[0].description == "cpu/a: fp32"
    assert (described[0].lowered_ops, described[0].relative_l2) == (0, 0.0)
    assert described[3].description == "cpu/a: bf16 in 3 of 8 blocks"
    assert (described[3].lowered_ops, described[3].latency_ms) == (6, 13.5)
    assert described[3].basis is Basis.PREDICTED
    best = best_within(curve, 0.15)
    assert best is not None
    assert best.placement.predicted_ms == 11.5  # the squares of 2^-3 to 2^-7 add to 0.144^2


def test_few_points() -> None:
    shares = {(f"b{i}", Precision.BF16): 4.0**-i for i in range(8)}
    curve = tradeoff_curve(network(), shares, most=4)
    assert len(curve) == 4
    assert (curve[0].relative_l2, curve[-1].placement.predicted_ms) == (0.0, 8.5)


def test_a_block_of_unknown_error_keeps_its_precision() -> None:
    problem = network(3)
    curve = tradeoff_curve(problem, {("b0", Precision.BF16): 1e-6})
    assert [list(point.placement.targets.values()) for point in curve] == [[0, 0, 0], [1, 0, 0]]
    fastest = place(problem)[0]
    assert predicted_error(problem, fastest, {}) == math.inf
    only_low = replace(problem, targets=problem.targets[1:])
    with pytest.raises(UnsupportedError, match="no target may run it"):
        tradeoff_curve(only_low, {("b0", Precision.BF16): 1e-6})


def test_where_nothing_can_be_had_by_it() -> None:
    problem = network(3)
    problem = replace(problem, targets=problem.targets[:1])
    (point,) = tradeoff_curve(problem, {})
    assert point == CurvePoint(place(problem)[0], 0.0)


def test_a_block_that_only_runs_in_lower_precision() -> None:
    problem = network(3)
    full = problem.targets[0]
    some = replace(full, blocks={b: c for b, c in full.blocks.items() if b != "b1"})
    problem = replace(problem, targets=(some, problem.targets[1]))
    shares = {(f"b{i}", Precision.BF16): 1e-6 for i in range(3)}
    curve = tradeoff_curve(problem, shares)
    assert curve[0].relative_l2 == pytest.approx(1e-3)
    assert curve[0].placement.targets == {"b0": 0, "b1": 1, "b2": 0}
    assert [len(point.placement.stages) for point in curve] == [1] * len(curve)


def test_limited_stages() -> None:
    problem = network(4)
    apart = replace(problem, targets=tuple(replace(t, mixes=False) for t in problem.targets))
    shares = {(f"b{i}", Precision.BF16): 4.0**-i for i in range(4)}
    free = tradeoff_curve(apart, shares)
    assert max(len(point.placement.stages) for point in free) == 2
    ends = tradeoff_curve(apart, shares, max_stages=1)
    assert [point.placement.predicted_ms for point in ends] == [8.5, 4.5]
    halves = tuple(
        replace(t, blocks={b: t.blocks[b] for b in names})
        for t, names in zip(apart.targets, (("b0", "b1"), ("b2", "b3")), strict=True)
    )
    with pytest.raises(UnsupportedError, match="at most 1 stage"):
        tradeoff_curve(replace(apart, targets=halves), shares, max_stages=1)


def test_errors_add_in_squares() -> None:
    problem = network(2)
    placement: Placement = place(problem)[0]
    shares = {("b0", Precision.BF16): 9e-6, ("b1", Precision.BF16): 16e-6}
    assert predicted_error(problem, placement, shares) == pytest.approx(5e-3)
