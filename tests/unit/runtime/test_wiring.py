"""Buffers between stages: who shares memory with whom."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from dioe.runtime.wiring import can_bind_once, shared_buffers, size_bytes
from dioe.types import TensorSpec

DTYPES = ("float32", "float16", "int64", "bool")


def spec(*shape: int | str, dtype: DTypeLike = "float32", kind: str = "tensor") -> TensorSpec:
    return TensorSpec("v", np.dtype(dtype), shape, kind)


@st.composite
def lives(draw: st.DrawFn) -> dict[str, tuple[TensorSpec, int, int]]:
    found = {}
    for i in range(draw(st.integers(0, 12))):
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        first = draw(st.integers(0, 6))
        last = first + draw(st.integers(0, 4))
        found[f"v{i}"] = (spec(*shape, dtype=draw(st.sampled_from(DTYPES))), first, last)
    return found


@given(lives())
def test_values_that_live_at_once_never_share_memory(
    lives: dict[str, tuple[TensorSpec, int, int]],
) -> None:
    buffers = shared_buffers(lives)
    assert buffers.keys() == lives.keys()
    for name, (form, _, _) in lives.items():
        assert buffers[name].shape == form.shape
        assert buffers[name].dtype == form.dtype
        assert buffers[name].ctypes.data % 64 == 0 or not buffers[name].size
        assert buffers[name].nbytes == size_bytes(form)
    for a, b in itertools.combinations(lives, 2):
        apart = lives[a][2] < lives[b][1] or lives[b][2] < lives[a][1]
        assert apart or not np.shares_memory(buffers[a], buffers[b])


def test_memory_is_used_again() -> None:
    big, small = spec(100), spec(10)
    chain = {"a": (big, 0, 1), "b": (small, 1, 2), "c": (small, 2, 3), "d": (big, 4, 5)}
    buffers = shared_buffers(chain)
    assert np.shares_memory(buffers["a"], buffers["c"])
    assert np.shares_memory(buffers["a"], buffers["d"])
    assert not np.shares_memory(buffers["a"], buffers["b"])


def test_what_can_be_bound_once() -> None:
    import ml_dtypes

    assert can_bind_once(spec(2, 3))
    assert can_bind_once(spec())
    assert can_bind_once(spec(2, dtype=ml_dtypes.bfloat16))
    assert not can_bind_once(spec(2, dtype=ml_dtypes.int4))
    assert not can_bind_once(spec(2, "N"))
    assert not can_bind_once(spec(2, dtype=object))
    assert not can_bind_once(spec(2, kind="sequence"))
