"""Folding: what is the same in all runs is computed once, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import parser

from dioe.graph import Model
from dioe_torch.lowerings import Program, fold, link
from dioe_torch.program import program_of


def program(text: str) -> Program:
    header = '<ir_version: 8, opset_import: ["": 17]>'
    return program_of(Model.load(parser.parse_model(header + text)))


def types(found: Program) -> list[str]:
    return [op.type for op in found.ops]


def run(found: Program, *inputs: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return link(found, torch.device("cpu")).run(inputs)


RESHAPED = """
g (float[N,C,H] x) => (float[A,B] y) {
  s = Shape(x)
  zero = Constant<value = int64[1] {0}>()
  n = Gather(s, zero)
  rest = Constant<value = int64[1] {-1}>()
  to = Concat<axis = 0>(n, rest)
  y = Reshape(x, to)
}"""


def test_shapes_are_computed_once_where_they_are_bound() -> None:
    whole = program(RESHAPED)
    folded = fold(whole, [torch.zeros(2, 3, 4)])
    assert types(folded) == ["Reshape"]
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(run(folded, x)[0], x.reshape(2, 12), rtol=0, atol=0)
    assert set(folded.constants) == {"to"}


def test_open_shapes_stay_open() -> None:
    folded = fold(program(RESHAPED), [])
    assert types(folded) == ["Shape", "Gather", "Concat", "Reshape"]
    for shape in ((2, 3, 4), (5, 1, 7)):
        x = torch.randn(shape)
        torch.testing.assert_close(run(folded, x)[0], x.reshape(shape[0], -1), rtol=0, atol=0)


def test_shapes_that_depend_on_values_are_not_taken_as_fixed() -> None:
    folded = fold(
        program("g (float[8] x) => (int64[N] s) { i = NonZero(x) t = Transpose(i) s = Shape(t) }"),
        [torch.zeros(8)],
    )
    assert "Shape" in types(folded)
    assert run(folded, torch.tensor([0.0, 1, 0, 2, 3, 0, 0, 4]))[0].tolist() == [4, 1]


@pytest.mark.parametrize(
    "op", ["Expand(w, i)", "Tile(w, i)", "ConstantOfShape(i)", "Range(z, i, o)"]
)
def test_shapes_given_as_inputs_are_not_taken_as_fixed(op: str) -> None:
    rank = "" if op.startswith("Range") else "1"
    text = f"g (int64[{rank}] i, float[1] w) => (int64[N] s) {{"
    text += "z = Constant<value = int64 {0}>() o = Constant<value = int64 {1}>() "
    folded = fold(
        program(text + f"y = {op} s = Shape(y) }}"),
        [torch.zeros([1] if rank else [], dtype=torch.int64), torch.zeros(1)],
    )
    five = torch.tensor([5] if rank else 5)
    assert run(folded, five, torch.ones(1))[0].tolist() == [5]


def test_a_range_is_as_long_as_its_start_says() -> None:
    text = """g (int64 i) => (int64[N] s) {
      z = Constant<value = int64 {9}>()
      o = Constant<value = int64 {1}>()
      y = Range(i, z, o)
      s = Shape(y)
    }"""
    folded = fold(program(text), [torch.zeros([], dtype=torch.int64)])
    assert run(folded, torch.tensor(3))[0].tolist() == [6]


def test_a_range_of_shapes_is_folded() -> None:
    text = """g (float[N,5] x) => (int64[M] s) {
      z = Constant<value = int64 {0}>()
      o = Constant<value = int64 {1}>()
      a = Shape(x)
      n = Gather(a, o)
      r = Range(z, n, o)
      c = Cast<to = 1>(r)
      e = Add(x, c)
      s = Shape(e)
    }"""
    folded = fold(program(text), [torch.zeros(2, 5)])
    assert types(folded) == []
    assert run(folded, torch.ones(2, 5))[0].tolist() == [2, 5]


def test_constants_are_folded_unless_they_grow() -> None:
    text = """g (float[4] x) => (float[4] y, float[1024,1024] z) {
      a = Constant<value = float[4] {1.0, 2.0, 3.0, 4.0}>()
      b = Exp(a)
      y = Add(x, b)
      big = Constant<value = int64[2] {1024, 1024}>()
      z = ConstantOfShape(big)
    }"""
    folded = fold(program(text), [torch.zeros(4)])
    assert types(folded) == ["Add", "ConstantOfShape"]
    x = torch.randn(4)
    y, z = run(folded, x)
    np.testing.assert_allclose(y.numpy(), x.numpy() + np.exp([1, 2, 3, 4]), rtol=1e-6)
    assert z.shape == (1024, 1024)


def test_what_is_drawn_is_drawn_in_each_run() -> None:
    text = "g (float[4] x) => (float[4] y) { r = RandomNormal<shape = [4]>() y = Add(x, r) }"
    folded = fold(program(text), [torch.zeros(4)])
    assert types(folded) == ["RandomNormal", "Add"]


def test_a_model_that_fails_on_zeros_is_folded_as_far_as_it_got() -> None:
    text = """g (int64[1] i, float[3,4] x) => (float[N,M] y) {
      s = Shape(x)
      one = Constant<value = int64[1] {1}>()
      d = Div(one, i)
      r = Add(s, s)
      z = Sub(r, s)
      y = Reshape(x, z)
    }"""
    folded = fold(program(text), [torch.zeros(1, dtype=torch.int64), torch.zeros(3, 4)])
    x = torch.randn(3, 4)
    assert run(folded, torch.ones(1, dtype=torch.int64), x)[0].equal(x)


BRANCHES = """
g (float[N,3] x, bool c) => (float[N,3] y)
  <float[3] w = {1, 2, 3}, int64[1] start = {0}, int64[1] end = {2}> {
  y = If (c) <
    then_branch = t () => (float[N,3] a) {
      d = Add(w, w)
      part = Slice(d, start, end)
      n = ReduceSum<keepdims = 0>(part)
      a = Mul(x, n)
    },
    else_branch = e () => (float[N,3] b) { b = Add(x, w) }
  >
}"""


def test_sub_graphs_know_constants_from_outside() -> None:
    whole = program(BRANCHES)
    folded = fold(whole, [])
    assert not folded.constants  # whoever wants one has it
    (op,) = folded.ops
    then, other = op.attributes["then_branch"], op.attributes["else_branch"]
    assert types(then) == ["Mul"]
    assert types(other) == ["Add"]
    assert then.captures == other.captures == ("x",)
    x = torch.randn(2, 3)
    for flag in (True, False):
        torch.testing.assert_close(
            run(folded, x, torch.tensor(flag)), run(whole, x, torch.tensor(flag))
        )


def test_sub_graphs_share_what_they_take() -> None:
    text = BRANCHES.replace("a = Mul(x, n)", "l = Mul(x, n) a = Add(l, w)")
    linked = link(fold(program(text), []), torch.device("cpu"))
    weights = [each for each in linked.constants if each.shape == (3,)]
    assert len(weights) == 2
    assert weights[0] is weights[1]
