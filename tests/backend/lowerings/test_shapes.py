"""Shapes, padding and tensors out of numbers, where the node cases don't go."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe_torch.lowerings import OpFailed
from tests.backend.lowerings.graphs import agree, counted, floats, ints, model_of, ours, traced

few = settings(max_examples=60, deadline=None)

DTYPES = ["bool", "int8", "uint16", "uint32", "uint64", "float16", "complex64"]


# --- another shape ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((2, 3, 4), (0, -1)),
        ((2, 3, 4), (4, 0, -1)),
        ((1, 1), ()),
        ((0, 3), (-1, 0)),
        ((0, 3), (0, 5)),
        ((), (1, -1)),
    ],
)
def test_reshape(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    feeds = {"x": floats(*shape), "s": ints(*target)}
    agree("y = Reshape(x, s)", feeds, numbers="s", reference=True)


def test_reshape_as_written() -> None:
    x = floats(0, 3)
    feeds = {"x": x, "s": ints(3, 0)}
    agree("y = Reshape<allowzero=1>(x, s)", feeds, numbers="s", reference=True)
    y = floats(2, 3, 4)
    agree("y = Reshape<shape=[0, -1]>(x)", {"x": y}, opset=1, want=[y.reshape(2, 12)])


@pytest.mark.parametrize("axis", [-3, -1, 0, 2, 3])
def test_flatten(axis: int) -> None:
    agree(f"y = Flatten<axis={axis}>(x)", {"x": floats(2, 3, 4)})


def test_flatten_without_axes_or_elements() -> None:
    agree("y = Flatten<axis=0>(x)", {"x": floats()})
    agree("y = Flatten<axis=2>(x)", {"x": floats(2, 0, 3)})


def test_squeeze() -> None:
    x = floats(1, 3, 1, 2, 1)
    agree("y = Squeeze<axes=[0, -3]>(x)", {"x": x}, opset=11)
    agree("y = Squeeze(x)", {"x": x}, opset=11)
    agree("y = Squeeze(x)", {"x": x})
    agree("y = Squeeze(x, a)", {"x": x, "a": ints(-1, 0)}, numbers="a")
    with pytest.raises(OpFailed, match="no 1 to squeeze"):
        ours(model_of("y = Squeeze(x, a)", {"x": x, "a": ints(1)}), {"x": x, "a": ints(1)})


def test_unsqueeze() -> None:
    x = floats(3, 2)
    agree("y = Unsqueeze<axes=[3, 0]>(x)", {"x": x}, opset=11)
    agree("y = Unsqueeze(x, a)", {"x": x, "a": ints(-1, 1, 0)}, numbers="a")
    agree("y = Unsqueeze(x, a)", {"x": floats(), "a": ints(0)}, numbers="a")


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_moved(dtype: str) -> None:
    """Types that torch hardly computes with are moved all the same."""
    x = counted(2, 3, 4).astype(dtype)
    feeds = {"x": x, "p": ints(0, 1, 0, 1, 0, 2), "t": ints(1, 2, 1), "e": ints(2, 2, 3, 4)}
    want = [
        x.transpose(1, 0, 2),
        np.pad(x, ((0, 1), (1, 0), (0, 2))),
        np.tile(x, (1, 2, 1)),
        np.broadcast_to(x, (2, 2, 3, 4)),
        np.concatenate([x, x], 1),
        x[:, :1],
        x[:, 1:],
    ]
    text = """
        y0 = Transpose<perm=[1, 0, 2]>(x)  y1 = Pad(x, p)  y2 = Tile(x, t)  y3 = Expand(x, e)
        y4 = Concat<axis=-2>(x, x)         y5, y6 = Split<axis=1>(x, s)
    """
    agree(text, {**feeds, "s": ints(1, 2)}, numbers="ptes", want=want)


def test_shape_and_size() -> None:
    x = floats(2, 0, 4)
    text = "y0 = Shape(x) y1 = Shape<start=-2, end=-1>(x) y2 = Size(x) y3 = Shape<start=7>(x)"
    agree(text, {"x": x})
    agree("y0 = Shape(x) y1 = Size(x)", {"x": floats()})


# --- more or fewer ---------------------------------------------------------------------------


@few
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("=1x")), max_size=4),
    st.lists(st.integers(0, 3), max_size=2),
)
def test_expand(axes: list[tuple[int, str]], more: list[int]) -> None:
    """Sizes stay, are expanded from 1, or are 1 in the new shape."""
    x = floats(*(1 if how == "x" else size for size, how in axes))
    target = ints(*more, *(1 if how == "1" else size for size, how in axes))
    want = x * np.ones(tuple(target), np.float32)
    agree("y = Expand(x, s)", {"x": x, "s": target}, numbers="s", want=[want])


def test_expand_to_fewer_axes() -> None:
    agree("y = Expand(x, s)", {"x": floats(2, 1, 3), "s": ints(4, 1)}, numbers="s")


def test_tile() -> None:
    x = floats(2, 3)
    agree("y = Tile(x, r)", {"x": x, "r": ints(2, 0)}, numbers="r")
    feeds = {"x": x, "n": np.float32(3).reshape(1), "a": np.float32(1).reshape(1)}
    agree("y = Tile(x, n, a)", feeds, opset=1, numbers="na", want=[np.tile(x, (1, 3))])


def test_concat() -> None:
    feeds = {"a": floats(2, 0), "b": floats(2, 3)}
    agree("y = Concat(a, b)", feeds, opset=1, want=[feeds["b"]])
    agree("y = Concat<axis=1>(a, b, a)", feeds)


@pytest.mark.parametrize("size", [1, 3, 5, 6])
def test_split_into_shares(size: int) -> None:
    agree("y0, y1, y2 = Split<num_outputs=3>(x)", {"x": floats(size, 2)}, opset=18, reference=True)


def test_split_of_old() -> None:
    x = floats(2, 6)
    agree("y0, y1 = Split<axis=-1>(x)", {"x": x}, opset=11)
    agree("y0, y1 = Split<axis=1, split=[2, 4]>(x)", {"x": x}, opset=2, want=[x[:, :2], x[:, 2:]])
    sizes = {"x": x, "s": ints(5, 1, dtype=np.float32)}
    agree("y0, y1 = Split<axis=1>(x, s)", sizes, opset=1, want=[x[:, :5], x[:, 5:]])
    agree("y = Split<axis=1>(x, s)", {"x": x, "s": ints(6)}, opset=13, numbers="s")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_blocks(mode: str, dtype: str) -> None:
    x = counted(2, 12, 2, 3).astype(dtype)
    found = ours(model_of(f'y = DepthToSpace<blocksize=2, mode="{mode}">(x)', {"x": x}), {"x": x})
    blocks = x.reshape((2, 2, 2, 3, 2, 3) if mode == "DCR" else (2, 3, 2, 2, 2, 3))
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    want = blocks.transpose(order).reshape(2, 3, 4, 6)
    np.testing.assert_array_equal(found[0], want)
    text = f'y = SpaceToDepth<blocksize=2, mode="{mode}">(x)'
    agree(text, {"x": want}, opset=26 if mode == "DCR" else 28, want=[x])


# --- padding ---------------------------------------------------------------------------------


@few
@given(st.data(), st.sampled_from(["constant", "reflect", "edge", "wrap"]))
def test_pad(data: Any, mode: str) -> None:
    """Axes that shrink are cropped first; what is left is padded."""
    shape = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))
    amounts = [
        (data.draw(st.integers(-1, 2)), data.draw(st.integers(0 if size == 2 else -1, 2)))
        for size in shape
    ]
    x = floats(*shape)
    kept = x
    for axis, (before, after) in enumerate(amounts):
        low, high = max(-before, 0), shape[axis] - max(-after, 0)
        kept = np.take(kept, range(low, high), axis)
    added = [(max(b, 0), max(a, 0)) for b, a in amounts]
    fill = {"constant_values": 7} if mode == "constant" else {}
    feeds = {"x": x, "p": ints(*(b for b, _ in amounts), *(a for _, a in amounts))}
    feeds["v"] = np.array(7, np.float32)
    want = np.pad(kept, added, mode=mode, **fill)  # type: ignore[call-overload]
    agree(f'y = Pad<mode="{mode}">(x, p, v)', feeds, numbers="pv", want=[want])


def test_pad_of_some_axes() -> None:
    feeds = {"x": floats(2, 3, 4), "p": ints(1, 2, 0, 1), "a": ints(-1, 0)}
    agree('y = Pad<mode="edge">(x, p, , a)', feeds, numbers="pa")
    agree("y = Pad(x, p, , a)", feeds, numbers="pa")


def test_pad_of_old() -> None:
    x = floats(2, 3)
    agree("y = Pad<pads=[0, 1, 2, 0], value=1.5>(x)", {"x": x}, opset=2)
    want = np.pad(x, ((0, 2), (1, 0)))
    agree("y = Pad<paddings=[0, 1, 2, 0]>(x)", {"x": x}, opset=1, want=[want])


def test_pad_keeps_large_integers() -> None:
    feeds = {"x": ints(2**62 + 1), "p": ints(0, 1), "v": np.array(2**62 + 3)}
    agree("y = Pad(x, p, v)", feeds, numbers="pv", want=[ints(2**62 + 1, 2**62 + 3)])


def test_pad_with_bfloat16() -> None:
    x = counted(2, 2).astype(ml_dtypes.bfloat16)
    feeds = {"x": x, "p": ints(0, 0, 0, 1), "v": np.array(2.5, ml_dtypes.bfloat16)}
    want = np.pad(x, ((0, 0), (0, 1)), constant_values=2.5).view(np.uint16)
    agree("y = Pad(x, p, v)", feeds, numbers="pv", want=[want])


@pytest.mark.parametrize("target", [(4, 2), (3, 6), (7, 7), (1, 1)])
def test_center_crop_pad(target: tuple[int, int]) -> None:
    feeds = {"x": floats(2, 5, 4), "s": ints(*target)}
    text = "y = CenterCropPad<axes=[1, -1]>(x, s)"
    agree(text, feeds, opset=18, numbers="s", reference=True)


# --- out of numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("case", [(3, 9, 3), (10, 4, -2), (0, 1, 0.3), (2, 2, 1), (5, 1, 1)])
def test_range(dtype: str, case: tuple[float, float, float]) -> None:
    numbers = [np.array(max(v, 1) if v == 0.3 and "int" in dtype else v, dtype) for v in case]
    feeds = dict(zip("abc", numbers, strict=True))
    agree("y = Range(a, b, c)", feeds, opset=11, numbers="abc")
    agree("y = Range(a, b, c)", feeds, opset=11, numbers="a")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_range_of_half(dtype: Any) -> None:
    feeds = {k: np.array(v, dtype) for k, v in {"a": 1.0, "b": 400.0, "c": 1.0}.items()}
    want = np.arange(1, 400, dtype=np.float32).astype(dtype)
    want = want.view(np.uint16) if dtype is ml_dtypes.bfloat16 else want
    agree("y = Range(a, b, c)", feeds, opset=27, numbers="abc", want=[want])


def test_constant_of_shape() -> None:
    text = "y = ConstantOfShape<value = uint16[1] {40000}>(s)"
    for shape in ((2, 3), (0,), ()):
        want = np.full(shape, 40000, np.uint16)
        agree(text, {"s": ints(*shape)}, numbers="s", want=[want])
    agree("y = ConstantOfShape(s)", {"s": ints(2, 0)}, numbers="s")


@pytest.mark.parametrize("k", [-5, -1, 0, 2])
def test_eye_like(k: int) -> None:
    agree(f"y = EyeLike<k={k}, dtype=11>(x)", {"x": floats(3, 4)}, reference=True)
    agree(f"y = EyeLike<k={k}>(x)", {"x": counted(4, 2, dtype=np.int32)}, reference=True)


@pytest.mark.parametrize(
    ("text", "shape", "numbers"),
    [
        ("y = Reshape(x, s)", (2, 3, 4), (0, -1)),
        ("y = Expand(x, s)", (2, 1, 4), (3, 2, 5, 1)),
        ("y = Tile(x, s)", (2, 3), (2, 2)),
        ("y0, y1 = Split(x, s)", (3, 2), (1, 2)),
        ('y = Pad<mode="reflect">(x, s)', (3, 4), (1, 2, 1, 2)),
        ('y = Pad<mode="wrap">(x, s)', (1, 2, 3, 4), (0, 0, 1, 2, 0, 0, 1, 2)),
        ("y = Pad(x, s)", (3, 4), (1, -1, 1, 2)),
        ("y = EyeLike(x)", (3, 4), ()),
        ("c = ConstantOfShape(s) y = Add(x, c)", (2, 3), (2, 3)),
        ("y = Flatten<axis=2>(x)", (2, 3, 4), ()),
        ("y = Squeeze(x, s)", (1, 3, 1), (0, -1)),
        ("y = DepthToSpace<blocksize=2>(x)", (1, 8, 2, 2), ()),
        ("y = CenterCropPad(x, s)", (3, 4), (4, 2)),
    ],
)
def test_traced(text: str, shape: tuple[int, ...], numbers: tuple[int, ...]) -> None:
    feeds = {"x": floats(*shape), "s": ints(*numbers)}
    traced(text, feeds if numbers else {"x": feeds["x"]}, constant="s" if numbers else "")
