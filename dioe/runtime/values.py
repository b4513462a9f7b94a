"""Values on their way through a plan: as host arrays, as copies."""

from __future__ import annotations

import numpy as np

from dioe.types import Array, BackendError, Buffer, Value


def as_array(value: Value) -> Array:
    """The host array of a tensor value; raises BackendError for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Buffer):
        value.ready.wait()
        return value.numpy()
    raise BackendError(f"a tensor was expected, not {type(value).__name__}")


def owned(value: Value) -> Value:
    """A copy of ``value`` that stays valid when the request runs again."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [owned(item) for item in value]
    if isinstance(value, dict):
        return {key: owned(item) for key, item in value.items()}
    if isinstance(value, Buffer):
        return as_array(value).copy()
    return value
