"""Coarse tables: what is placed there is valid for the blocks, and costs what it says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Assigned, Budget, Problem, Tables, judged, placed, simulate
from dioe.planning.coarsening import CoarseTables, hierarchy, multilevel
from dioe.planning.portfolio import single_devices
from tests.unit.planning import problems as small
from tests.unit.planning.coarsening.graphs import dags, transformer


def drawn(draw: st.DataObject, tables: Tables) -> Assigned | None:
    """Any target for each cluster that keeps groups together, in the order of the tables."""
    targets = [-1] * tables.n
    for i in range(tables.n):
        able = [t for t in range(tables.m) if tables.ms[i][t] < math.inf]
        done = {tables.device_of[targets[j]] for j in tables.peers[i] if targets[j] >= 0}
        able = [t for t in able if not done or tables.device_of[t] in done]
        targets[i] = draw.draw(st.sampled_from(able))
    return Assigned(targets, list(range(tables.n)))


def held(tables: Tables, targets: list[int]) -> list[float]:
    found = [0.0] * len(tables.devices)
    for i, t in enumerate(targets):
        found[tables.device_of[t]] += tables.weights[i][t]
    return found


@given(problem=dags(), count=st.integers(1, 12), draw=st.data())
def test_expanding(problem: Problem, count: int, draw: st.DataObject) -> None:
    tables = Tables(problem)
    coarse = CoarseTables(tables, hierarchy(tables, count).clusters)
    chosen = drawn(draw, coarse)
    assert chosen is not None
    fine = coarse.expand(chosen)
    simulate(problem, placed(tables, fine))  # raises for what is no placement
    assert held(tables, fine.targets) == pytest.approx(held(coarse, chosen.targets))
    for peers in set(tables.peers):
        assert len({tables.device_of[fine.targets[i]] for i in peers}) <= 1


@given(problem=small.problems(small.TWO_BRANCHES), count=st.integers(1, 4))
def test_stages_of_one_lane(problem: Problem, count: int) -> None:
    tables = Tables(problem)
    coarse = CoarseTables(tables, hierarchy(tables, count).clusters)
    for name, assigned in single_devices(coarse):
        fine = coarse.expand(assigned)
        assert name in dict(single_devices(tables))
        assert simulate(problem, placed(tables, fine)).total_ms < math.inf


@given(dags(), st.sampled_from(["latency", "throughput", "memory"]), st.integers(1, 8))
def test_not_worse_than_what_was_found(problem: Problem, policy: str, count: int) -> None:
    tables = Tables(problem)
    seen: list[Assigned] = []

    def inner(coarse: Tables, policy: str, budget: Budget, seed: int) -> Assigned:
        assert isinstance(coarse, CoarseTables)
        first = [min(range(coarse.m), key=row.__getitem__) for row in coarse.ms]
        for i, peers in enumerate(coarse.peers):
            if peers:
                first[i] = first[peers[0]]
                if coarse.ms[i][first[i]] == math.inf:
                    first[i] = next(
                        t
                        for t in range(coarse.m)
                        if coarse.device_of[t] == coarse.device_of[first[peers[0]]]
                    )
        seen.append(coarse.expand(Assigned(first, list(range(coarse.n)))))
        return Assigned(first, list(range(coarse.n)))

    found = multilevel(tables, policy, Budget(None, 20), 0, inner, count=count)
    value = judged(problem, placed(tables, found), policy)
    assert value.key <= judged(problem, placed(tables, seen[0]), policy).key


def test_refinement_gains() -> None:
    """All on the slowest device: passes at the border can't help, from two devices on they do."""
    problem = transformer(20)
    tables = Tables(problem)

    def inner(coarse: Tables, policy: str, budget: Budget, seed: int) -> Assigned:
        half = coarse.n // 2
        return Assigned([0] * half + [1] * (coarse.n - half), list(range(coarse.n)))

    found = multilevel(tables, "latency", Budget(None, 20), 0, inner, count=20)
    start = CoarseTables(tables, hierarchy(tables, 20).clusters)
    first = start.expand(inner(start, "", Budget(), 0))
    before = judged(problem, placed(tables, first), "latency").value
    assert judged(problem, placed(tables, found), "latency").value < 0.95 * before
