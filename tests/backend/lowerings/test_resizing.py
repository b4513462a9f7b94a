"""Resize in all its modes against the reference, Upsample and Resize-10 against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe_torch.lowerings.resampling import COORDINATES, NEAREST
from tests.backend.lowerings.graphs import (
    agree,
    counted,
    floats,
    ints,
    linked,
    model_of,
    theirs,
    traced,
    value,
)

few = settings(max_examples=150, deadline=None)

MODERN = [kind for kind in COORDINATES if kind != "tf_half_pixel_for_nn"]

UNEVEN = [kind for kind in MODERN if kind != "half_pixel_symmetric"]
"""Those whose positions the reference rounds once only; the node cases have the other one."""


def numbers(*values: float) -> Any:
    return np.array(values, np.float32)


def attributes(**named: Any) -> str:
    return ", ".join(f"{k} = {v!r}".replace("'", '"') for k, v in named.items())


@few
@given(st.data(), st.sampled_from(["nearest", "linear", "cubic"]), st.sampled_from(MODERN))
def test_to_sizes(data: Any, mode: str, coordinates: str) -> None:
    rank = data.draw(st.integers(1, 3))
    shape = data.draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank))
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank))
    named: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        named["nearest_mode"] = data.draw(st.sampled_from(NEAREST[:4]))
    elif coordinates != "tf_crop_and_resize":
        named["antialias"] = data.draw(st.integers(0, 1))
        named["exclude_outside"] = data.draw(st.integers(0, 1)) if mode == "cubic" else 0
    if mode == "cubic":
        named["cubic_coeff_a"] = data.draw(st.sampled_from([-0.75, -0.5]))
    if mode != "nearest" and coordinates == "pytorch_half_pixel":
        sizes = [max(size, 2) for size in sizes]  # the reference has another place for one alone
    feeds = {"x": floats(*shape), "n": ints(*sizes)}
    feeds["r"] = numbers(*[0.1317] * rank, *[0.8923] * rank)
    agree(
        f"y = Resize<{attributes(**named)}>(x, r, , n)", feeds, opset=19, numbers="rn",
        reference=True, rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@few
@given(st.data(), st.sampled_from(["nearest", "linear", "cubic"]), st.sampled_from(UNEVEN))
def test_by_scales(data: Any, mode: str, coordinates: str) -> None:
    """Scales that make no whole sizes, of images."""
    shape = [2, 1, *data.draw(st.lists(st.integers(4, 7), min_size=2, max_size=2))]
    scale = st.sampled_from([0.5, 0.6, 0.75, 1.0, 1.5, 1.7, 2.0, 3.0])
    scales = [1.0, 1.0, data.draw(scale), data.draw(scale)]
    named: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        named["nearest_mode"] = data.draw(st.sampled_from(NEAREST[:4]))
    feeds = {"x": floats(*shape), "s": numbers(*scales)}
    feeds["r"] = numbers(0, 0, 0.0137, -0.2171, 1, 1, 0.8113, 1.0917)
    agree(
        f"y = Resize<{attributes(**named, extrapolation_value=3.0)}>(x, r, s)", feeds, opset=19,
        numbers="rs", reference=True, rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_like_torch_and_not(rank: int, coordinates: str, mode: str) -> None:
    """What ``interpolate`` does itself, and what it doesn't, for all ranks."""
    shape = (2, 3, 4, 5, 3)[:rank]
    feeds = {"x": floats(*shape), "n": ints(2, 3, *[9, 4, 6][: rank - 2])}
    named = attributes(mode=mode, coordinate_transformation_mode=coordinates)
    agree(
        f"y = Resize<{named}>(x, , , n)", feeds, opset=19, numbers="n", reference=True,
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("axes", ["[2, 3]", "[-1, 2]"])
def test_aspect_ratio(policy: str, axes: str) -> None:
    feeds = {"x": floats(1, 2, 6, 8), "n": ints(5, 9)}
    text = f'y = Resize<axes = {axes}, mode = "linear", keep_aspect_ratio_policy = "{policy}">'
    if "-" not in axes:
        agree(f"{text}(x, , , n)", feeds, opset=18, numbers="n", reference=True, rtol=1e-4)
    else:
        positive = {"x": feeds["x"], "n": feeds["n"]}
        want = theirs(
            model_of(text.replace("-1", "3") + "(x, , , n)", positive, 18), positive, True
        )
        agree(f"{text}(x, , , n)", feeds, opset=18, numbers="n", want=want, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_integers_are_rounded_and_stay_within(dtype: str, mode: str) -> None:
    x = (counted(1, 1, 5, 6) * 8.7 - (128 if dtype == "int8" else 0)).astype(dtype)
    feeds = {"x": x, "n": ints(1, 1, 8, 7)}
    text = f'y = Resize<mode = "{mode}">(x, , , n)'
    # a half may be rounded up or down: it is one in float64, hardly in float32
    agree(text, feeds, opset=19, numbers="n", reference=True, rtol=0, atol=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric"])
def test_half(dtype: torch.dtype, coordinates: str) -> None:
    feeds = {"x": floats(1, 2, 5, 6), "n": ints(1, 2, 9, 4)}
    for mode in ("nearest", "linear", "cubic"):
        named = attributes(mode=mode, coordinate_transformation_mode=coordinates)
        model = model_of(f"y = Resize<{named}>(x, , , n)", feeds, 19, "n")
        (got,) = linked(model).run([value(feeds["x"]).to(dtype)])
        assert got.dtype == dtype
        np.testing.assert_allclose(
            got.float().numpy(), theirs(model, feeds, True)[0], rtol=0.05, atol=0.05
        )


def test_other_inputs() -> None:
    """An empty tensor, one whose sizes stay, one size after the other through the same op."""
    agree("y = Resize(x, , s)", {"x": floats(1, 0, 4), "s": numbers(1, 1, 2)}, opset=13,
          want=[floats(1, 0, 8)])  # fmt: skip
    x = floats(1, 2, 3)
    feeds = {"x": x, "r": numbers(), "s": numbers(), "n": ints(1, 2, 3)}
    agree("y = Resize(x, r, s, n)", feeds, opset=11, numbers="rsn", want=[x])
    model = model_of(
        'y = Resize<mode = "linear">(x, , s)', {"x": x, "s": numbers(1, 1, 2)}, 13, "s"
    )
    program = linked(model)
    for size in (3, 5, 4, 3):
        feeds = {"x": floats(1, 2, size)}
        (got,) = program.run([value(feeds["x"])])
        np.testing.assert_allclose(got.numpy(), theirs(model, feeds)[0], rtol=1e-5, atol=1e-6)


def test_half_pixel_of_tensorflow() -> None:
    """Of opset 11 only."""
    feeds = {"x": floats(1, 1, 4, 4), "s": numbers(1, 1, 2, 1.5)}
    text = """y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn",
                         nearest_mode = "floor">(x, r, s)"""
    agree(text, {**feeds, "r": numbers()}, opset=11, numbers="rs")


# --- of old ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 1.5, 2), (1, 1, 0.5, 0.7)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_of_opset_10(scales: tuple[float, ...], mode: str) -> None:
    feeds = {"x": floats(1, 2, 4, 6), "s": numbers(*scales)}
    agree(f'y = Resize<mode = "{mode}">(x, s)', feeds, opset=10, numbers="s")
    if min(scales) >= 1:
        agree(f'y = Upsample<mode = "{mode}">(x, s)', feeds, opset=9, numbers="s")
        text = f'y = Upsample<mode = "{mode}", scales = {[float(s) for s in scales]}>(x)'
        agree(text, {"x": feeds["x"]}, opset=8)


def test_of_opset_1() -> None:
    x = floats(1, 2, 3, 2)
    text = 'y = Upsample<mode = "nearest", height_scale = 2.0, width_scale = 3.0>(x)'
    agree(text, {"x": x}, opset=1, want=[x.repeat(2, 2).repeat(3, 3)])


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric"])
def test_traced(mode: str, coordinates: str) -> None:
    named = attributes(mode=mode, coordinate_transformation_mode=coordinates)
    feeds = {"x": floats(1, 2, 5, 6), "n": ints(1, 2, 9, 4)}
    traced(f"y = Resize<{named}>(x, , , n)", feeds, constant="n")


# --- sampled at positions ----------------------------------------------------------------------


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, corners: int) -> None:
    named = attributes(mode=mode, padding_mode=padding, align_corners=corners)
    for shape, size in (((2, 3, 4, 5), (3, 2, 2)), ((1, 2, 3, 4, 3), (2, 3, 2, 3))):
        if len(shape) == 5 and mode == "cubic":
            continue  # torch has it for images only
        grid = np.random.default_rng(3).uniform(-1.4, 1.4, (shape[0], *size)).astype(np.float32)
        feeds = {"x": floats(*shape), "g": grid}
        agree(f"y = GridSample<{named}>(x, g)", feeds, opset=20, rtol=1e-3, atol=1e-4)


def test_grid_sample_of_lines_and_integers() -> None:
    grid = np.random.default_rng(3).uniform(-1.4, 1.4, (2, 6, 1)).astype(np.float32)
    for mode in ("linear", "nearest"):
        feeds = {"x": floats(2, 3, 5), "g": grid}
        text = f'y = GridSample<mode = "{mode}">(x, g)'
        agree(text, feeds, opset=20, reference=True, rtol=1e-4)
    feeds = {
        "x": counted(1, 2, 4, 4, dtype=np.int32),
        "g": grid[:1, :6, [0, 0]].reshape(1, 2, 3, 2),
    }
    agree('y = GridSample<mode = "nearest">(x, g)', feeds, opset=20, reference=True)


@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 2, 3, 4)])
@pytest.mark.parametrize("corners", [0, 1])
def test_affine_grid(size: tuple[int, ...], corners: int) -> None:
    feeds = {"t": floats(2, len(size) - 2, len(size) - 1), "n": ints(*size)}
    text = f"y = AffineGrid<align_corners = {corners}>(t, n)"
    agree(text, feeds, opset=20, numbers="n", reference=True, rtol=1e-4, atol=1e-5)
