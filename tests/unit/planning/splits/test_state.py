"""The search's own figures, against the judge's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning.splits import Instance, Split, judge
from dioe.planning.splits.state import State
from tests.unit.planning.splits.made import instances, layered, made


def check(instance: Instance, state: State, *, exact: bool = True) -> None:
    held: list[list[int]] = [[] for _ in state.load]
    for node, device in enumerate(state.place):
        held[device].append(node)
    split = Split(
        cpus=tuple(map(tuple, held[state.accelerators :])),
        accelerators=tuple(map(tuple, held[: state.accelerators])),
    )
    judgement = judge(instance, split)
    assert state.load == pytest.approx([each.load for each in judgement.devices], abs=1e-9)
    assert state.size == pytest.approx([each.size_bytes for each in judgement.devices], abs=1e-9)
    latency = state.latency()
    cut = any("convex" in fault or "circle" in fault for fault in judgement.faults)
    assert (latency is None) == cut
    if latency is not None:
        assert latency == pytest.approx(judgement.latency)


@given(instances(), st.data())
def test_a_state_is_what_the_judge_says(instance: Instance, data: st.DataObject) -> None:
    devices = instance.max_accelerators + instance.max_cpus
    somewhere = st.integers(0, devices - 1)
    place = [data.draw(somewhere) for _ in instance.nodes]
    state = State(instance, instance.max_accelerators, instance.max_cpus, place)
    check(instance, state)
    for _ in range(4):
        state.move(data.draw(st.integers(0, len(place) - 1)), data.draw(somewhere))
        check(instance, state)


def test_after_many_moves() -> None:
    instance = layered(3, 60, accelerators=3, cpus=2)
    rng = random.Random(3)
    state = State(instance, 3, 2, [rng.randrange(5) for _ in range(60)])
    for _ in range(2000):
        state.move(rng.randrange(60), rng.randrange(5))
    check(instance, state)
    load = list(state.load)
    state.rebuild()
    assert state.load == pytest.approx(load, abs=1e-9)


def test_what_the_latency_depends_on() -> None:
    # 1 -> 2 -> 4 on an accelerator and CPUs, 3 beside them; 5 costs nothing
    instance = made([(10, 1), (20, 2), (3, 3), (40, 4), (0, 0)], [(1, 2, 0.1), (2, 4, 0.2)])
    state = State(instance, 2, 1, [0, 2, 0, 2, 1])
    assert sorted(state.critical()) == [
        0,
        1,
        2,
        3,
    ]  # 3 with 1: what an accelerator has is done at once
    state.load[1] = -1e-17  # as rounding errors leave it
    assert sorted(state.critical()) == [0, 1, 2, 3]


def test_the_longest_chain_is_as_long_as_the_latency() -> None:
    instance = layered(8, 80, accelerators=0)
    state = State(instance, 0, 1, [0] * 80)
    on_path = sum(instance.nodes[node].cpu_time for node in state.critical())
    assert on_path == pytest.approx(state.latency())
