"""Orders of blocks: all of a small graph, those with branches together of a large one."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import BlockNode, Cost, Problem, TargetCosts, block_orders, place
from dioe.planning.orders import MAX_ORDERS, Order
from dioe.types import Target
from tests.unit.planning import problems as small


def graph(shape: list[list[int]], wants: list[int] | None = None) -> Problem:
    """Blocks of this shape; block i is cheap on the target ``wants[i]``."""
    count = len(shape)
    wants = wants or [0] * count
    blocks = tuple(
        BlockNode(f"b{i}", "conv", (f"o{i}",), {f"v{s}": 1 for s in sources}, {f"v{i}": 1})
        for i, sources in enumerate(shape)
    )
    targets = tuple(
        TargetCosts(
            Target("cpu", name),
            {f"b{i}": Cost(1.0 if wants[i] == t else 2.0) for i in range(count)},
            dispatch_ms=3.0,
        )
        for t, name in enumerate("ab")
    )
    read = {source for sources in shape for source in sources}
    outputs = tuple(f"v{i}" for i in range(count) if i not in read)
    return Problem(blocks, targets, outputs)


def is_topological(shape: list[list[int]], order: Order) -> bool:
    place_of = {block: i for i, block in enumerate(order)}
    return sorted(order) == list(range(len(shape))) and all(
        place_of[source] < place_of[i] for i, sources in enumerate(shape) for source in sources
    )


@pytest.mark.parametrize(
    "shape", [small.chain(5), small.SKIP, small.DIAMOND, small.TWO_BRANCHES, small.APART]
)
def test_a_small_graph_gets_all_of_its_orders(shape: list[list[int]]) -> None:
    problem = graph(shape)
    found = block_orders(problem)
    assert set(found) == set(small.orders_of(problem))
    assert len(set(found)) == len(found)


def branches(*lengths: int) -> list[list[int]]:
    """A block, chains that start from it, and one block that reads all of them."""
    shape: list[list[int]] = [[]]
    ends = []
    for length in lengths:
        last = 0
        for _ in range(length):
            shape.append([last])
            last = len(shape) - 1
        ends.append(last)
    return [*shape, ends]


def test_branches_stay_together() -> None:
    shape = branches(6, 5, 4)
    # the given order runs all branches side by side
    order = sorted(range(len(shape)), key=lambda i: (depth(shape, i), i))
    place_of = {block: i for i, block in enumerate(order)}
    shuffled = [[place_of[s] for s in shape[block]] for block in order]
    found = block_orders(graph(shuffled))
    assert len(found) > 1
    branch_of = [0] + [1] * 6 + [2] * 5 + [3] * 4 + [4]
    runs = []
    for each in found:
        names = [branch_of[order[i]] for i in each]
        runs.append(1 + sum(a != b for a, b in itertools.pairwise(names)))
    assert runs[0] > 5
    assert runs.count(5) >= 2


def depth(shape: list[list[int]], block: int) -> int:
    return 1 + max((depth(shape, source) for source in shape[block]), default=0)


def test_two_parts_side_by_side_become_two_stages() -> None:
    """Two networks in one graph, their blocks in turn, each cheaper on another backend."""
    shape = [[], [], *([i] for i in range(16))]
    found = place(graph(shape, wants=[0, 1] * 9), most=1)
    assert [set(stage.targets) for stage in found[0].stages] in (
        [{0}, {1}],
        [{1}, {0}],
    )
    assert found[0].predicted_ms == 18 + 2 * 3


def test_blocks_that_want_one_target_come_together_across_branches() -> None:
    """Branches whose beginnings want one target and whose ends want the other."""
    shape = branches(4, 4, 4)
    wants = [0, *[0, 0, 1, 1] * 3, 1]
    found = place(graph(shape, wants), most=1)
    assert len(found[0].stages) == 2
    assert found[0].predicted_ms == 14 + 2 * 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 12))
def test_all_are_topological(seed: int, count: int, most: int) -> None:
    rng = random.Random(seed)
    shape = [
        sorted(rng.sample(range(i), rng.randint(0, min(i, 3)))) if i else [] for i in range(count)
    ]
    problem = graph(shape, [rng.randint(0, 1) for _ in range(count)])
    found = block_orders(problem, most=most)
    assert 1 <= len(found) <= most <= MAX_ORDERS
    assert len(set(found)) == len(found)
    assert all(is_topological(shape, order) for order in found)
    assert found == block_orders(problem, most=most)


def test_a_long_graph_is_no_recursion() -> None:
    assert block_orders(graph(small.chain(3000))) == [tuple(range(3000))]
    wide = [[], *([0] for _ in range(1500)), list(range(1, 1501))]
    assert 1 < len(block_orders(graph(wide))) <= MAX_ORDERS
