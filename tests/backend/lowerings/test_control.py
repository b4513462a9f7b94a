"""Branches, loops and scans: what they capture, what they carry, no iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dioe.graph import Model
from dioe.types import Precision, Precisions
from dioe_torch.lowerings import fold, link
from dioe_torch.program import program_of
from tests.backend.lowerings.graphs import (
    CPU,
    agree,
    floats,
    ints,
    model_of,
    same,
    theirs,
    traced,
    value,
)

BRANCHES = """
    z = Mul(x, x)
    y = If(c) <
        then_branch = t () => (a) { a = Add(x, z) },
        else_branch = e () => (b) { k = Constant<value_float = 2.0>() b = Mul(z, k) }
    >
"""


def flag(on: bool, *shape: int) -> Any:
    return np.full(shape, on)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_if_captures(on: bool, shape: tuple[int, ...]) -> None:
    agree(BRANCHES, {"x": floats(3), "c": flag(on, *shape)}, numbers="c")


def test_if_with_several_outputs_and_one_inside() -> None:
    text = """
        y0, y1 = If(c) <
            then_branch = t () => (a, b) {
                a = Neg(x)
                b = If(d) <then_branch = tt () => (p) { p = Add(a, x) },
                           else_branch = te () => (q) { q = Add(a, a) }>
            },
            else_branch = e () => (f, g) { f = Identity(x)  g = Neg(x) }
        >
    """
    for c in (True, False):
        for d in (True, False):
            agree(text, {"x": floats(3), "c": flag(c), "d": flag(d)}, numbers="cd")


LOOP = """
    y0, y1 = Loop(m, c, x) <
        body = b (int64 i, bool go, float[n] s) => (bool on, float[n] t, float[3] out) {
            t = Add(s, w)
            total = ReduceSum<keepdims = 0>(t)
            on = Less(total, top)
            f = Cast<to = 1>(i)
            out = Mul(t, f)
        }
    >
"""


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("top", [-1e9, 1.0, 1e9])
@pytest.mark.parametrize("on", [True, False])
def test_loop(count: int, top: float, on: bool) -> None:
    feeds = {"x": floats(3) * 0, "w": np.full(3, 0.2, np.float32), "m": np.array(count)}
    feeds |= {"top": np.array(top, np.float32), "c": flag(on)}
    agree(LOOP, feeds, numbers="mc")


def test_loop_of_nothing_known() -> None:
    """Sizes that nobody knows are 0, as in ONNX Runtime."""
    feeds = {"x": floats(3), "m": np.array(0)}
    agree(FOREVER.format(on="on = Identity(go)"), feeds, numbers="m")


def test_while_and_for() -> None:
    body = """
        body = b (i, go, s) => (on, t) {
            one = Constant<value_float = 1.0>()
            t = Add(s, one)
            on = Less(t, top)
        }
    """
    feeds = {"x": np.array(0, np.float32), "top": np.array(7, np.float32)}
    agree(f"y = Loop( , c, x) <{body}>", {**feeds, "c": flag(True)}, want=[np.array(7, np.float32)])
    agree(f"y = Loop(m, , x) <{body}>", {**feeds, "m": np.array(3)}, want=[np.array(3, np.float32)])


FOREVER = """
    y0, y1 = Loop(m, , x) <
        body = b (int64 i, bool go, float[n] s) => (bool on, float[n] t, float[n] out) {{
            {on} t = Add(s, s) out = Neg(t)
        }}
    >
