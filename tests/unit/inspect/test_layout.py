"""Layered drawings: edges point down, boxes never overlap, long edges get their bends."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe_inspect.layout import BEND_GAP, GAP_X, isotonic, layered


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[float], list[tuple[int, int]]]:
    widths = draw(st.lists(st.floats(1, 300), max_size=14))
    pairs = [(i, j) for j in range(len(widths)) for i in range(j)]
    return widths, draw(st.lists(st.sampled_from(pairs), max_size=30)) if pairs else []


@given(graphs())
def test_invariants(graph: tuple[list[float], list[tuple[int, int]]]) -> None:
    widths, edges = graph
    layout = layered(widths, edges)
    assert set(layout.layer) == set(layout.x) == set(range(len(widths)))
    for source, destination in edges:
        assert layout.layer[source] < layout.layer[destination]
        between = layout.layer[destination] - layout.layer[source] - 1
        assert len(layout.bends[source, destination]) == between
    for layer in range(layout.layers):
        row = sorted((layout.x[i], widths[i]) for i in layout.layer if layout.layer[i] == layer)
        for (left, a), (right, b) in pairwise(row):
            assert right - left >= (a + b) / 2 + min(GAP_X, 2 * BEND_GAP) - 1e-6
    for i, width in enumerate(widths):
        assert layout.x[i] - width / 2 >= -1e-6
        assert layout.x[i] + width / 2 <= layout.width + 1e-6
    assert layout == layered(widths, edges)  # no chance in it


def test_a_chain_is_straight() -> None:
    layout = layered([100, 20, 60], [(0, 1), (1, 2)])
    assert [layout.layer[i] for i in range(3)] == [0, 1, 2]
    assert layout.x[0] == pytest.approx(layout.x[1])
    assert layout.x[0] == pytest.approx(layout.x[2])


def test_an_input_stands_above_its_first_use() -> None:
    layout = layered([10] * 4, [(0, 1), (1, 2), (3, 2)])
    assert layout.layer[3] == 1


def test_crossings_are_undone() -> None:
    layout = layered([10] * 6, [(0, 5), (1, 4), (2, 3), (0, 4)])
    order = sorted(range(3), key=lambda i: layout.x[i])
    below = {0: 5, 1: 4, 2: 3}
    assert [below[i] for i in order] == sorted((3, 4, 5), key=lambda i: layout.x[i])


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        layered([1, 1], [(0, 1), (1, 0)])


def test_nothing() -> None:
    assert layered([], []).layers == 0


def test_a_thousand_nodes() -> None:
    chance = random.Random(1)
    edges = [(i, i + 1) for i in range(999)]
    edges += [(i, min(999, i + chance.randint(2, 60))) for i in range(0, 990, 3)]
    assert layered([180.0] * 1000, edges).layers == 1000


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.1, 10)), max_size=30))
def test_isotonic(pairs: list[tuple[float, float]]) -> None:
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    fitted = isotonic(values, weights)
    assert len(fitted) == len(values)
    assert all(a <= b + 1e-6 for a, b in pairwise(fitted))
    assert isotonic(sorted(values), weights) == sorted(values)
    mean = sum(v * w for v, w in pairs)
    assert sum(f * w for f, w in zip(fitted, weights, strict=True)) == pytest.approx(mean, abs=1e-3)
