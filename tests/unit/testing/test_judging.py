"""How outputs are judged."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.testing.judging import (
    LIMITS,
    assert_outputs,
    assert_outputs_close,
    assert_outputs_drawn,
    assert_same,
    host,
    limit,
)
from dioe.testing.models import floats
from dioe.types import HostBuffer, Precision

X = floats(4, 5)


@pytest.mark.parametrize(
    ("found", "expected", "match"),
    [
        (X[:2], X, "shape"),
        (X.astype(np.float64), X, "float64"),
        (X * 1.01, X, "error 0.01"),
        (np.full_like(X, np.nan), X, "error inf"),
        ([X], X, "list"),
        (X, [X], "sequence"),
        ([X, X], [X], "2 of 1"),
        ([X * 2], [X], r"output\[0\]"),
        (None, X, "NoneType"),
        (X, None, "none"),
        (np.array([1, 2]), np.array([1, 3]), "error 0.5"),
        (np.array(["a"], object), np.array(["b"], object), "error 1"),
    ],
)
def test_what_differs(found: Any, expected: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        assert_same(found, expected, 1e-3)


def test_what_is_the_same() -> None:
    words = np.array(["a", "ü"], object)
    for found, expected in ((X * 1.00001, X), (HostBuffer(X), X), ([X, None], [X, None])):
        assert_same(found, expected, 1e-4)
    assert_same(words.astype(str), words, 0.0)
    assert_outputs({"a": X, "b": words}, {"a": X, "b": words}, 0.0)
    with pytest.raises(AssertionError):
        assert_outputs({"b": words, "a": X}, {"a": X, "b": words}, 0.0)


WORDS = np.array([["a", "ü"], ["", "long"]], object)
BFLOAT = X.astype(ml_dtypes.bfloat16)
INT4 = np.array([-8, 0, 7], np.int8).astype(ml_dtypes.int4)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (X * 1.0009, X),
        (X + 9e-8, X),
        ([X, X[0]], [X, X[0]]),
        ([], []),
        (None, None),
        (WORDS.astype(str), WORDS),
        (BFLOAT * ml_dtypes.bfloat16(1.008), BFLOAT),
        (INT4, INT4),
        (np.array([np.nan, np.inf, -np.inf]), np.array([np.nan, np.inf, -np.inf])),
        (np.array([True, False]), np.array([True, False])),
        (np.empty((0, 3)), np.empty((0, 3))),
        (np.array(2**63, np.uint64), np.array(2**63, np.uint64)),
    ],
)
def test_what_is_close(found: Any, expected: Any) -> None:
    assert_outputs_close({"y": found}, {"y": expected}, 1e-3, 1e-7)


@pytest.mark.parametrize(
    ("found", "expected", "match"),
    [
        (X * np.float32(1.002), X, "output 'y': 20 of 20 differ"),
        (np.where(X.min() == X, np.float32(9), X), X, "1 of 20 differ, 9.0 for -"),
        (X.astype(np.float64), X, "float64, not float32"),
        (X[:2], X, "shape"),
        ([X], [X, X], "1 of 2 elements"),
        ([X, X * 2], [X, X], r"output 'y'\[1\]"),
        (WORDS, WORDS[:, ::-1], "4 of 4 differ, a for ü"),
        (BFLOAT * ml_dtypes.bfloat16(1.03), BFLOAT, "differ"),
        (INT4[::-1], INT4, "2 of 3 differ, 7 for -8"),
        (np.array([np.inf]), np.array([3e38]), "inf for 3e\\+38"),
        (np.array([1.0]), np.array([np.nan]), "1.0 for nan"),
        (np.array([True]), np.array([False]), "True for False"),
        (np.array([3], np.uint8), np.array([4], np.uint8), "3 for 4"),
        (None, X, "NoneType"),
    ],
)
def test_what_is_not_close(found: Any, expected: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        assert_outputs_close({"y": found}, {"y": expected}, 1e-3, 1e-7)


def test_what_was_drawn_is_zeros_and_ones() -> None:
    coins = np.array([0, 1, 1, 0], np.float32)
    assert_outputs_drawn({"y": 1 - coins}, {"y": coins})
    for other, match in ((coins / 2, "0.5 was drawn"), (coins[:2], "shape"), (coins > 0, "bool")):
        with pytest.raises(AssertionError, match=match):
            assert_outputs_drawn({"y": other}, {"y": coins})
    with pytest.raises(AssertionError, match="nan"):
        assert_outputs_drawn({"y": coins * np.nan}, {"y": coins})


def test_limits_follow_the_narrowest_floats() -> None:
    assert limit(Precision.FP32, {"x": X}, {"y": X}) == LIMITS[Precision.FP32]
    half = X.astype(np.float16)
    assert limit(Precision.FP32, {"x": half}, {"y": X}) == 2 * 2.0**-10
    bfloat = [X.astype(ml_dtypes.bfloat16)]
    assert limit(Precision.FP32, {"x": X}, {"y": bfloat}) == 2 * 2.0**-7
    assert limit(Precision.FP32, {"x": X}, {"y": X}, quantised=True) == 5e-2
    assert limit(Precision.BF16, {"x": X}, {"y": X}) == 2e-2


def test_host() -> None:
    found = host([HostBuffer(X), X, None])
    assert found[0] is X
    assert found[1] is X
    assert found[2] is None
