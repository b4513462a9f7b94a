"""Outputs as what a test knows them to be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dioe.types import Array, Value


def tensor(outputs: Mapping[str, Value], name: str = "y") -> Array:
    """The output of that name, which is a numpy array."""
    value = outputs[name]
    assert isinstance(value, np.ndarray)
    return value


def close(value: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Assert that two arrays are alike but for rounding, dtype and shape included."""
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
