"""Merged instances: smaller, and worth exactly the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning.splits import Instance, read_instance
from dioe.planning.splits.merged import merged
from dioe.planning.splits.state import State
from tests.unit.planning.splits.made import PUBLISHED, instances, layered, made


def check(instance: Instance, rng: random.Random) -> None:
    smaller = merged(instance)
    count = instance.max_accelerators
    place = [0] * len(smaller.instance.nodes)
    for group in smaller.instance.groups:
        device = rng.choice([count, rng.randrange(count + 1)])
        for node in group:
            place[node] = device
    whole = State(instance, count, 1, smaller.expanded(place))
    state = State(smaller.instance, count, 1, place)
    assert state.load == pytest.approx(whole.load)
    assert state.size == pytest.approx(whole.size)
    assert state.latency() == pytest.approx(whole.latency())
    for group in instance.groups:
        assert len({whole.place[node] for node in group}) == 1
    for node, about in enumerate(instance.nodes):
        assert about.supported or not smaller.instance.nodes[smaller.member_of[node]].supported


@given(instances(most_nodes=8), st.integers(0, 1000))
def test_worth_the_same(instance: Instance, seed: int) -> None:
    check(instance, random.Random(seed))


@pytest.mark.parametrize("seed", range(5))
def test_larger_ones_are_worth_the_same(seed: int) -> None:
    check(layered(seed, 150, colors=20, accelerators=4, memory=500), random.Random(seed))


def test_what_is_merged() -> None:
    # weights 1 and 2 of 3, the chain 3 -> 4, the sink 5 that takes no time; 6 is read twice
    nodes = [(0, 0), (0, 0), (5, 1), (5, 1), (0, 0), (5, 1), (5, 100), (5, 100)]
    edges = [(1, 3), (2, 3), (3, 4), (4, 6), (6, 5), (6, 7), (6, 8), (4, 7)]
    smaller = merged(made(nodes, [(*edge, edge[0] / 10) for edge in edges]))
    parts = smaller.member_of
    assert parts[0] == parts[1] == parts[2] == parts[3]
    assert parts[4] == parts[5]
    assert len({parts[3], parts[5], parts[6], parts[7]}) == 4


def test_published_ones_get_smaller() -> None:
    whole = read_instance(PUBLISHED / "bert_l-12_ops.json")
    assert len(merged(whole).instance.nodes) < len(whole.nodes) / 4
