"""Searches keep what they are given, count right, and find what is better."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import SCHEDULE_POLICIES, Assigned, Budget, Problem, Tables, task_problem
from dioe.planning.fast import Fast
from dioe.planning.search import decode, improve, upward_ranks
from dioe.planning.search.lanes import Lanes, assigned_of, lanes_of
from dioe.planning.search.moves import Moves
from dioe.planning.search.shop import whole
from dioe.planning.search.windows import sweep
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


def consistent(lanes: Lanes) -> bool:
    """Whether order, places, sequences, heads and tails are what they are when made anew."""
    heads, tails = list(lanes.finish), list(lanes.tail)
    lanes.settle()
    rows = [[i for i in lanes.order if lanes.lane[i] == k] for k in range(lanes.shop.lanes)]
    return (
        (heads, tails) == (lanes.finish, lanes.tail)
        and [lanes.order[k] for k in lanes.at] == list(range(lanes.count))
        and rows == lanes.sequence
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_heads_and_tails_follow_each_move(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, count=12))
    fast = Fast(tables, "latency")
    start = random_assigned(tables, rng)
    lanes = lanes_of(whole(tables), tables, start)
    again = assigned_of(lanes)
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
        # the longest path through the block is at least what lies around it now
        assert lanes.latency() + 1e-9 >= lanes.finish[move.block] + lanes.rest[move.block]
        assert consistent(lanes)
        found = assigned_of(lanes)
        assert fast.latency(found.targets, found.order) <= lanes.latency() + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_move_takes_what_it_says_where_other_paths_are_shorter(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables(unrelated(seed, 14, 3, 1.0))
    lanes = lanes_of(whole(tables), tables, Assigned([0] * tables.n, random_order(tables, rng)))
    for _ in range(10):
        move = rng.choice(lanes.moves(list(range(tables.n))))
        assert lanes.apply(move)
        through = lanes.finish[move.block] + lanes.tail[move.block] - lanes.p[move.block]
        assert through <= move.ms + 1e-9 or lanes.latency() >= through


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_windows_swept_keep_the_order_and_only_make_it_shorter(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables(random_problem(rng, count=70, devices=3))
    lanes = lanes_of(whole(tables), tables, Assigned([0] * tables.n, random_order(tables, rng)))
    before = lanes.latency()
    sweep(lanes, Budget(work_limit=200), rng, 20)
    assert consistent(lanes)
    assert lanes.latency() <= before + 1e-9
    assert possible(tables, assigned_of(lanes))


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
