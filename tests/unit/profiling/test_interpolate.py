"""Between measured costs: exact at the points, monotone where they are, careful beyond them."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dioe.profiling import interpolate
from dioe.types import InputError

WORK = st.floats(1e-3, 1e15)
MS = st.floats(0, 1e7)
POINTS = st.lists(st.tuples(WORK, MS), min_size=1, max_size=8, unique_by=lambda point: point[0])


@st.composite
def rising(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Points whose times grow with the work, in any order."""
    points = draw(POINTS)
    times = sorted(ms for _, ms in points)
    ordered = list(zip(sorted(work for work, _ in points), times, strict=True))
    return draw(st.permutations(ordered))


@given(POINTS)
def test_exact_at_the_points(points: list[tuple[float, float]]) -> None:
    assert [interpolate(points, work) for work, _ in points] == [ms for _, ms in points]


@given(rising(), WORK, WORK)
def test_monotone_if_the_points_are(
    points: list[tuple[float, float]], one: float, other: float
) -> None:
    low, high = interpolate(points, min(one, other)), interpolate(points, max(one, other))
    assert low <= high * (1 + 1e-9)


@given(POINTS, WORK)
def test_within_the_neighbours(points: list[tuple[float, float]], work: float) -> None:
    below = [ms for at, ms in sorted(points) if at <= work]
    above = [ms for at, ms in sorted(points) if at >= work]
    if below and above:
        low, high = sorted((below[-1], above[0]))
        assert low <= interpolate(points, work) <= high


@given(POINTS, st.floats(1.0, 1e6))
def test_beyond_at_least_constant_and_at_most_proportional(
    points: list[tuple[float, float]], factor: float
) -> None:
    points = [(work, max(ms, 1e-3)) for work, ms in points]
    (first_work, first_ms), (last_work, last_ms) = min(points), max(points)
    after = interpolate(points, last_work * factor)
    assert last_ms <= after <= last_ms * factor * (1 + 1e-9)
    before = interpolate(points, first_work / factor)
    assert first_ms / factor * (1 - 1e-9) <= before <= first_ms


@given(st.lists(WORK, min_size=2, max_size=5, unique=True), st.floats(0.1, 1.0), WORK)
def test_follows_a_power_of_the_work(works: list[float], power: float, work: float) -> None:
    points = [(at, 1e-2 * at**power) for at in works]
    # nearer ones lose the slope in rounding
    assume(all(b > a * 1.001 for a, b in itertools.pairwise(sorted(works))))
    assert interpolate(points, work) == pytest.approx(1e-2 * work**power, rel=1e-6)


@given(st.floats(5e-324, 1.7e308), st.floats(5e-324, 1.7e308), st.floats(0, 1.7e308))
def test_no_number_is_too_large(work: float, at: float, ms: float) -> None:
    assert math.isfinite(interpolate([(at, ms)], work))
    assert math.isfinite(interpolate([(at, ms), (1.0, 1.0)], work))


def test_one_point_goes_on_in_proportion() -> None:
    assert interpolate([(100.0, 2.0)], 400.0) == pytest.approx(8.0)
    assert interpolate([(100.0, 2.0)], 25.0) == pytest.approx(0.5)


def test_a_falling_end_goes_on_flat() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (4.0, 2.0)]
    assert interpolate(points, 100.0) == pytest.approx(2.0)
    assert interpolate(points, 0.01) == pytest.approx(5.0)


def test_a_steep_end_goes_on_in_proportion() -> None:
    points = [(1.0, 1.0), (2.0, 8.0)]
    assert interpolate(points, 4.0) == pytest.approx(16.0)
    assert interpolate(points, 0.5) == pytest.approx(0.5)


def test_points_of_the_same_work_count_as_their_median() -> None:
    points = [(1.0, 1.0), (2.0, 9.0), (2.0, 3.0), (2.0, 4.0)]
    assert interpolate(points, 2.0) == 4.0


@pytest.mark.parametrize(
    ("points", "work"),
    [
        ([], 1.0),
        ([(1.0, 1.0)], 0.0),
        ([(1.0, 1.0)], -1.0),
        ([(1.0, 1.0)], math.nan),
        ([(1.0, 1.0)], math.inf),
        ([(0.0, 1.0)], 1.0),
        ([(math.nan, 1.0)], 1.0),
        ([(1.0, -1.0)], 1.0),
        ([(1.0, math.inf)], 1.0),
        ([(1.0, math.nan)], 1.0),
    ],
)
def test_what_is_no_measurement_is_told(points: list[tuple[float, float]], work: float) -> None:
    with pytest.raises(InputError, match="interpolate") as caught:
        interpolate(points, work)
    assert caught.value.fix
