"""Searches keep what they are given, count right, and find what is better."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import SCHEDULE_POLICIES, Assigned, Budget, Problem, Tables, task_problem
from dioe.planning.fast import Fast
from dioe.planning.search import decode, improve, upward_ranks
from dioe.planning.search.lanes import Lanes
from dioe.planning.search.moves import Moves
from tests.unit.planning.random_problems import random_assigned, random_order, random_problem


def unrelated(seed: int, count: int, machines: int, ratio: float) -> Problem:
    rng = random.Random(seed)
    base = [rng.uniform(1, 100) for _ in range(count)]
    edges = [(rng.randrange(i), i) for i in range(1, count) for _ in range(rng.randrange(1, 4))]
    return task_problem(
        [[ms * rng.uniform(0.5, 1.5) for _ in range(machines)] for ms in base],
        sorted(set(edges)),
        edge_ms={edge: rng.uniform(0, 100 * ratio) for edge in edges},
    )


def possible(tables: Tables, assigned: Assigned) -> bool:
    at = {i: k for k, i in enumerate(assigned.order)}
    return (
        sorted(assigned.order) == list(range(tables.n))
        and all(at[p] < at[i] for i, row in enumerate(tables.preds) for p, _ in row)
        and all(tables.ms[i][t] < float("inf") for i, t in enumerate(assigned.targets))
        and all(
            len({tables.device_of[assigned.targets[i]] for i in group}) == 1
            for group in tables.peers
            if group
        )
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_heads_and_tails_follow_each_move(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, count=12))
    start = random_assigned(tables, rng)
    lanes = Lanes(tables, start)
    fast = Fast(tables, "latency")
    again = lanes.assigned()
    assert fast.latency(again.targets, again.order) <= lanes.latency() + 1e-9
    for _ in range(20):
        moves = lanes.moves(list(range(tables.n)))
        if not moves:
            break
        before = lanes.latency()
        move = rng.choice(moves)
        if not lanes.apply(move):
            assert lanes.latency() == before
            continue
        # the longest path through the block is what the move said, or less where what
        # comes before or behind it there lay behind or before it so far
        assert lanes.latency() + 1e-9 >= lanes.finish[move.block] + lanes.rest[move.block]
        heads, tails = list(lanes.finish), list(lanes.tail)
        lanes._heads(0)
        lanes._tails(tables.n - 1)
        assert (heads, tails) == (lanes.finish, lanes.tail)
        assert [lanes.order[k] for k in lanes.at] == list(range(tables.n))
        found = lanes.assigned()
        assert sorted(found.order) == list(range(tables.n))
        assert fast.latency(found.targets, found.order) <= lanes.latency() + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_moves_keep_orders_groups_and_targets_possible(seed: int, staged: bool) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, count=10, staged=staged))
    now = next(
        (each for _ in range(200) if possible(tables, each := random_assigned(tables, rng))), None
    )
    moves = Moves(tables, rng)
    for _ in range(60 if now else 0):
        assert now is not None
        now = moves.any(now) or now
        assert possible(tables, now)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(SCHEDULE_POLICIES),
)  # fmt: skip
def test_no_search_makes_it_worse_and_the_same_seed_does_the_same(
    seed: int, staged: bool, queues: bool, limited: bool, policy: str
) -> None:
    rng = random.Random(seed)
    problem = random_problem(rng, staged=staged, queues=queues, limited=limited)
    tables = Tables(problem)
    start = Assigned([0] * tables.n, random_order(tables, rng))
    fast = Fast(tables, policy)
    found = improve(tables, policy, start, Budget(work_limit=150), 7)
    assert possible(tables, found)
    assert fast.key(found) <= fast.key(start)
    again = improve(Tables(problem), policy, start, Budget(work_limit=150), 7)
    assert again == found


@pytest.mark.parametrize("ratio", [0.1, 1.0, 5.0])
def test_search_beats_the_list_schedule(ratio: float) -> None:
    gains = []
    for seed in range(3):
        tables = Tables(unrelated(seed, 50, 4, ratio))
        start = decode(tables, upward_ranks(tables))
        assert start is not None
        fast = Fast(tables, "latency")
        found = improve(tables, "latency", start, Budget(work_limit=300), seed)
        gains.append(fast.key(found)[1] / fast.key(start)[1])
    assert sum(gains) / len(gains) < 0.98
