"""Cuttings of linear orders."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning.splits import Instance, judge
from dioe.planning.splits.find import as_split
from dioe.planning.splits.starts import Blocks, cut, linear_order, scattered_on_cpus
from tests.unit.planning.splits.made import instances, layered, made


@given(instances(), st.integers(0, 100))
def test_a_cutting_may_be_written(instance: Instance, seed: int) -> None:
    blocks = Blocks(instance)
    order = blocks.order(random.Random(seed))
    for by_load in (False, True):
        place = cut(instance, blocks, order, by_load=by_load)
        if place is None:
            assert by_load  # accelerators alone may have too little memory: no CPU helps them then
        else:
            assert judge(instance, as_split(instance, place, spread=False)).faults == ()


def test_a_chain_is_cut_where_it_is_best() -> None:
    costs = [4.0, 1.0, 5.0, 2.0, 9.0, 0.0]
    nodes = [(30, 3, 40)] * 6
    edges = [(number, number + 1, costs[number - 1]) for number in range(1, 6)]
    instance = made(nodes, edges, accelerators=3, memory=130, cpus=0)
    blocks = Blocks(instance)
    place = cut(instance, blocks, blocks.order(random.Random(0)))
    assert place is not None

    def latency(cuts: tuple[int, ...]) -> float:
        ends = (0, *cuts, 6)
        if any(last - first > 3 for first, last in itertools.pairwise(ends)):
            return math.inf
        return 18 + sum(2 * costs[each - 1] for each in cuts)

    best = min(
        latency(cuts) for count in (1, 2) for cuts in itertools.combinations(range(1, 6), count)
    )
    assert judge(instance, as_split(instance, place, spread=False)).latency == best


def test_blocks_are_classes_that_wait_for_each_other() -> None:
    # classes 0 and 1 wait for each other: 1 -> 2 -> 3 -> 4 with classes 0, 1, 0, 1
    instance = made(
        [(1, 1, 1, number % 2) for number in range(4)], [(1, 2, 0), (2, 3, 0), (3, 4, 0)]
    )
    assert Blocks(instance).nodes == [(0, 1, 2, 3)]
    assert len(Blocks(layered(1, 50)).nodes) == 50


@pytest.mark.parametrize("deep", [True, False])
def test_linear_orders(deep: bool) -> None:
    instance = layered(5, 70)
    order = linear_order(instance.successors, instance.predecessors, random.Random(1), deep=deep)
    rank = {node: position for position, node in enumerate(order)}
    assert sorted(order) == list(range(70))
    assert all(rank[a] < rank[b] for a, b in instance.edges)


def test_without_room_there_is_no_cutting() -> None:
    instance = made([(1, 1, 60)] * 4, accelerators=3, cpus=0)
    assert cut(instance, Blocks(instance), [0, 1, 2, 3]) is None


def test_a_class_around_everything_goes_to_cpus_so_that_the_rest_needn_t() -> None:
    nodes: list[tuple[float, ...]] = [(30, 3, 40)] * 12
    nodes[0] = nodes[-1] = (30, 3, 40, 0)
    edges = [(number, number + 1, 1.0) for number in range(1, 12)]
    instance = made(nodes, edges, accelerators=2, memory=200, cpus=1)
    blocks = Blocks(instance)
    assert len(blocks.nodes) == 1
    [(loose, free)] = scattered_on_cpus(instance, blocks)
    place = cut(loose, free, free.order(random.Random(0)))
    assert place is not None
    judgement = judge(instance, as_split(instance, place, spread=True))
    assert not judgement.faults
    assert judgement.latency == 2 * 30 + 10 * 3 + 4 * 1.0
    assert not scattered_on_cpus(loose, free)


def test_of_a_graph_for_training_the_innermost_layers_may_share_an_accelerator() -> None:
    """Eight layers forward, and back again with the weights of the same layers."""
    nodes = [(30.0, 3.0, 40.0, float(min(k, 15 - k))) for k in range(16)]
    edges = [(number, number + 1, 1.0) for number in range(1, 16)]
    instance = made(nodes, edges, accelerators=2, memory=250, cpus=1)
    kinds = scattered_on_cpus(instance, Blocks(instance))
    places = [cut(kind, blocks, blocks.order(random.Random(0))) for kind, blocks in kinds]
    latencies = []
    for place in places:
        assert place is not None
        judgement = judge(instance, as_split(instance, place, spread=True))
        assert not judgement.faults
        latencies.append(judgement.latency)
    assert latencies == [16 * 30, 10 * 30 + 6 * 3 + 2 * 1.0]
