"""Windows of an order: what is proved for one is what it is worth in the whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import Assigned, Budget, Tables, cpsat
from dioe.planning.search.lanes import Lanes, lanes_of
from dioe.planning.search.shop import whole
from dioe.planning.search.window import window
from dioe.planning.search.windows import exact_windows, prove
from tests.unit.planning.random_problems import random_order, random_problem

needs_cpsat = pytest.mark.skipif(not cpsat.available(), reason="OR-Tools isn't installed")


def any_lanes(rng: random.Random, count: int, devices: int = 3) -> tuple[Tables, Lanes]:
    tables = Tables(random_problem(rng, count=count, devices=devices))
    lanes = lanes_of(whole(tables), tables, Assigned([0] * count, random_order(tables, rng)))
    for _ in range(count):
        moves = lanes.moves(list(range(count)))
        if moves:
            lanes.apply(rng.choice(moves))
    return tables, lanes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_window_knows_the_latency_of_the_whole(seed: int) -> None:
    rng = random.Random(seed)
    tables, lanes = any_lanes(rng, 10)
    first = rng.randrange(8)
    last = rng.randrange(first + 1, 11)
    shop = window(lanes, first, last, tables.memory, rest=True)
    chosen = lanes.order[first:last]
    inner = Lanes(shop, [lanes.device[i] for i in chosen], range(last - first))
    inner.load(inner.device, inner.order, [lanes.lane[i] for i in chosen])
    assert inner.latency() == pytest.approx(lanes.latency())
    moves = inner.moves(list(range(last - first)))
    if moves and inner.apply(rng.choice(moves)):
        lanes.replace(first, last, inner.state())
        lanes.settle()
        assert inner.latency() == pytest.approx(lanes.latency())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
@needs_cpsat
def test_a_window_as_it_is_is_one_answer(seed: int) -> None:
    rng = random.Random(seed)
    tables, lanes = any_lanes(rng, 10)
    first = rng.randrange(7)
    last = rng.randrange(first + 2, 11)
    now = lanes.latency()
    shop = window(lanes, first, last, tables.memory, rest=True)
    solved = cpsat.solve_shop(shop, now * (1 + 1e-6), deterministic_limit=0.2)
    assert solved.bound_ms <= now * (1 + 1e-6)
    if solved.proved:
        assert solved.device is not None


@pytest.mark.parametrize("seed", range(3))
@needs_cpsat
def test_exact_windows_only_make_it_shorter(seed: int) -> None:
    def found() -> tuple[float, Lanes]:
        tables, lanes = any_lanes(random.Random(seed), 40, 4)
        before = lanes.latency()
        exact_windows(lanes, tables.memory, Budget(work_limit=400), random.Random(1))
        return before, lanes

    before, lanes = found()
    assert lanes.latency() < before
    assert found()[1].state() == lanes.state()


@needs_cpsat
def test_the_whole_of_a_problem_is_proved() -> None:
    _, lanes = any_lanes(random.Random(5), 9)
    least = prove(lanes, Budget(work_limit=20_000), 0)
    assert least == pytest.approx(lanes.latency(), rel=1e-6)
