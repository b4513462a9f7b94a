"""Balanced loads are those of the simulator, and come near the least there can be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import Assigned, Budget, Tables, judged, placed, solve, task_problem
from dioe.planning.search.loads import Loads, balance
from tests.unit.planning.random_problems import random_order, random_problem


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_loads_are_those_of_the_simulator(seed: int, queues: bool) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, queues=queues))
    order = random_order(tables, rng)
    loads = Loads(tables, Assigned([0] * tables.n, order))
    for _ in range(20):
        u, d = rng.randrange(len(loads.units)), rng.randrange(len(tables.devices))
        load = loads.moved([(u, d)])
        if load is None:
            continue
        loads.apply([(u, d)], load)
        assigned = loads.assigned(loads.device, order)
        found = judged(tables.problem, placed(tables, assigned), "throughput")
        assert max(loads.load) == pytest.approx(found.value)


def test_equal_pieces_are_spread_evenly() -> None:
    rng = random.Random(1)
    pieces = [rng.randrange(1, 100) for _ in range(60)]
    problem = task_problem([[ms, 2.0 * ms, ms] for ms in pieces])
    tables = Tables(problem)
    loads = Loads(tables, Assigned([0] * 60, list(range(60))))
    device = balance(loads, Budget(work_limit=300), rng)
    value = max(Loads(tables, loads.assigned(device, range(60))).load)
    assert value <= 1.005 * sum(pieces) / 2.5


@pytest.mark.parametrize("queue", [None, ""])
def test_memory_is_kept_while_loads_are_balanced(queue: str | None) -> None:
    rng = random.Random(2)
    problem = task_problem(
        [[rng.uniform(1, 9), rng.uniform(4, 20)] for _ in range(20)],
        [(i, i + 1, 3) for i in range(19)],
        ms_per_byte=0.5,
        queue=queue,
        weight_bytes=[10] * 20,
        memory_bytes=[100, 200],
    )
    schedule = solve(problem, "throughput", work_limit=300)
    assert schedule.peak_bytes["machine:0"] <= 100
    assert schedule.peak_bytes["machine:1"] <= 200
