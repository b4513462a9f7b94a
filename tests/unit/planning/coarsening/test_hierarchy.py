"""Clusters: a partition, in no circle, within the caps, groups and targets kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Problem, Tables
from dioe.planning.coarsening import hierarchy
from dioe.planning.coarsening.caps import Caps
from dioe.planning.coarsening.chains import chains
from dioe.planning.coarsening.clusters import clusters
from dioe.planning.coarsening.colours import colours
from dioe.planning.coarsening.graph import Graph, levels, topological
from dioe.planning.coarsening.intervals import intervals
from tests.unit.planning.coarsening.graphs import NAMES, dags, transformer

PASSES = {
    "chains": chains,
    "clusters": clusters,
    "upwards": lambda graph, caps: clusters(graph, caps, upwards=True),
    "intervals": intervals,
}


@given(problem=dags(), count=st.integers(1, 10))
def test_levels_are_acyclic_partitions(problem: Problem, count: int) -> None:
    tables = Tables(problem)
    levels_of = hierarchy(tables, count)
    total = levels_of.graphs[0].ms.sum(axis=0)
    for before, after, labels in zip(
        levels_of.graphs, levels_of.graphs[1:], levels_of.labels, strict=False
    ):
        assert sorted(set(labels.tolist())) == list(range(after.n))
        assert after.n < before.n
        assert (after.source < after.destination).all()  # so there is no circle
        np.testing.assert_allclose(after.ms.sum(axis=0), total)
    assert len(levels_of.clusters) == tables.n


@given(problem=dags(), count=st.integers(1, 10), name=st.sampled_from(sorted(PASSES)))
def test_a_pass_keeps_caps_groups_and_targets(problem: Problem, count: int, name: str) -> None:
    tables = Tables(problem)
    graph = Graph.of(tables)
    caps = Caps.of(tables, graph, count)
    coarse, labels = graph.contracted(PASSES[name](graph, caps))  # raises for a circle
    for cluster in range(coarse.n):
        members = np.flatnonzero(labels == cluster)
        if len(members) == 1:
            continue
        assert graph.least_ms[members].sum() <= caps.ms * (1 + 1e-9)
        assert len(set(graph.able[members].tolist())) == 1
        weights = graph.weights[members].sum(axis=0)
        assert (weights[np.isfinite(coarse.ms[cluster])] <= caps.weights.max()).all()
        assert len(set(graph.group[members].tolist()) - {-1}) <= 1


@given(problem=dags(), count=st.integers(1, 6))
def test_every_cluster_and_group_has_a_device(problem: Problem, count: int) -> None:
    tables = Tables(problem)
    found = hierarchy(tables, count)
    last = found.graphs[-1]
    assert np.isfinite(last.least_ms).all()
    cluster_of = found.clusters
    for peers in set(tables.peers):
        device_sets = [
            {tables.device_of[t] for t in range(tables.m) if last.ms[cluster_of[i]][t] < math.inf}
            for i in peers
        ]
        assert not device_sets or set.intersection(*device_sets)


@pytest.mark.parametrize("count", [8, 30, 60])
def test_layers_that_are_alike_get_the_same_clusters(count: int) -> None:
    layers, size = 30, len(NAMES)
    found = hierarchy(Tables(transformer(layers)), count).clusters
    assert count / 2 <= found.max() + 1 <= count

    def shape(layer: int, many: int) -> list[tuple[int, ...]]:
        """The clusters of some layers, by where their blocks stand in them."""
        part = found[layer * size : (layer + many) * size]
        return sorted(tuple(np.flatnonzero(part == c).tolist()) for c in set(part.tolist()))

    shapes = {str(shape(layer, 1)) for layer in range(4, layers - 4)}
    if count == 60:  # two to a layer
        assert len(shapes) == 1
    else:  # a cluster holds about one layer, or several
        assert len(shapes) <= 2


def test_colours_of_layers() -> None:
    graph = Graph.of(Tables(transformer(12)))
    found = colours(graph).reshape(12, len(NAMES))
    assert (found[2:-2] == found[2]).all()
    assert len(set(found[2].tolist())) == len(NAMES)
    assert (found[0] != found[2]).any()


def test_circles_are_refused() -> None:
    source, destination = np.array([0, 1]), np.array([1, 0])
    with pytest.raises(ValueError, match="circle"):
        levels(2, source, destination)
    with pytest.raises(ValueError, match="circle"):
        topological(2, source, destination, np.arange(2))
