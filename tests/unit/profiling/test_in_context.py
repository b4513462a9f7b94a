"""A whole's time divided among its blocks by the backend's own per-op times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.profiling import in_context, op_costs
from dioe.types import OpTime

BLOCKS = {"front": ("conv", "relu"), "back": ("dense", "bias"), "end": ("softmax",)}
WORK = {"conv": 100.0, "relu": 1.0, "dense": 50.0, "bias": 1.0, "softmax": 2.0}


def op_time(*ops: str, ms: float, count: int = 4) -> OpTime:
    return OpTime("+".join(ops) or "reorder", "Any", ops, ms * count, count)


def test_shares_are_scaled_to_the_whole() -> None:
    times = [op_time("conv", "relu", ms=3.0), op_time("dense", ms=0.5), op_time("bias", ms=0.5)]
    assert in_context(times, BLOCKS, 2.0, WORK) == {"front": 1.5, "back": 0.5, "end": 0.0}


def test_times_are_means_of_a_run() -> None:
    times = [op_time("conv", ms=1.0, count=10), op_time("dense", ms=1.0, count=1)]
    found = in_context(times, BLOCKS, 2.0, WORK)
    assert found["front"] == found["back"] == 1.0


def test_a_group_over_several_blocks_is_its_main_ops() -> None:
    times = [op_time("relu", "dense", "softmax", ms=1.0), op_time("conv", ms=1.0)]
    assert in_context(times, BLOCKS, 4.0, WORK) == {"front": 2.0, "back": 2.0, "end": 0.0}


def test_what_belongs_to_no_op_is_spread_in_proportion() -> None:
    times = [op_time("conv", ms=3.0), op_time("dense", ms=1.0)]
    others = [op_time(ms=7.0), op_time("a constant", ms=1.0)]
    expected = in_context(times, BLOCKS, 8.0, WORK)
    assert in_context([*times, *others], BLOCKS, 8.0, WORK) == expected
    assert expected == {"front": 6.0, "back": 2.0, "end": 0.0}


@pytest.mark.parametrize("times", [[], [op_time(ms=1.0)], [op_time("conv", ms=0.0)]])
def test_without_times_the_work_decides(times: list[OpTime]) -> None:
    found = in_context(times, BLOCKS, 154.0, WORK)
    assert found == {"front": 101.0, "back": 51.0, "end": 2.0}
    assert in_context(times, BLOCKS, 5.0, {}) == {"front": 2.0, "back": 2.0, "end": 1.0}


def test_no_blocks() -> None:
    assert in_context([op_time("conv", ms=1.0)], {}, 1.0, WORK) == {}


def test_costs_of_ops() -> None:
    times = [
        op_time("conv", "relu", ms=3.0),
        op_time("conv", ms=1.0),
        op_time("elsewhere", ms=1.0),
        op_time("bias", "relu", ms=2.0),  # equals: the first
    ]
    assert op_costs(times, WORK) == {"conv": 4.0, "bias": 2.0}


@given(
    st.lists(
        st.builds(
            lambda ops, ms: op_time(*ops, ms=ms),
            st.lists(st.sampled_from([*WORK, "unknown"]), unique=True, max_size=4),
            st.floats(0, 1e3),
        ),
        max_size=8,
    ),
    st.floats(0, 1e3),
)
def test_the_blocks_add_up_to_the_whole(times: list[OpTime], whole_ms: float) -> None:
    found = in_context(times, BLOCKS, whole_ms, WORK)
    assert list(found) == list(BLOCKS)
    assert all(ms >= 0 for ms in found.values())
    assert sum(found.values()) == pytest.approx(whole_ms)
