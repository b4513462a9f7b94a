from __future__ import annotations

import time

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from dioe.graph import Model, OpGraph, is_convex, quotient
from dioe.graph.partition import Partition
from tests.unit.graph import models


def diamond() -> OpGraph:
    """a -> b -> d, a -> c -> d, d -> e."""
    edges = {"a": ["x"], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]}
    nodes = [
        helper.make_node("Relu" if len(reads) == 1 else "Add", reads, [name], name=name)
        for name, reads in edges.items()
    ]
    return OpGraph.build(Model.load(models.model(nodes, {"x": [2]}, {"e": [2]})))


@pytest.mark.parametrize(
    ("ops", "expected"),
    [("abcd", True), ("abd", False), ("ad", False), ("bc", True), ("ae", False), ("", True)],
)
def test_convexity(ops: str, expected: bool) -> None:
    assert is_convex(diamond(), list(ops)) is expected


def test_a_quotient_has_ops_and_values() -> None:
    result = quotient(diamond(), ["ab", "c", "de"])
    assert set(result.edges) == {(0, 1), (0, 2), (1, 2)}
    assert result.edges[0, 2]["values"] == ("b",)
    assert result.nodes[2]["ops"] == ("d", "e")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["ad", "bc", "e"], "circle"),
        (["ab", "bcde"], "'b' is in groups 0 and 1"),
        (["ab", "c"], "2 ops are in no group"),
        (["abcde", "z"], "no op 'z'"),
    ],
)
def test_bad_groups_are_refused(groups: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quotient(diamond(), groups)


def test_unknown_ops_are_refused() -> None:
    with pytest.raises(ValueError, match="no op 'z'"):
        is_convex(diamond(), ["z"])


def test_a_merge_that_makes_a_cycle_changes_nothing() -> None:
    partition = Partition(diamond())
    assert partition.merge([0, 3]) is None
    assert partition.groups() == [0, 1, 2, 3, 4]
    assert partition.merge([0, 1, 2, 3]) == 0
    assert partition.groups() == [0, 4]
    assert partition.group_of == [0, 0, 0, 0, 4]


def layered(edges: list[tuple[int, int]], count: int) -> OpGraph:
    """Ops 0 to count - 1, each reading those before it that ``edges`` name, or the input."""
    nodes = []
    for i in range(count):
        reads = sorted({f"v{a}" for a, b in edges if b == i and a < i}) or ["x"]
        nodes.append(helper.make_node("Sum", reads, [f"v{i}"], name=f"v{i}"))
    proto = models.model(nodes, {"x": [2]}, {f"v{i}": [2] for i in range(count)})
    return OpGraph.build(Model.load(proto))


pairs = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(pairs, pairs)
def test_merging_agrees_with_networkx(
    edges: list[tuple[int, int]], merges: list[tuple[int, int]]
) -> None:
    graph = layered(edges, 12)
    partition = Partition(graph)
    for first, second in merges:
        a, b = partition.group_of[first], partition.group_of[second]
        wanted = [
            [i for i in range(12) if partition.group_of[i] in (a, b)],
            *(
                [i for i in range(12) if partition.group_of[i] == g]
                for g in set(partition.group_of) - {a, b}
            ),
        ]
        try:
            quotient(graph, [[graph.ids[i] for i in group] for group in wanted])
            possible = True
        except ValueError:
            possible = False
        assert (partition.merge([a, b]) is not None) is possible
        order = partition.groups()
        assert sorted(i for g in order for i in partition.members[g]) == list(range(12))
        place = {g: k for k, g in enumerate(order)}
        for source, targets in enumerate(graph.successors):
            for target in targets:
                g, h = partition.group_of[source], partition.group_of[target]
                assert g == h or place[g] < place[h]
                assert g == h or (h in partition.successors[g] and g in partition.predecessors[h])


@settings(max_examples=60, deadline=None)
@given(pairs, st.sets(st.integers(0, 11)))
def test_convexity_agrees_with_networkx(edges: list[tuple[int, int]], chosen: set[int]) -> None:
    graph = layered(edges, 12)
    inside = {graph.ids[i] for i in chosen}
    outside_between = any(
        op not in inside
        and nx.ancestors(graph.digraph, op) & inside
        and nx.descendants(graph.digraph, op) & inside
        for op in graph.ids
    )
    assert is_convex(graph, inside) is not outside_between


def test_thousands_of_ops_take_seconds_at_most() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["v0"], name="v0")]
    nodes += [
        helper.make_node("Add", [f"v{i - 1}", f"v{max(i - 7, 0)}"], [f"v{i}"], name=f"v{i}")
        for i in range(1, 5000)
    ]
    big = OpGraph.build(Model.load(models.model(nodes, {"x": [2]}, {"v4999": [2]})))
    start = time.perf_counter()
    partition = Partition(big)
    for i in range(1, 5000):
        if i % 50:
            assert partition.merge([partition.group_of[i - 1], partition.group_of[i]]) is not None
    groups = [[big.ids[i] for i in partition.members[g]] for g in partition.groups()]
    assert quotient(big, groups).number_of_nodes() == 100
    assert time.perf_counter() - start < 20
