"""Buckets of shapes, and what is concluded from measured ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.tuning.buckets import (
    CLEAR_MARGIN,
    EXACT_UP_TO,
    OPEN,
    Point,
    Ranking,
    between,
    bucket_of,
    in_words,
    is_near,
    nearest,
    predict,
    rank,
    rounded,
    work_of,
)
from dioe.types import Dim, TensorSpec

sizes = st.integers(min_value=0, max_value=2**40)


def spec(name: str, shape: tuple[Dim, ...] | None) -> TensorSpec:
    return TensorSpec(name, np.dtype(np.float32), shape)


def square(side: int) -> dict[str, tuple[int, ...]]:
    return {"x": (1, 3, side, side)}


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        *((0, 0), (1, 1), (7, 7), (8, 8), (9, 12), (12, 12), (13, 16), (16, 16), (17, 23)),
        *((24, 32), (33, 46), (320, 363), (480, 512), (512, 512), (640, 725), (960, 1024)),
    ],
)
def test_the_grid(size: int, bucket: int) -> None:
    assert rounded(size) == bucket


@given(sizes)
def test_rounding_goes_up_by_less_than_a_step_and_stays_there(size: int) -> None:
    up = rounded(size)
    assert up >= size
    assert rounded(up) == up
    if size <= EXACT_UP_TO:
        assert up == size
    else:
        assert up <= math.ceil(size * math.sqrt(2)) + 1


@given(sizes, sizes)
def test_rounding_keeps_the_order(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert rounded(low) <= rounded(high)


def test_only_open_dimensions_are_rounded() -> None:
    inputs = [spec("b", (None, 100)), spec("a", ("N", 3, "H", 50)), spec("c", None)]
    shapes = {"a": (2, 3, 100, 50), "b": (9, 100), "c": (100,)}
    assert bucket_of(inputs, shapes) == (("a", (2, 3, 128, 50)), ("b", (12, 100)), ("c", (128,)))


def test_work_is_the_elements_of_all_inputs() -> None:
    assert work_of({"a": (2, 3), "b": (), "c": (4,)}) == 11
    assert work_of({"a": (0, 3)}) == 1
    assert work_of({}) == 1


def test_near_is_a_factor_of_two_in_every_dimension() -> None:
    assert is_near(square(320), square(640))
    assert not is_near(square(320), square(641))
    assert not is_near({"x": (1, 100)}, {"x": (100, 1)})
    assert not is_near({"x": (1, 100)}, {"x": (100,)})
    assert not is_near({"x": (4,)}, {"y": (4,)})
    assert is_near({"x": (0, 4)}, {"x": (0, 4)})
    assert not is_near({"x": (0, 4)}, {"x": (1, 4)})


def test_a_ranking_has_the_cheapest_first_and_nothing_that_cannot_be_used() -> None:
    assert rank({"a": 2.0, "b": 1.0, "c": math.inf}, "s") == Ranking((("b", 1.0), ("a", 2.0)), "s")


@pytest.mark.parametrize(("open_ms", "first"), [(1.0, OPEN), (1.019, OPEN), (1.03, "a")])
def test_what_gains_nothing_over_open_shapes_is_left(open_ms: float, first: str) -> None:
    assert rank({"a": 1.0, OPEN: open_ms}, "").costs[0][0] == first


# --- predictions ---------------------------------------------------------------------------------

LOW = Point(square(320), {"a": 10.0, "b": 20.0})
HIGH = Point(square(640), {"a": 40.0, "b": 80.0})


def test_costs_are_interpolated_between_measured_neighbours() -> None:
    found = predict([LOW, HIGH], square(480), ["a", "b"])
    assert found is not None
    assert [name for name, _ in found.costs] == ["a", "b"]
    costs = dict(found.costs)
    assert costs["a"] == pytest.approx(22.5)  # proportional to the work, as both ends are
    assert costs["b"] == pytest.approx(45.0)
    assert found.source == "costs interpolated between x 1x3x320x320 and x 1x3x640x640"


def test_one_neighbour_of_as_much_work_is_enough() -> None:
    found = predict([HIGH], {"x": (1, 3, 800, 512)}, ["a", "b"])
    assert found is not None
    assert found.costs[0] == ("a", 40.0)


@pytest.mark.parametrize("side", [300, 700])
def test_nothing_is_predicted_beyond_what_was_measured(side: int) -> None:
    assert predict([LOW, HIGH], square(side), ["a", "b"]) is None


def test_far_away_points_predict_nothing() -> None:
    far = [Point({"x": (1, 100)}, {"a": 1.0}), Point({"x": (100, 100)}, {"a": 9.0})]
    assert predict(far, {"x": (10, 100)}, ["a"]) is None


@pytest.mark.parametrize(
    "costs",
    [
        {"a": 40.0, "b": 40.0 * CLEAR_MARGIN - 0.1},  # not clearly ahead
        {"a": 80.0, "b": 40.0},  # the other one is ahead
        {"a": 40.0},  # nobody knows about b
        {"a": math.inf, "b": math.inf},
    ],
)
def test_without_a_clear_winner_nothing_is_predicted(costs: dict[str, float]) -> None:
    assert predict([LOW, Point(square(640), costs)], square(480), ["a", "b"]) is None


def test_what_can_be_used_nowhere_does_not_matter() -> None:
    ends = [Point(end.shapes, {**end.costs, "b": math.inf}) for end in (LOW, HIGH)]
    found = predict(ends, square(480), ["a", "b"])
    assert found is not None
    assert [name for name, _ in found.costs] == ["a"]


def test_open_shapes_are_predicted_where_they_were_measured_at_both_ends() -> None:
    ends = [Point(end.shapes, {**end.costs, OPEN: end.costs["a"]}) for end in (LOW, HIGH)]
    found = predict(ends, square(480), ["a", "b"])
    assert found is not None
    assert found.costs[0][0] == OPEN
    found = predict([LOW, ends[1]], square(480), ["a", "b"])
    assert found is not None
    assert OPEN not in dict(found.costs)


@given(
    st.lists(st.floats(0.01, 1e4), min_size=4, max_size=4),
    st.integers(min_value=321, max_value=639),
)
def test_a_prediction_lies_between_its_neighbours(costs: list[float], side: int) -> None:
    low = Point(square(320), {"a": costs[0], "b": costs[1]})
    high = Point(square(640), {"a": costs[2], "b": costs[3]})
    found = predict([low, high], square(side), ["a", "b"])
    if found is None:
        return
    for name, ms in found.costs:
        ends = sorted((low.costs[name], high.costs[name]))
        assert ms is not None
        assert ends[0] <= ms <= ends[1]
    first = found.costs[0][0]
    assert all(end.costs[first] == min(end.costs.values()) for end in (low, high))


def test_costs_between_points() -> None:
    assert between([LOW, HIGH], "a", LOW.work) == 10.0
    assert between([LOW], "a", 2 * LOW.work) == pytest.approx(20.0)
    assert between([], "a", 1.0) == math.inf
    assert between([LOW, Point(square(640), {})], "a", 1.0) == math.inf


def test_the_nearest_point_is_one_that_stands_for_the_shape_if_there_is_one() -> None:
    other = Point({"x": (1, 3, 100, 2304)}, {"a": 1.0})  # exactly the work of 480 x 480
    assert nearest([other, HIGH], square(480)) is HIGH
    assert nearest([LOW, HIGH], square(600)) is HIGH
    assert nearest([other], square(480)) is other


def test_shapes_in_words() -> None:
    assert in_words({"x": (1, 3, 4), "y": ()}) == "x 1x3x4, y scalar"