"""


@pytest.mark.parametrize(
    "on",
    ["on = Identity(go)", "on = Constant<value = bool {1}>()", "k = Identity(go) on = Identity(k)"],
)
def test_loop_of_known_length(on: str) -> None:
    """It asks no tensor whether to go on: it can be traced."""
    feeds = {"x": floats(3), "m": np.array(4)}
    agree(FOREVER.format(on=on), feeds, numbers="m")
    traced(FOREVER.format(on=on), feeds, constant="m")


def test_loop_that_stops_at_once() -> None:
    text = FOREVER.format(on="on = Constant<value = bool {0}>()")
    agree(text, {"x": floats(3), "m": np.array(4)})


def test_loop_over_a_sequence() -> None:
    text = """
        empty = SequenceEmpty<dtype = 1>()
        all = Loop(m, , empty) <
            body = b (int64 i, bool go, seq(float[n]) s) => (bool on, seq(float[n]) t) {
                on = Identity(go)
                f = Cast<to = 1>(i)
                part = Mul(x, f)
                t = SequenceInsert(s, part)
            }
        >
        y = ConcatFromSequence<axis = 0, new_axis = 1>(all)
    """
    x = floats(3)
    agree(
        text,
        {"x": x, "m": np.array(4)},
        numbers="m",
        want=[np.arange(4, dtype=np.float32)[:, None] * x],
    )


# --- Scan ------------------------------------------------------------------------------------


def test_scan_both_ways_along_other_axes() -> None:
    text = """
        y0, y1, y2 = Scan(s, a, b) <
            num_scan_inputs = 2, scan_input_axes = [1, -1], scan_input_directions = [0, 1],
            scan_output_axes = [1, 0], scan_output_directions = [1, 0],
            body = g (p, q, r) => (t, u, v) {
                t = Add(p, q)  m = Mul(q, r)  u = Add(m, w)  v = Neg(r)
            }
        >
    """
    feeds = {"s": floats(3), "a": floats(3, 4), "b": floats(3, 4, seed=1), "w": floats(3, seed=2)}
    agree(text, feeds)


def test_scan_of_nothing() -> None:
    text = """
        y0, y1 = Scan(s, a) <
            num_scan_inputs = 1,
            body = g (float[3] p, float[3] q) => (float[3] t, float[3] u) {
                t = Add(p, q) u = Neg(q)
            }
        >
    """
    feeds = {"s": floats(3), "a": floats(0, 3)}
    agree(text, feeds, want=[feeds["s"], feeds["a"]])


@pytest.mark.parametrize("lengths", [None, [3, 1], [0, 2]])
def test_scan_of_batches(lengths: list[int] | None) -> None:
    text = f"""
        y0, y1 = Scan({"n" if lengths else ""}, s, a) <
            num_scan_inputs = 1, directions = [1],
            body = g (float[2] p, float[2] q) => (float[2] t, float[2] u) {{
                t = Add(p, q) u = Add(t, w)
            }}
        >
    """
    feeds = {"s": floats(2, 2), "a": floats(2, 3, 2), "w": floats(2, seed=1)}
    states, scans = feeds["s"].copy(), np.zeros((2, 3, 2), np.float32)
    for b in range(2):
        n = lengths[b] if lengths else 3
        for t in range(n):
            states[b] += feeds["a"][b, n - 1 - t]
            scans[b, t] = states[b] + feeds["w"]
    feeds |= {"n": ints(*lengths)} if lengths else {}
    agree(text, feeds, opset=8, want=[states, scans])


# --- in programs -----------------------------------------------------------------------------


def test_sub_graphs_compute_in_the_precision_of_their_op() -> None:
    feeds = {"x": floats(64), "c": flag(True)}
    model = model_of(BRANCHES, feeds)
    program = program_of(Model.load(model), Precisions(Precision.BF16))
    (got,) = link(program, CPU).run([value(feeds["x"]), value(feeds["c"])])
    (want,) = theirs(model, feeds)
    assert got.dtype == torch.float32
    assert 0 < np.abs(got.numpy() - want).max() < 0.05


def test_folding_leaves_loops() -> None:
    feeds = {"x": floats(3), "m": np.array(4)}
    text = "n = Add(m, m) " + FOREVER.format(on="on = Identity(go)").replace("(m,", "(n,")
    model = model_of(text, feeds, constant="m")
    program = fold(program_of(Model.load(model)), [torch.zeros(3)])
    assert [op.type for op in program.ops] == ["Loop"]
    results = link(program, CPU).run([value(feeds["x"])])
    for one, other in zip(results, theirs(model, feeds), strict=True):
        same(one.numpy(), other)
