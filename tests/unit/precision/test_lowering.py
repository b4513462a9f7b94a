"""Choosing the blocks to lower: each claim verified, within the limit and the budget."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.precision import Curve, Sensitivity, knapsack, verified
from tests.unit.precision.test_sensitivity import BF16, Model

LIMIT = 0.01


def search(
    model: Model,
    gains: dict[int, float],
    *,
    known: Sensitivity | None = None,
    evaluations: int = 40,
    limit: float = LIMIT,
) -> Curve:
    """What the search finds with exact sensitivities, unless others are given."""
    known = known or Sensitivity(BF16, tuple(error**2 for error in model.errors))
    model.seen.clear()
    return verified(
        knapsack(gains, known), model.blocks, gains, known, limit, model.evaluate,
        budget=model.allowed(evaluations),
    )  # fmt: skip


def ones(model: Model) -> dict[int, float]:
    return dict.fromkeys(range(len(model.errors)), 1.0)


blocks = st.lists(
    st.tuples(st.one_of(st.just(0.0), st.floats(1e-6, 0.05)), st.floats(-0.1, 2.0)),
    min_size=1,
    max_size=40,
)


@given(blocks, st.integers(0, 30), st.floats(0.3, 3.0), st.randoms(use_true_random=False))
def test_only_what_was_verified_is_accepted(
    given_blocks: list[tuple[float, float]], evaluations: int, off: float, random: object
) -> None:
    errors, gains = zip(*given_blocks, strict=True)
    # The sensitivities are wrong by a factor, and errors depend on how many blocks are lowered.
    model = Model(errors, factor=lambda count: off * (1 + 0.3 * math.sin(count)))
    curve = search(model, dict(enumerate(gains)), evaluations=evaluations)
    assert len(model.seen) == len(curve.points) <= evaluations
    assert len(set(model.seen)) == len(model.seen)
    for point in curve.points:
        assert tuple(sorted(point.lowered)) in model.seen
        assert point.kept.isdisjoint(point.lowered)
        assert len(point.kept) + len(point.lowered) == len(errors)
        assert point.accepted == (point.measured <= LIMIT)
        assert all(gains[block] >= 0 for block in point.lowered)
    accepted = [point for point in curve.points if point.accepted]
    assert (curve.best is None) == (not accepted)
    if curve.best is not None:
        assert curve.best.measured <= LIMIT
        assert curve.best.saved_ms == max(point.saved_ms for point in accepted)


@given(st.lists(st.floats(1e-4, 0.05), min_size=1, max_size=40))
def test_where_the_model_is_exact_the_proposal_is_taken(errors: list[float]) -> None:
    model = Model(errors)
    curve = search(model, ones(model))
    known = Sensitivity(BF16, tuple(error**2 for error in errors))
    wanted = knapsack(ones(model), known)((LIMIT * (1 - 1e-9)) ** 2)
    if wanted:
        assert curve.best is not None
        assert len(curve.best.lowered) >= len(wanted)


@pytest.mark.parametrize("off", [0.3, 1.0, 3.0])
def test_the_model_is_corrected_by_what_was_seen(off: float) -> None:
    model = Model([0.002] * 60, factor=lambda count: off)
    curve = search(model, ones(model))
    fits = min(60, int((LIMIT / 0.002 / off) ** 2 + 1e-9))
    assert curve.scale == pytest.approx(off)
    assert curve.best is not None
    assert len(curve.best.lowered) == pytest.approx(fits, abs=1)
    assert len(model.seen) <= 12


def test_everything_is_lowered_where_it_may_be() -> None:
    model = Model([1e-4] * 30)
    curve = search(model, ones(model))
    assert len(model.seen) == 1
    assert curve.best is not None
    assert not curve.best.kept


def test_a_dominating_block_is_kept() -> None:
    model = Model([0.05 if i == 7 else 1e-4 for i in range(30)])
    curve = search(model, ones(model))
    assert curve.best is not None
    assert curve.best.kept == {7}


def test_nothing_may_be_lowered() -> None:
    model = Model([0.02] * 10)
    curve = search(model, ones(model))
    assert curve.best is None
    assert all(not point.accepted for point in curve.points)
    assert search(model, ones(model), evaluations=0) == Curve((), 1.0)
    assert search(model, {}) == Curve((), 1.0)
    assert model.seen == []


def test_what_saves_most_for_its_error_goes_first() -> None:
    model = Model([0.008, 0.008, 0.008])
    curve = search(model, {0: 1.0, 1: 3.0, 2: 2.0})
    assert curve.best is not None
    assert curve.best.lowered == {1}
    assert curve.best.saved_ms == 3.0


def test_what_slows_down_or_was_not_measured_stays() -> None:
    model = Model([0.001] * 4)
    known = Sensitivity(BF16, (1e-6, 1e-6, math.inf, 1e-6))
    curve = search(model, {0: 1.0, 1: -1.0, 2: 1.0}, known=known)
    assert curve.best is not None
    assert curve.best.lowered == {0}


def test_errors_that_cancel_out_are_found_beyond_the_limit() -> None:
    # By the model 25 blocks are too much; from 30 blocks on the error is less than before.
    model = Model([0.002] * 40, factor=lambda count: 0.5 if count >= 30 else 1.05)
    curve = search(model, ones(model))
    assert curve.best is not None
    assert len(curve.best.lowered) >= 30


def test_broken_outputs_are_never_accepted() -> None:
    for broken in (math.nan, math.inf):
        model = Model([broken, 0.001, 0.001])
        curve = search(model, ones(model), known=Sensitivity(BF16, (1e-8, 1e-6, 1e-6)))
        assert curve.best is None or 0 not in curve.best.lowered
        assert all(not math.isnan(point.measured) for point in curve.points)


def test_other_proposals_are_verified_as_well() -> None:
    model = Model([0.004] * 8)
    known = Sensitivity(BF16, tuple(error**2 for error in model.errors))

    def prefix(allowed: float) -> frozenset[int]:
        """Only leading blocks, as a plan that wants no change of precision in between."""
        return frozenset(i for i in range(8) if known.predict(range(i + 1)) ** 2 <= allowed)

    curve = verified(
        prefix, model.blocks, ones(model), known, LIMIT, model.evaluate, budget=lambda: True
    )
    assert curve.best is not None
    assert curve.best.lowered == {0, 1, 2, 3, 4, 5}
