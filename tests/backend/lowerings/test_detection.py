"""Boxes and regions against ONNX Runtime and the reference, on random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.lowerings.graphs import agree, counted, floats, ints

few = settings(max_examples=40, deadline=None)


@few
@given(
    st.integers(0, 99),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1, 3, 1000]),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.sampled_from([None, 0.0, 0.5]),
)
def test_non_max_suppression(
    seed: int, centered: int, limit: int, overlap: float, least: float | None
) -> None:
    draw = np.random.default_rng(seed)
    feeds = {
        "b": draw.uniform(0, 1, (2, 20, 4)).astype(np.float32),
        # some scores are the same
        "s": (draw.integers(-4, 20, (2, 3, 20)) / 16).astype(np.float32),
        "m": np.array([limit]),
        "o": np.array([overlap], np.float32),
    }
    if least is not None:
        feeds["t"] = np.array([least], np.float32)
    text = (
        f"y = NonMaxSuppression<center_point_box = {centered}>(b, s, m, o{', t' * ('t' in feeds)})"
    )
    agree(text, feeds, opset=11, numbers=[name for name in "mot" if name in feeds])


def test_non_max_suppression_of_many_boxes() -> None:
    """More than are compared at once."""
    draw = np.random.default_rng(3)
    corner, size = draw.uniform(0, 60, (1, 2000, 2)), draw.uniform(1, 9, (1, 2000, 2))
    feeds = {
        "b": np.concatenate([corner, corner + size], -1).astype(np.float32),
        "s": draw.uniform(0, 1, (1, 1, 2000)).astype(np.float32),
        "m": np.array([2000]),
        "o": np.array([0.3], np.float32),
    }
    (got,) = agree("y = NonMaxSuppression(b, s, m, o)", feeds, opset=10)
    assert 256 < len(got) < 2000


def test_non_max_suppression_without_a_limit_gives_nothing() -> None:
    feeds = {"b": floats(1, 3, 4), "s": floats(1, 2, 3)}
    agree("y = NonMaxSuppression(b, s)", feeds, want=[np.zeros((0, 3), np.int64)])


def regions(draw: Any, count: int) -> Any:
    """Some of them partly outside of 8 x 10 pixels at half the scale."""
    low = draw.uniform(-3, 14, (count, 2))
    return np.concatenate([low, low + draw.uniform(0.2, 12, (count, 2))], 1).astype(np.float32)


@few
@given(
    st.integers(0, 99),
    st.sampled_from(["avg", "max"]),
    st.sampled_from(["half_pixel", "output_half_pixel"]),
    st.sampled_from([0, 1, 2]),
)
def test_roi_align(seed: int, mode: str, coordinates: str, samples: int) -> None:
    draw = np.random.default_rng(seed)
    feeds = {"x": floats(2, 3, 8, 10), "r": regions(draw, 4), "i": draw.integers(0, 2, 4)}
    text = f"""y = RoiAlign<mode = "{mode}", coordinate_transformation_mode = "{coordinates}",
                 output_height = 3, output_width = 2, sampling_ratio = {samples},
                 spatial_scale = 0.5>(x, r, i)"""
    agree(text, feeds, opset=16, reference=True, rtol=1e-3, atol=1e-4)


def test_roi_align_of_opset_10_and_of_nothing() -> None:
    feeds = {
        "x": floats(2, 3, 8, 10),
        "r": regions(np.random.default_rng(1), 3),
        "i": ints(1, 0, 1),
    }
    text = "y = RoiAlign<output_height = 2, output_width = 2, sampling_ratio = 2>(x, r, i)"
    agree(text, feeds, opset=10, rtol=1e-3, atol=1e-4)
    nothing = {"x": feeds["x"], "r": feeds["r"][:0], "i": feeds["i"][:0]}
    agree(text, nothing, opset=16, want=[np.zeros((0, 3, 2, 2), np.float32)])


def test_max_roi_pool() -> None:
    draw = np.random.default_rng(5)
    low = draw.integers(0, 8, (6, 2))
    high = np.minimum(low + draw.integers(0, 8, (6, 2)), [9, 7])
    rois = np.concatenate([draw.integers(0, 2, (6, 1)), low, high], 1).astype(np.float32)
    feeds = {"x": counted(2, 3, 8, 10), "r": rois}
    text = "y = MaxRoiPool<pooled_shape = [2, 3], spatial_scale = {scale}>(x, r)"
    agree(text.format(scale=1.0), feeds, opset=21, numbers="r")
    agree(text.format(scale=0.5), feeds, opset=21, numbers="r")
    feeds["r"][:, 3:] += 6  # beyond the edges
    agree(text.format(scale=1.0), feeds, opset=21, numbers="r")
