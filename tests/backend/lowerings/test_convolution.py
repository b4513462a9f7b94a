"""Convolutions against ONNX Runtime: pads, strides, dilations, groups, ranks, zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.backend.lowerings.against import agree, model_of, ours, randoms, theirs

AUTO = ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
few = settings(max_examples=40, deadline=None)


@st.composite
def windows(draw: Any, ranks: tuple[int, ...] = (1, 2, 3)) -> tuple[list[int], dict[str, Any]]:
    """Sizes of a kernel, and attributes for it."""
    rank = draw(st.sampled_from(ranks))
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, found = draw(each), {}
    for name in ("strides", "dilations"):
        if draw(st.booleans()):
            found[name] = draw(each)
    auto = draw(st.sampled_from(AUTO))
    if auto != "NOTSET":
        found["auto_pad"] = auto
    elif draw(st.booleans()):
        found["pads"] = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    return kernel, found


@few
@given(windows(), st.sampled_from([1, 2]), st.booleans(), st.booleans(), st.integers(0, 9))
def test_conv(
    window: tuple[list[int], dict[str, Any]], group: int, bias: bool, constant: bool, seed: int
) -> None:
    kernel, attributes = window
    sizes = np.random.default_rng(seed).integers(7, 10, len(kernel)).tolist()
    if attributes.get("auto_pad", "").startswith("SAME"):
        attributes.pop("dilations", None)  # ONNX Runtime counts them otherwise
    agree(
        "Conv", randoms(2, 4, *sizes), randoms(6, 4 // group, *kernel),
        randoms(6) if bias else None, constant=(1, 2) if constant else (), group=group,
        opset=11, **attributes,
    )  # fmt: skip


@few
@given(
    windows(), st.sampled_from([1, 2]), st.booleans(), st.integers(0, 9), st.integers(0, 2),
    st.booleans(),
)  # fmt: skip
def test_conv_transpose(
    window: tuple[list[int], dict[str, Any]], group: int, bias: bool, seed: int, extra: int,
    shaped: bool,
) -> None:  # fmt: skip
    kernel, attributes = window
    rank = len(kernel)
    strides, dilations = (attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    sizes = np.random.default_rng(seed).integers(3, 6, rank).tolist()
    if extra:
        assume(extra < min(strides))  # ONNX Runtime refuses what is no larger than a dilation
        attributes["output_padding"] = [extra] * rank
        attributes.pop("auto_pad", None)
    if attributes.get("auto_pad", "").startswith("SAME"):
        # ONNX Runtime's results are smaller where windows leave gaps
        assume(
            all((k - 1) * d + 1 >= s for k, d, s in zip(kernel, dilations, strides, strict=True))
        )
    if shaped and not extra:
        attributes.pop("pads", None)
        attributes["output_shape"] = [
            max(1, (size - 1) * stride + (k - 1) * dilation + 1 - cut)
            for size, stride, k, dilation, cut in zip(
                sizes, strides, kernel, dilations, (1, 0, 3), strict=False
            )
        ]
    feeds = (
        randoms(2, 4, *sizes), randoms(4, 6 // group, *kernel), randoms(6) if bias else None
    )  # fmt: skip
    model = model_of("ConvTranspose", feeds, 11, group=group, **attributes)
    (wanted,), (got,) = theirs(model, feeds), ours(model, feeds)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_conv_transpose_larger_than_its_windows_reach() -> None:
    # beyond them there is nothing but the bias
    feeds = (randoms(1, 2, 3, 3), randoms(2, 2, 2, 2), randoms(2))
    shape: dict[str, Any] = {"output_shape": [8, 9], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
    (got,) = ours(model_of("ConvTranspose", feeds, 11, **shape), feeds)
    (plain,) = ours(model_of("ConvTranspose", feeds, 11, strides=[2, 2]), feeds)
    np.testing.assert_array_equal(got[..., :6, :6], plain)
    np.testing.assert_array_equal(
        got[:, :, 6:, :], np.broadcast_to(feeds[2][:, None, None], (1, 2, 2, 9))
    )


@few
@given(
    windows((1, 2)), st.sampled_from([1, 2]), st.sampled_from([(0, 0), (3, 0), (3, 1), (3, 2)]),
    st.sampled_from([8, 200]), st.booleans(),
)  # fmt: skip
def test_conv_integer_is_exact(
    window: tuple[list[int], dict[str, Any]], group: int, zeros: tuple[int, int], channels: int,
    constant: bool,
) -> None:  # fmt: skip
    kernel, attributes = window
    attributes.pop("auto_pad", None)
    shift = None if not zeros[0] else np.array(7, np.uint8)
    shifts = [None, np.array(9, np.uint8), randoms(4, dtype=np.uint8)][zeros[1]]
    feeds = (
        randoms(1, channels, *[7] * len(kernel), dtype=np.uint8),
        randoms(4, channels // group, *kernel, dtype=np.uint8), shift, shifts,
    )  # fmt: skip
    at = (1, 3) if constant else ()
    model = model_of("ConvInteger", feeds, 10, constant=at, group=group, **attributes)
    (got,) = ours(model, feeds)
    if zeros[1] != 2:  # onnx.reference has no zero points of channels
        np.testing.assert_array_equal(got, theirs(model, feeds, reference=True)[0])
    plain = [feed.astype(np.float64) for feed in feeds[:2]]
    plain[0] -= 0 if shift is None else shift
    plain[1] -= 0 if shifts is None else shifts.reshape(-1, *[1] * (len(kernel) + 1))
    exact = ours(model_of("Conv", plain, 10, group=group, **attributes), plain)[0]
    np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("constant", [(), (3, 5, 8)])
@pytest.mark.parametrize("group", [1, 2])
def test_qlinear_conv(dtype: Any, constant: Any, group: int) -> None:
    one = np.array
    scales = np.linspace(0.01, 0.03, 6, dtype=np.float32)
    (got,) = agree(
        "QLinearConv", randoms(2, 4, 9, 9, dtype=dtype), one(0.05, np.float32), one(5, dtype),
        randoms(6, 4 // group, 3, 3, dtype=dtype), scales, np.zeros(6, dtype),
        one(1.5, np.float32), one(2, dtype), randoms(6, dtype=np.int32) * 50,
        constant=constant, group=group, pads=[1, 0, 1, 2], strides=[2, 1], opset=10,
        rtol=0, atol=1,
    )  # fmt: skip
    assert len(np.unique(got)) > 20


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("offset_group", [1, 2])
@pytest.mark.parametrize("mask", [False, True])
def test_deform_conv(group: int, offset_group: int, mask: bool) -> None:
    out = (4, 3)
    agree(
        "DeformConv", randoms(2, 4, 7, 6), randoms(6, 4 // group, 3, 2),
        randoms(2, offset_group * 12, *out), randoms(6),
        randoms(2, offset_group * 6, *out) if mask else None,
        group=group, offset_group=offset_group, strides=[2, 2], dilations=[1, 2],
        pads=[1, 0, 1, 1], opset=19, reference=True,
    )  # fmt: skip


def test_deform_conv_without_offsets_is_a_convolution() -> None:
    x, w = randoms(2, 4, 5, 6, 4), randoms(3, 4, 2, 3, 2)
    plain = ours(model_of("Conv", (x, w), 22), (x, w))[0]
    feeds = (x, w, np.zeros((2, 3 * 12, *plain.shape[2:]), np.float32))
    np.testing.assert_allclose(
        ours(model_of("DeformConv", feeds, 22), feeds)[0], plain, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("image", "block", "attributes"),
    [
        ([6, 7], [2, 3], {"strides": [2, 1]}),
        ([5, 5], [2, 2], {"pads": [1, 0, 2, 1]}),
        ([5, 5], [2, 2], {"pads": [1, 1, 1, 1], "dilations": [2, 1]}),
        ([8], [3], {"dilations": [2]}),
        ([4, 3, 5], [2, 1, 3], {"strides": [1, 2, 1]}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("constant", [(), (1, 2)])
def test_col2im(
    image: list[int], block: list[int], attributes: dict[str, Any], dtype: Any, constant: Any
) -> None:
    rank = len(image)
    pads = attributes.get("pads", [0] * 2 * rank)
    counts = [
        (size + pads[i] + pads[rank + i] - (kernel - 1) * dilation - 1) // stride + 1
        for i, (size, kernel, dilation, stride) in enumerate(
            zip(
                image, block, attributes.get("dilations", [1] * rank),
                attributes.get("strides", [1] * rank), strict=True,
            )
        )
    ]  # fmt: skip
    agree(
        "Col2Im", randoms(2, 3 * int(np.prod(block)), int(np.prod(counts)), dtype=dtype),
        np.array(image), np.array(block), constant=constant, opset=18,
        reference=True, **attributes,
    )  # fmt: skip
