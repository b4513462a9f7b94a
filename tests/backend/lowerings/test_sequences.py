"""Sequences and optional values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dioe_torch.lowerings import OpFailed
from tests.backend.lowerings.graphs import agree, floats, ints, model_of, ours

MADE = "s = SequenceConstruct(a, b, c) "


def three() -> dict[str, Any]:
    return {name: floats(2, seed=i) for i, name in enumerate("abc")}


@pytest.mark.parametrize("position", [0, 2, -1, -3])
def test_at_and_erase(position: int) -> None:
    feeds = {**three(), "p": np.array(position)}
    text = MADE + "y0 = SequenceAt(s, p)  y1 = SequenceErase(s, p)  y2 = SequenceLength(y1)"
    agree(text, feeds, numbers="p")


@pytest.mark.parametrize("position", [0, 3, -1, -3])
def test_insert(position: int) -> None:
    feeds = {**three(), "p": np.array(position), "d": floats(3)}
    agree(MADE + "y0 = SequenceInsert(s, d, p)  y1 = Identity(s)", feeds, numbers="p")


def test_at_the_back() -> None:
    agree(MADE + "y0 = SequenceInsert(s, a)  y1 = SequenceErase(s)", three())


@pytest.mark.parametrize("text", ["y = SequenceAt(s, p)", "y = SequenceErase(s, p)"])
@pytest.mark.parametrize("position", [3, -4])
def test_beyond(text: str, position: int) -> None:
    feeds = {**three(), "p": np.array(position)}
    with pytest.raises(OpFailed, match="position"):
        ours(model_of(MADE + text, feeds), feeds)


def test_empty() -> None:
    text = "s = SequenceEmpty<dtype = 7>()  y0 = SequenceLength(s)  y1 = SequenceInsert(s, x)"
    agree(text, {"x": ints(1, 2)})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("split", [2, 5, [1, 2, 2], None])
def test_split(axis: int, split: Any) -> None:
    x = floats(5, 5)
    if split is None:
        for keep in (0, 1):
            agree(f"y = SplitToSequence<axis = {axis}, keepdims = {keep}>(x)", {"x": x})
    else:
        feeds = {"x": x, "n": np.array(split)}
        agree(f"y = SplitToSequence<axis = {axis}>(x, n)", feeds, numbers="n")


def test_split_as_written_keeps_the_axis() -> None:
    feeds = {"x": floats(4, 3), "n": np.array(2)}
    want = [[feeds["x"][:2], feeds["x"][2:]]]
    agree("y = SplitToSequence<keepdims = 0>(x, n)", feeds, numbers="n", want=want)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("new", [0, 1])
def test_concat(axis: int, new: int) -> None:
    feeds = {name: floats(2, 3, seed=i) for i, name in enumerate("abc")}
    agree(MADE + f"y = ConcatFromSequence<axis = {axis}, new_axis = {new}>(s)", feeds)


def test_map() -> None:
    text = (
        MADE
        + """
        y0, y1 = SequenceMap(s, w) <
            body = g (float[n] e, float[n] f) => (float[n] p, float[n] q) {
                p = Add(e, f) k = Mul(e, a) q = Neg(k)
            }
        >
    """
    )
    feeds = {**three(), "w": floats(2, seed=9)}
    each = [feeds[name] for name in "abc"]
    want = [[e + feeds["w"] for e in each], [-e * feeds["a"] for e in each]]
    agree(text, feeds, want=want)


def test_optional() -> None:
    text = """
        o = Optional(x)  y0 = OptionalHasElement(o)  y1 = OptionalGetElement(o)
        e = Optional<type = float[n]>()  y2 = OptionalHasElement(e)
        s = SequenceConstruct(x, x)  p = Optional(s)  y3 = OptionalGetElement(p)
    """
    x = floats(2)
    text = text.replace("e = Optional<type = float[n]>()  y2 = OptionalHasElement(e)", "")
    agree(text, {"x": x}, opset=18, want=[np.array(True), x, [x, x]])
    agree("y = OptionalHasElement()", {}, opset=18, want=[np.array(False)])
