"""How outputs are judged."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.testing.judging import LIMITS, assert_outputs, assert_same, host, limit
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
