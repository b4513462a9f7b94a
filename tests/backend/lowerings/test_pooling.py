"""Pools against ONNX Runtime: pads, strides, dilations, partial windows, indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.lowerings.against import agree, model_of, ours, randoms

few = settings(max_examples=60, deadline=None)


@st.composite
def windows(draw: Any, dilated: bool = True) -> tuple[list[int], dict[str, Any]]:
    """Sizes of an image, and attributes for a pool over it."""
    rank = draw(st.sampled_from([1, 2, 3]))
    sizes = draw(st.lists(st.integers(7, 9), min_size=rank, max_size=rank))
    found: dict[str, Any] = {
        "kernel_shape": draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    }
    if draw(st.booleans()):
        found["strides"] = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    if dilated and draw(st.booleans()):
        found["dilations"] = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    auto = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto != "NOTSET":
        found["auto_pad"] = auto
        if auto != "VALID":  # else ONNX Runtime has pads of its own
            found.pop("dilations", None)
            found["strides"] = [1] * rank
            found["kernel_shape"] = [max(2, k) for k in found["kernel_shape"]]
            if draw(st.booleans()):
                found["strides"] = [2] * rank
    elif draw(st.booleans()):
        kernel = found["kernel_shape"]
        found["pads"] = [draw(st.integers(0, k - 1)) for k in kernel + kernel]
    if draw(st.booleans()):
        found["ceil_mode"] = 1
    return sizes, found


@few
@given(windows(), st.booleans(), st.sampled_from([np.float32, np.uint8, np.int8]), st.booleans())
def test_max_pool(
    window: tuple[list[int], dict[str, Any]], indices: bool, dtype: Any, by_column: bool
) -> None:
    sizes, attributes = window
    agree(
        "MaxPool", _distinct(2, 3, *sizes, dtype=dtype), opset=12,
        outputs=("Y", "I") if indices and dtype == np.float32 else ("Y",),
        storage_order=int(by_column), **attributes,
    )  # fmt: skip


def _distinct(*shape: int, dtype: Any) -> Any:
    """Values none of which is there twice, so that there is one largest."""
    if dtype != np.float32:
        return randoms(*shape, dtype=dtype)
    count = int(np.prod(shape))
    return np.random.default_rng(count).permutation(count).reshape(shape).astype(dtype)


@few
@given(windows(), st.booleans(), st.sampled_from([7, 10, 11, 19, 22]))
def test_average_pool(
    window: tuple[list[int], dict[str, Any]], with_pads: bool, opset: int
) -> None:
    sizes, attributes = window
    if opset < 19:
        attributes.pop("dilations", None)
    if opset < 10:
        attributes.pop("ceil_mode", None)
    agree(
        "AveragePool", randoms(2, 3, *sizes), opset=opset, count_include_pad=int(with_pads),
        **attributes,
    )  # fmt: skip


@few
@given(windows(), st.integers(1, 3), st.sampled_from([2, 11, 18, 22]))
def test_lp_pool(window: tuple[list[int], dict[str, Any]], p: int, opset: int) -> None:
    sizes, attributes = window
    if opset < 18:
        attributes.pop("dilations", None)
        attributes.pop("ceil_mode", None)
    agree("LpPool", randoms(2, 3, *sizes), opset=opset, p=p, **attributes)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 0, 1, 1, 1, 1, 0, 1]}, {"ceil_mode": 1}])
def test_four_axes(op: str, attributes: dict[str, Any]) -> None:
    x = randoms(1, 2, 5, 4, 5, 4)
    if op == "LpPool":
        x = np.abs(x)
    feeds, shape = (x,), [2, 2, 3, 2]
    (got,) = ours(model_of(op, feeds, 22, kernel_shape=shape, strides=[2] * 4, **attributes), feeds)
    # a pool over four axes is one over three, then one over the last
    pads = attributes.get("pads", [0] * 8)
    parts = [
        ({**attributes, "kernel_shape": shape[:3], "strides": [2] * 3}, pads[:3] + pads[4:7]),
        ({**attributes, "kernel_shape": shape[3:], "strides": [2]}, [pads[3], pads[7]]),
    ]
    y = np.moveaxis(x, -1, 2).reshape(1, 2 * 4, 5, 4, 5)
    for i, (each, around) in enumerate(parts):
        (y,) = ours(model_of(op, (y,), 22, **{**each, "pads": around}), (y,))
        if i == 0:
            out = y.shape[2:]
            y = np.moveaxis(y.reshape(1, 2, 4, *out), 2, -1).reshape(1, 2 * int(np.prod(out)), 4)
    np.testing.assert_allclose(got, y.reshape(got.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_global_pools(op: str, shape: tuple[int, ...]) -> None:
    attributes: dict[str, Any] = {"p": 3} if op == "GlobalLpPool" else {}
    agree(op, randoms(*shape), opset=11, **attributes)


@few
@given(windows(dilated=False))
def test_max_unpool_undoes_max_pool(window: tuple[list[int], dict[str, Any]]) -> None:
    sizes, attributes = window
    kernel = attributes["kernel_shape"]
    for name in ("auto_pad", "ceil_mode", "pads"):
        attributes.pop(name, None)
    attributes["strides"] = kernel  # so that windows don't overlap
    x = _distinct(2, 3, *sizes, dtype=np.float32) + 1
    y, index = ours(model_of("MaxPool", (x,), 12, ("Y", "I"), **attributes), (x,))
    agree("MaxUnpool", *_tight(x, y, index, kernel), opset=11, reference=True, **attributes)


def _tight(x: Any, y: Any, index: Any, kernel: list[int]) -> tuple[Any, Any]:
    """Indices as in an image that the windows cover without a rest."""
    covered = [2, 3, *(n * k for n, k in zip(y.shape[2:], kernel, strict=True))]
    return y, np.ravel_multi_index(np.unravel_index(index, x.shape), covered).astype(np.int64)


def test_max_unpool_to_a_larger_shape() -> None:
    x = np.array([[[[5, 6], [7, 8]]]], np.float32)
    index = np.array([[[[5, 7], [13, 15]]]], np.int64)
    for constant in ((), (2,)):
        agree(
            "MaxUnpool", x, index, np.array([1, 1, 5, 6]), constant=constant, opset=11,
            kernel_shape=[2, 2], strides=[2, 2], reference=True,
        )  # fmt: skip
