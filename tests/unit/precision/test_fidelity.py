"""The fidelity rule, against the formula written out in plain Python."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dioe.precision import Comparison, compare, relative_l2, untold
from dioe.types import Array, HostBuffer, Value

usual = st.floats(-1e6, 1e6, allow_subnormal=False)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)


def vectors(elements: st.SearchStrategy[Any] = usual) -> st.SearchStrategy[tuple[Array, Array]]:
    """An output and its reference."""
    return shapes.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float64, shape, elements=elements),
            hnp.arrays(np.float64, shape, elements=elements),
        )
    )


def formula(y: Array, r: Array) -> float:
    """||y - r|| / max(||r||, 1e-4 sqrt(n)), as architecture.md has it."""
    ys, rs = y.reshape(-1).tolist(), r.reshape(-1).tolist()
    difference = math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(ys, rs, strict=True)))
    norm = math.sqrt(math.fsum(b * b for b in rs))
    return difference / max(norm, 1e-4 * math.sqrt(len(rs)))


@given(vectors())
def test_the_formula(pair: tuple[Array, Array]) -> None:
    y, r = pair
    assert relative_l2(y, r) == pytest.approx(formula(y, r), rel=1e-9, abs=1e-300)
    assert relative_l2(r, r) == 0.0


@given(vectors(), st.integers(-8, 8))
def test_scale_does_not_matter_above_the_floor(pair: tuple[Array, Array], power: int) -> None:
    y, r = pair
    scale = 2.0**power
    assume(min(1.0, scale) * np.linalg.norm(r) > 1e-4 * math.sqrt(r.size))
    assert relative_l2(scale * y, scale * r) == pytest.approx(relative_l2(y, r), rel=1e-12)


@given(vectors())
def test_sign_and_order_do_not_matter(pair: tuple[Array, Array]) -> None:
    y, r = pair
    error = relative_l2(y, r)
    assert relative_l2(-y, -r) == error
    assert relative_l2(2 * r - y, r) == pytest.approx(error, rel=1e-6, abs=1e-9)  # too high or low
    flipped = relative_l2(y.reshape(-1)[::-1], r.reshape(-1)[::-1])
    assert flipped == pytest.approx(error, rel=1e-12)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_against_zeros_the_floor_counts(size: int) -> None:
    zeros = np.zeros(size)
    assert relative_l2(zeros, zeros) == 0.0
    # every element 1e-4 away from zero is an error of 1, whatever their number
    assert relative_l2(zeros + 1e-4, zeros) == pytest.approx(1.0)
    assert relative_l2(zeros - 1e-8, zeros) == pytest.approx(1e-4)


def test_numbers_whose_squares_overflow() -> None:
    r = np.array([1e300, -2e300, 3e300])
    assert relative_l2(r, r) == 0.0
    assert relative_l2(1.001 * r, r) == pytest.approx(1e-3)
    assert relative_l2(-r, r) == pytest.approx(2.0)
    top = np.full(3, np.finfo(np.float64).max)
    assert relative_l2(-top, top) == pytest.approx(2.0)
    assert relative_l2(1e300 * np.ones(2), np.zeros(2)) > 1e300
    assert relative_l2(1j * top, top + 0j) == pytest.approx(math.sqrt(2))
    single = np.array([3e38, -1e38], np.float32)
    assert relative_l2(-single, single) == pytest.approx(2.0)


odd = st.sampled_from([math.nan, math.inf, -math.inf])


@given(vectors(usual | odd))
def test_nan_and_infinity(pair: tuple[Array, Array]) -> None:
    y, r = pair
    error = relative_l2(y, r)
    assert not math.isnan(error)
    finite = np.isfinite(r)
    if np.array_equal(y[~finite], r[~finite], equal_nan=True) and np.isfinite(y[finite]).all():
        # where the reference has them too, the rest is compared
        rest = relative_l2(y[finite], r[finite])
        assert error == pytest.approx(rest, rel=1e-12)
    else:
        assert error == math.inf
    assert relative_l2(r, r) == 0.0


@pytest.mark.parametrize(
    ("y", "r", "reason"),
    [
        ([1, math.nan], [1, 2], "1 NaN or Inf where the reference has none"),
        ([math.inf, -math.inf], [1, 2], "2 NaN or Inf where the reference has none"),
        ([1, 2], [math.nan, 2], "finite where the reference has NaN or Inf"),
        ([math.nan, 2], [math.inf, 2], "other NaN or Inf than the reference"),
        ([math.inf], [-math.inf], "other NaN or Inf than the reference"),
        ([1, 2, 3], [1, 2], "shape [3], the reference has [2]"),
        ([[1, 2]], [1, 2], "shape [1, 2], the reference has [2]"),
        ([], [[]], "shape [0], the reference has [1, 0]"),
    ],
)
def test_why_an_error_is_infinite(y: list[Any], r: list[Any], reason: str) -> None:
    found = compare({"y": np.array(y, float)}, {"y": np.array(r, float)})
    assert found == Comparison(math.inf, "y", reason)


def test_only_nan_or_nothing() -> None:
    lost = np.array([math.nan, math.inf])
    assert relative_l2(lost, lost.copy()) == 0.0
    assert relative_l2(np.ones((0, 3)), np.ones((0, 3))) == 0.0
    assert relative_l2(np.array(2.0), np.array(1.0)) == 1.0


SMALL = st.integers(-8, 7)


@given(
    st.sampled_from([np.int64, np.int8, np.uint8, np.bool_, ml_dtypes.int4]),
    st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=20),
)
def test_whole_numbers_are_right_or_wrong(dtype: Any, pairs: list[tuple[int, int]]) -> None:
    y, r = (np.array(side).astype(dtype) for side in zip(*pairs, strict=True))
    wrong = sum(bool(a != b) for a, b in zip(y, r, strict=True))
    assert relative_l2(y, r) == pytest.approx(wrong / len(pairs))


def test_far_off_is_no_worse_than_near_for_whole_numbers() -> None:
    r = np.array([1, 2, 3, 4])
    assert relative_l2(r + np.array([0, 0, 0, 1]), r) == 0.25
    assert relative_l2(r + np.array([0, 0, 0, 2**40]), r) == 0.25
    # beyond what float64 tells apart
    large = np.array([2**63 - 1])
    assert relative_l2(large - 1, large) == 1.0


def test_strings() -> None:
    r = np.array(["cat", "dog", "", "naïve"], object)
    assert relative_l2(r.copy(), r) == 0.0
    assert relative_l2(np.array(["cat", "Dog", "", "naive"], object), r) == 0.5
    assert relative_l2(np.array(["cat", "dog", "", "naïve"]), r) == 0.0
    # of another kind than the reference, either way round
    numbers = np.arange(1.0, 5.0)
    assert relative_l2(numbers, r) == 1.0
    assert relative_l2(r, numbers) == math.inf
    assert relative_l2(r.astype(str), numbers) == math.inf


NARROW = [
    ml_dtypes.bfloat16,
    np.float16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float4_e2m1fn,
]


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_floats(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    r = rng.normal(size=(4, 50)).astype(dtype)
    y = (r.astype(np.float64) + rng.normal(scale=0.3, size=r.shape)).astype(dtype)
    expected = formula(y.astype(np.float64), r.astype(np.float64))
    assert 0.0 < expected < 1.0
    assert relative_l2(y, r) == pytest.approx(expected)
    # and against a wider reference
    assert relative_l2(y, r.astype(np.float32)) == pytest.approx(expected)


def test_nan_in_narrow_floats() -> None:
    r = np.array([1, 2, 3], ml_dtypes.bfloat16)
    assert relative_l2(np.array([1, 2, math.nan], ml_dtypes.bfloat16), r) == math.inf
    lost = np.array([1, 2, math.nan], ml_dtypes.float8_e4m3fn)
    assert relative_l2(lost, lost) == 0.0


def test_half_precision_does_not_overflow_while_comparing() -> None:
    r = np.full(1000, 60000, np.float16)
    assert relative_l2(-r, r) == pytest.approx(2.0)


def test_complex() -> None:
    r = np.array([3 + 4j, 1j], np.complex64)
    y = r + np.array([0, 0.5], np.complex64)
    assert relative_l2(y, r) == pytest.approx(0.5 / math.sqrt(26))
    assert relative_l2(np.array([complex(3, math.nan), 1j]), r) == math.inf


A = np.array([1.0, 2.0])
NEAR = np.array([1.0, 2.1])
ERROR = 0.1 / math.sqrt(5)


@pytest.mark.parametrize(
    ("value", "reference", "error"),
    [
        (None, None, 0.0),
        (None, A, math.inf),
        (A, None, math.inf),
        ([A, NEAR], [A, A], ERROR),
        ((A, A), [A, A], 0.0),
        ([A], [A, A], math.inf),
        ([A, None], [A, A], math.inf),
        ([], [], 0.0),
        (A, [A, A], math.inf),
        ([1.0, 2.0], A, math.inf),
        ([A, np.ones(3)], A, math.inf),
        ({"x": NEAR, "y": A}, {"y": A, "x": A}, ERROR),
        ([{1: 0.5}], [{1: 0.5}], 0.0),
        ([{1: 0.5}], [{2: 0.5}], math.inf),
        ({"x": A}, {"x": A, "y": A}, math.inf),
        ({"x": A}, A, math.inf),
        (A, {"x": A}, math.inf),
        (HostBuffer(NEAR), A, ERROR),
        (NEAR, HostBuffer(A), ERROR),
        ([HostBuffer(NEAR)], [A], ERROR),
        (HostBuffer(A), None, math.inf),
    ],
)
def test_values_of_any_kind(value: Value, reference: Value, error: float) -> None:
    found = compare({"y": value}, {"y": reference})
    assert found.error == pytest.approx(error)
    assert bool(found.reason) == math.isinf(error)
    assert found.output == ("y" if error else "")


def test_the_worst_output_counts() -> None:
    reference = {"a": A, "b": A, "c": A}
    outputs = {"a": A, "b": 1.1 * A, "c": 1.01 * A, "extra": A}
    found = compare(outputs, reference)
    assert found.output == "b"
    assert found.error == pytest.approx(0.1)
    del outputs["c"]
    assert compare(outputs, reference) == Comparison(math.inf, "c", "output is missing")
    assert compare({}, {}) == Comparison(0.0)


NAN = np.full((2, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("value", "tells"),
    [
        (np.zeros(3), True),
        (np.array([np.nan, 1.0]), True),
        (np.array([], np.float32), False),
        (np.empty((0, 3), np.int64), False),
        (NAN, False),
        (NAN.astype(ml_dtypes.bfloat16), False),
        (np.full(2, -np.inf), False),
        (np.array([True]), True),
        (np.array(["a"], dtype=object), True),
        (HostBuffer(NAN), False),
        ([NAN, np.zeros(1)], True),
        ([NAN, NAN], False),
        ([], False),
        ({"a": NAN}, False),
        ({1: 0.5}, True),
        (None, True),
    ],
)
def test_what_tells_nothing_of_accuracy(value: Any, tells: bool) -> None:
    others: list[dict[str, Value]] = [{"y": NAN, "z": np.ones(1)}] * 2
    assert untold([*others, {"y": value, "z": np.ones(1)}]) == (() if tells else ("y",))
    assert compare({"y": value}, {"y": value}).error == 0.0


def test_no_runs_tell_nothing_of_no_outputs() -> None:
    assert untold([]) == ()
