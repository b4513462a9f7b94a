"""Windows of an order: what is proved for one is what it is worth in the whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import Assigned, Budget, Tables, cpsat
from dioe.planning.exactly import whole, window
from dioe.planning.fast import Fast
from dioe.planning.search.lanes import Lanes
from dioe.planning.search.windows import prove, reopen_windows
from tests.unit.planning.random_problems import random_order, random_problem

pytestmark = pytest.mark.skipif(not cpsat.available(), reason="OR-Tools isn't installed")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_window_knows_the_latency_of_the_whole(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, count=10))
    lanes = Lanes(tables, Assigned([0] * tables.n, random_order(tables, rng)))
    for _ in range(4):
        moves = lanes.moves(list(range(tables.n)))
        if moves:
            lanes.apply(rng.choice(moves))
    first = rng.randrange(tables.n - 3)
    last = rng.randrange(first + 2, tables.n + 1)
    part = window(lanes, first, last)
    now = lanes.latency()
    solved = cpsat.solve_part(tables, part, now * (1 + 1e-6), deterministic_limit=0.2)
    assert solved.bound_ms <= now * (1 + 1e-6)
    assert part.rest_ms <= now + 1e-9
    if solved.proved:
        assert solved.machines is not None  # the window as it is is one answer


@pytest.mark.parametrize("seed", range(3))
def test_windows_only_make_it_shorter(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, count=40, devices=4))
    start = Assigned([0] * tables.n, random_order(tables, rng))
    fast = Fast(tables, "latency")
    found = reopen_windows(fast, start, Budget(work_limit=400), random.Random(1))
    assert fast.key(found) < fast.key(start)
    again = reopen_windows(fast, start, Budget(work_limit=400), random.Random(1))
    assert again == found


def test_the_whole_of_a_problem_is_proved() -> None:
    rng = random.Random(5)
    tables = Tables(random_problem(rng, count=9))
    fast = Fast(tables, "latency")
    start = Assigned([0] * tables.n, random_order(tables, rng))
    found, least = prove(fast, start, 0.0, Budget(work_limit=20_000), 0)
    assert least == pytest.approx(fast.key(found)[1], rel=1e-6)
    assert len(whole(tables).blocks) == tables.n
