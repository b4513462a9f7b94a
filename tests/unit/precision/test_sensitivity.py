"""Sensitivities by block: found from groups, within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.precision import Sensitivity, lower, sensitivities
from dioe.precision.sensitivity import GROUPS, PARTS
from dioe.types import Precision, Precisions

BF16 = Precision.BF16


def blocks_of(count: int) -> list[tuple[str, ...]]:
    """``count`` blocks of one to three ops."""
    return [tuple(f"op{i}.{j}" for j in range(1 + i % 3)) for i in range(count)]


class Model:
    """A model whose errors add up in squares; counts how often it is evaluated."""

    def __init__(self, errors: Sequence[float], factor: Callable[[int], float] = lambda n: 1.0):
        self.errors = errors
        self.blocks = blocks_of(len(errors))
        self.factor = factor
        self.seen: list[tuple[int, ...]] = []

    def evaluate(self, precisions: Precisions) -> float:
        """The error of what these precisions lower; blocks are lowered whole or not at all."""
        chosen = []
        for index, ops in enumerate(self.blocks):
            found = {precisions.of(op) for op in ops}
            assert len(found) == 1
            if found == {BF16}:
                chosen.append(index)
        self.seen.append(tuple(chosen))
        total = math.sqrt(math.fsum(self.errors[i] ** 2 for i in chosen))
        return total * self.factor(len(chosen))

    def allowed(self, evaluations: int) -> Callable[[], bool]:
        """A budget of so many evaluations."""
        return lambda: len(self.seen) < evaluations

    def sensitivities(self, evaluations: int = 10**6, limit: float = 0.0) -> Sensitivity:
        return sensitivities(
            self.blocks, BF16, self.evaluate, budget=self.allowed(evaluations), limit=limit
        )


errors = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 0.1)), min_size=1, max_size=70)


def test_blocks_are_lowered_whole() -> None:
    blocks = blocks_of(4)
    precisions = lower(blocks, {3, 1}, BF16)
    assert precisions.default is Precision.FP32
    assert set(precisions.exceptions) == {*blocks[1], *blocks[3]}
    assert lower(blocks, (), BF16) == Precisions()


@given(errors)
def test_with_all_the_budget_each_error_is_found(values: list[float]) -> None:
    model = Model(values)
    found = model.sensitivities()
    for index, error in enumerate(values):
        assert math.sqrt(found.squared_errors[index]) == pytest.approx(error, abs=1e-9)
        assert found.alone(index) or error == 0
    assert found.predict(range(len(values))) == pytest.approx(math.hypot(*values))
    for check in found.checks:
        assert check.predicted == pytest.approx(check.measured)


@given(errors, st.integers(0, 60), st.sampled_from([0.0, 0.01, 0.1]))
def test_the_budget_is_kept(values: list[float], evaluations: int, limit: float) -> None:
    model = Model(values)
    found = model.sensitivities(evaluations, limit)
    assert found.evaluations == len(model.seen) <= evaluations
    assert len(set(model.seen)) == len(model.seen)
    # The groups are disjoint; what isn't in one has no finite error.
    members = [block for group in found.groups for block in group.blocks]
    assert len(members) == len(set(members))
    for index, squared in enumerate(found.squared_errors):
        assert math.isfinite(squared) == (index in members)
    # Squared errors are shared out, not made: the sum is that of what was measured.
    measured = math.fsum(group.error**2 for group in found.groups)
    assert math.fsum(found.squared_errors[i] for i in members) == pytest.approx(measured)


def test_one_dominating_block_is_found_in_few_evaluations() -> None:
    model = Model([0.05 if i == 41 else 1e-5 for i in range(64)])
    found = model.sensitivities(limit=0.01)
    assert found.alone(41)
    assert math.sqrt(found.squared_errors[41]) == pytest.approx(0.05)
    assert len(model.seen) == GROUPS + PARTS + 2
    assert found.predict(set(range(64)) - {41}) < 1e-3


def test_what_is_small_beside_the_limit_stays_whole() -> None:
    model = Model([1e-4] * 64)
    found = model.sensitivities(limit=0.01)
    assert len(found.groups) == len(model.seen) == GROUPS
    assert not any(map(found.alone, range(64)))


def test_a_division_that_is_cut_short_leaves_the_group() -> None:
    model = Model([0.01] * 64)
    found = model.sensitivities(GROUPS + 2)
    assert len(model.seen) == GROUPS + 2
    assert len(found.groups) == GROUPS
    assert found.squared_errors == pytest.approx([1e-4] * 64)


def test_blocks_that_break_the_outputs_are_isolated() -> None:
    for broken in (math.inf, math.nan):
        model = Model([0.001, 0.002, broken, 0.003] * 4)
        found = model.sensitivities()
        bad = {i for i, squared in enumerate(found.squared_errors) if math.isinf(squared)}
        assert bad == {2, 6, 10, 14}


def test_checks_tell_where_errors_do_not_add_up_in_squares() -> None:
    model = Model([0.01] * 16, factor=lambda count: 2.0 if count > 1 else 1.0)
    found = model.sensitivities()
    ratios = [check.measured / check.predicted for check in found.checks]
    assert ratios == pytest.approx([2.0] * 8)


def test_what_evaluating_raises_is_passed_on() -> None:
    def fails(precisions: Precisions) -> float:
        raise ValueError("no compiler")

    with pytest.raises(ValueError, match="no compiler"):
        sensitivities(blocks_of(3), BF16, fails, budget=lambda: True)


def test_no_blocks() -> None:
    assert Model([]).sensitivities().squared_errors == ()
