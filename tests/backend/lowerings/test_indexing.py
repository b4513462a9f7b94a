"""Parts picked or replaced by position: negative positions, unsigned types, reductions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe_torch.lowerings import OpFailed
from tests.backend.lowerings.graphs import (
    agree,
    counted,
    floats,
    ints,
    model_of,
    ours,
    traced,
)

few = settings(max_examples=60, deadline=None)

MOVED = ["bool", "int8", "uint16", "uint32", "uint64", "float16", "int64"]


# --- gathering -------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [2, -1, [0, -3, 2], [[1, -2], [0, 0]], []])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(indices: Any, axis: int) -> None:
    for dtype in (np.int64, np.int32):
        feeds = {"x": floats(4, 3, 5), "i": np.array(indices, dtype)}
        agree(f"y = Gather<axis={axis}>(x, i)", feeds, numbers="i")


@pytest.mark.parametrize("indices", [1, -2, [0, -1], [[1, 2]]])
def test_gather_rows_and_numbers(indices: Any) -> None:
    for x in (floats(3, 4), counted(3, dtype=np.int64)):
        agree("y = Gather(x, i)", {"x": x, "i": np.array(indices)}, numbers="i")


def test_gather_beyond() -> None:
    for i in (3, -4):
        feeds = {"x": floats(3, 4), "i": ints(0, i)}
        with pytest.raises(OpFailed, match="out of"):
            ours(model_of("y = Gather(x, i)", feeds), feeds)


@pytest.mark.parametrize("dtype", MOVED)
def test_gather_any_type(dtype: str) -> None:
    x = counted(4, 3).astype(dtype)
    i = np.array([[1, -1, 0], [2, 2, -4]])
    want = [np.take_along_axis(x, i % 4, 0), x[[1, -1]], x[[3, 0], [1, 2]], x[[0, 3]]]
    feeds = {"x": x, "i": i, "j": ints(1, -1), "k": np.array([[3, 1], [0, -1]])}
    feeds["c"] = np.array([True, False, False, True])
    text = """y0 = GatherElements(x, i) y1 = Gather(x, j) y2 = GatherND(x, k)
              y3 = Compress<axis=0>(x, c)"""
    agree(text, feeds, numbers="ijkc", want=want)


@few
@given(st.data())
def test_gather_elements(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    sizes = [data.draw(st.integers(0, size)) for size in shape]
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    feeds = {"x": floats(*shape), "i": draw.integers(-n, n, sizes)}
    agree(f"y = GatherElements<axis={axis}>(x, i)", feeds, numbers="i")


@few
@given(st.data())
def test_gather_nd(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    batch = data.draw(st.integers(0, min(2, len(shape) - 1)))
    width = data.draw(st.integers(1, len(shape) - batch))
    more = data.draw(st.lists(st.integers(1, 3), max_size=2))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    bounds = np.array(shape[batch : batch + width])
    indices = draw.integers(-bounds, bounds, (*shape[:batch], *more, width))
    if indices.ndim <= batch:
        return
    feeds = {"x": floats(*shape), "i": indices}
    agree(f"y = GatherND<batch_dims={batch}>(x, i)", feeds, opset=12)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress(axis: int | None) -> None:
    """A condition may be shorter than the axis."""
    attribute = "" if axis is None else f"<axis={axis}>"
    feeds = {"x": floats(3, 4), "c": np.array([False, True, True])}
    agree(f"y = Compress{attribute}(x, c)", feeds, numbers="c")


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float32", "uint16", "float16"])
def test_non_zero(dtype: str) -> None:
    x = (counted(3, 4) % 3).astype(dtype)
    agree("y = NonZero(x)", {"x": x}, want=[np.stack(np.nonzero(x)).astype(np.int64)])


def test_non_zero_without_axes() -> None:
    agree("y = NonZero(x)", {"x": np.array(3.0, np.float32)}, want=[np.zeros((0, 1), np.int64)])


def test_array_feature_extractor() -> None:
    for x in (floats(3, 4), floats(4)):
        feeds = {"x": x, "i": np.array([[0, 3, 1]])}
        agree("y = ai.onnx.ml.ArrayFeatureExtractor(x, i)", feeds, reference=True)


# --- slices ----------------------------------------------------------------------------------


@few
@given(st.data())
def test_slice(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in axes]
    near = st.integers(-7, 7)
    named = {
        "a": [data.draw(st.one_of(near, st.sampled_from([2**63 - 1, -(2**63)]))) for _ in axes],
        # as the text has it: the largest number is the end of what goes forward only
        "b": [data.draw(st.one_of(near, st.just(2**63 - 1 if d > 0 else -(2**63)))) for d in steps],
        "c": [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes],
        "d": steps,
    }
    feeds = {"x": floats(*shape), **{k: ints(*v) for k, v in named.items()}}
    agree("y = Slice(x, a, b, c, d)", feeds, opset=13, numbers="abcd")


def test_slice_of_old() -> None:
    x = floats(4, 5)
    agree("y = Slice<starts=[1, -3], ends=[9, -1]>(x)", {"x": x}, opset=9)
    agree("y = Slice<starts=[-2], ends=[1000], axes=[-1]>(x)", {"x": x}, opset=9)
    agree("y = Slice(x, a, b)", {"x": x, "a": ints(1, 2), "b": ints(3, 9)}, opset=10, numbers="ab")


@pytest.mark.parametrize("dtype", MOVED)
def test_slice_backwards_any_type(dtype: str) -> None:
    x = counted(6).astype(dtype)
    feeds = {"x": x, "a": ints(-1), "b": ints(-9), "c": ints(0), "d": ints(-2)}
    agree("y = Slice(x, a, b, c, d)", feeds, numbers="abcd", want=[x[::-2]])


# --- scattering ------------------------------------------------------------------------------


@few
@given(st.data(), st.sampled_from(["none", "add", "mul", "max", "min"]))
def test_scatter_elements(data: Any, reduction: str) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    indices: Any = draw.integers(-n, n, shape)
    if reduction == "none":  # no position twice
        order = np.argsort(draw.standard_normal(shape), axis=axis)
        indices = order - n * draw.integers(0, 2, shape)
    feeds = {"x": floats(*shape), "i": indices, "u": floats(*shape, seed=1)}
    text = f'y = ScatterElements<axis={axis}, reduction="{reduction}">(x, i, u)'
    agree(text, feeds, opset=18, numbers="i")


@few
@given(st.data(), st.sampled_from(["none", "add", "mul", "max", "min"]))
def test_scatter_nd(data: Any, reduction: str) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    width = data.draw(st.integers(1, len(shape)))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    bounds = np.array(shape[:width])
    count = data.draw(st.integers(1, 4))
    indices: Any = draw.integers(0, bounds, (count, width))
    if reduction == "none":
        indices = np.unique(indices, axis=0)
    indices = indices - bounds * draw.integers(0, 2, indices.shape)
    updates = floats(len(indices), *shape[width:], seed=3)
    feeds = {"x": floats(*shape), "i": indices, "u": updates}
    agree(f'y = ScatterND<reduction="{reduction}">(x, i, u)', feeds, opset=18, numbers="i")


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "int8", "float16"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_any_type(dtype: str, reduction: str) -> None:
    large = np.iinfo(dtype).max if dtype.startswith("uint") else 100
    x = np.array([1, large, 3, large - 1], dtype)
    u = np.array([large, 2, large], dtype)
    if dtype == "float16":
        u = u / np.float16(8)
    combine: dict[str, Any] = {
        "none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum,
        "min": np.minimum,
    }  # fmt: skip
    want = x.copy()
    want[[0, 3, 2]] = combine[reduction](x[[0, 3, 2]], u)
    text = f"""y0 = ScatterElements<reduction="{reduction}">(x, i, u)
               y1 = ScatterND<reduction="{reduction}">(x, j, u)"""
    feeds = {"x": x, "u": u, "i": ints(0, 3, -2), "j": np.array([[0], [3], [-2]])}
    agree(text, feeds, want=[want, want])


def test_scatter_one_element_by_one_index() -> None:
    feeds = {"x": floats(3, 4), "i": ints(1, -1), "u": floats()}
    want = feeds["x"].copy()
    want[1, -1] = feeds["u"]
    agree("y = ScatterND(x, i, u)", feeds, want=[want])


def test_scatter_of_old() -> None:
    feeds = {"x": floats(3, 4), "i": np.array([[2, -1]]), "u": floats(1, 2, seed=1)}
    want = feeds["x"].copy()
    want[0, [2, 3]] = feeds["u"][0]
    agree("y = Scatter<axis=1>(x, i, u)", feeds, opset=9, want=[want])


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode: str) -> None:
    first = ints(3, 0) if mode == "linear" else ints(4, 1)
    feeds = {"x": floats(2, 3, 5, 4), "u": floats(2, 3, 2, 4, seed=2), "i": first}
    agree(f'y = TensorScatter<mode="{mode}">(x, u, i)', feeds, opset=24, reference=True)
    agree(f'y = TensorScatter<mode="{mode}">(x, u)', feeds, opset=24, reference=True)


# --- masks and orders ------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-2, -1, 0, 1])
@pytest.mark.parametrize("kinds", [("int64", "int64"), ("float32", "float32"), ("int32", "int32")])
def test_one_hot(axis: int, kinds: tuple[str, str]) -> None:
    indices = np.array([[0, 3, -1], [5, 2, -6]], kinds[0])
    feeds = {"i": indices, "d": np.array([4], kinds[1]), "v": np.array([2, 7], np.float32)}
    agree(f"y = OneHot<axis={axis}>(i, d, v)", feeds, numbers="d")


def test_one_hot_of_one() -> None:
    feeds = {"i": np.array(2), "d": np.array(4), "v": np.array([0, 1], np.int64)}
    agree("y = OneHot(i, d, v)", feeds, numbers="d", want=[ints(0, 0, 1, 0)])


@pytest.mark.parametrize("k", [-4, -1, 0, 2, 9])
@pytest.mark.parametrize("dtype", ["float32", "bool", "uint16"])
def test_trilu(k: int, dtype: str) -> None:
    x = (counted(2, 3, 4) + 1).astype(dtype)
    feeds = {"x": x, "k": np.array(k)}
    text = "y0 = Trilu(x, k) y1 = Trilu<upper=0>(x, k) y2 = Trilu(x)"
    agree(text, feeds, numbers="k", want=[np.triu(x, k), np.tril(x, k), np.triu(x)])


def test_reverse_sequence() -> None:
    feeds = {"x": floats(4, 3, 2), "n": ints(1, 4, 2)}
    agree("y = ReverseSequence(x, n)", feeds)
    feeds = {"x": floats(3, 4, 2), "n": ints(1, 4, 2)}
    agree("y = ReverseSequence<batch_axis=0, time_axis=1>(x, n)", feeds)


@few
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_unique(shape: list[int], in_order: bool, by_axis: bool, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)
    axis = f", axis={len(shape) - 1}" if by_axis else ""
    text = f"y0, y1, y2, y3 = Unique<sorted={int(in_order)}{axis}>(x)"
    agree(text, {"x": x})
    agree(f"y = Unique<sorted={int(in_order)}{axis}>(x)", {"x": x})


@pytest.mark.parametrize(
    ("text", "feeds", "constant"),
    [
        ("y = Gather<axis=1>(x, i)", {"x": floats(3, 4), "i": ints(0, -1)}, ""),
        ("y = Gather(x, i)", {"x": floats(3, 4), "i": np.array(-1)}, ""),
        ("y = Gather(x, i)", {"x": floats(3, 4), "i": np.array(-1)}, "i"),
        ("y = GatherElements(x, i)", {"x": floats(3, 2), "i": np.array([[0, -1]])}, ""),
        ("y = GatherND(x, i)", {"x": floats(3, 4), "i": ints(0, -1)}, ""),
        ("y = Slice(x, a, b, c, d)", {"x": floats(5), "a": ints(-1), "b": ints(0), "c": ints(0),
                                      "d": ints(-2)}, "abcd"),
        ("y = ScatterND(x, i, u)", {"x": floats(3), "i": np.array([[1]]), "u": floats(1)}, ""),
        ('y = ScatterND<reduction="max">(x, i, u)',
         {"x": floats(3), "i": np.array([[1]]), "u": floats(1)}, ""),
        ("y = OneHot(x, d, v)", {"x": ints(1, 2), "d": np.array(3), "v": ints(0, 1)}, "d"),
        ("y = Trilu(x, k)", {"x": floats(3, 3), "k": np.array(1)}, "k"),
        ("y = ReverseSequence(x, n)", {"x": floats(3, 2), "n": ints(1, 3)}, ""),
        ("y = Compress(x, c)", {"x": floats(3), "c": np.array([True, False, True])}, "c"),
    ],
)  # fmt: skip
def test_traced(text: str, feeds: dict[str, Any], constant: str) -> None:
    traced(text, feeds, constant=constant)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max"])
@pytest.mark.parametrize("wrong", [[1, 3], [0, -4], [5, 0], [-6, 2]])
def test_scattering_beyond_an_axis_is_an_error(reduction: str, wrong: list[int]) -> None:
    text = f'y = ScatterND<reduction="{reduction}">(x, i, u)'
    feeds = {"x": floats(5, 3), "i": np.array([[2, 1], wrong]), "u": floats(2)}
    with pytest.raises(OpFailed, match="out of bounds"):
        ours(model_of(text, feeds), feeds)
