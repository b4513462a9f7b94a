"""A pipeline of two models with a callable between them, and what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from dioe.runtime import Pipeline
from dioe.types import Array, Value
from tests.toys import models

DENSE = [models.dense(seed=seed) for seed in (0, 10)]
X = np.random.default_rng(7).standard_normal((5, 8)).astype(np.float32)


def positive(x: Array) -> Array:
    """Rows whose sum is above 0, and always the first."""
    kept = x.sum(axis=1) > 0
    kept[0] = True
    doubled: Array = x[kept] * np.float32(2)
    return doubled


def chain(**settings: Any) -> Pipeline:
    nodes = {"a": DENSE[0], "post": positive, "b": DENSE[1]}
    return Pipeline(nodes, [("a.y", "post.x"), ("post.out", "b.x")], **settings)


def by_hand(x: Array) -> Array:
    return models.dense_output(DENSE[1], positive(models.dense_output(DENSE[0], x)))


def close(value: Value, expected: Array) -> None:
    assert isinstance(value, np.ndarray)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
