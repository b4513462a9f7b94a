"""Judging splits, by figures worked out on paper."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning.splits import Instance, Split, judge
from tests.unit.planning.splits.made import instances, made, split_of

# 1 -> 2 -> 4 and 1 -> 3 -> 4; an output costs a tenth of its node's number to move
DIAMOND = made(
    [(10, 1), (20, 2), (30, 3), (40, 4)],
    [(1, 2, 0.1), (1, 3, 0.1), (2, 4, 0.2), (3, 4, 0.3)],
    cpus=2,
)


def test_on_cpus_the_longest_path_counts() -> None:
    judgement = judge(DIAMOND, split_of(DIAMOND, []))
    assert judgement.latency == 10 + 30 + 40
    assert judgement.max_load == 100
    assert judgement.faults == ()


def test_on_one_accelerator_everything_is_added_and_nothing_moved() -> None:
    judgement = judge(DIAMOND, split_of(DIAMOND, [[1, 2, 3, 4]]))
    assert judgement.latency == judgement.max_load == 10


def test_an_output_read_on_two_accelerators_is_sent_once_and_received_twice() -> None:
    judgement = judge(DIAMOND, split_of(DIAMOND, [[1], [2, 4], [3]]))
    # 1: 1 + 0.1. 3: in 0.1, 3, out 0.3. {2, 4} waits for both: in 0.1 + 0.3, 2 + 4
    assert judgement.latency == pytest.approx(1.1 + 3.4 + 6.4)
    assert [device.load for device in judgement.devices[:3]] == pytest.approx([1.1, 6.4, 3.4])
    assert judgement.faults == ("3 accelerators are used, and there are 2",)


def test_two_readers_on_one_accelerator_receive_once() -> None:
    judgement = judge(DIAMOND, split_of(DIAMOND, [[2, 3]]))
    # 1 on a CPU: 10. {2, 3}: in 0.1, 5, out 0.2 + 0.3. 4 on a CPU: 40
    assert judgement.latency == pytest.approx(10 + 5.6 + 40)


def test_a_set_that_is_not_convex_is_cut() -> None:
    judgement = judge(DIAMOND, split_of(DIAMOND, [[1, 2, 4]]))
    # pieces {1, 2} and {4}, as 3 is between: 3 + 0.1 + 0.2, then 30, then in 0.2 + 0.3 and 4
    assert judgement.latency == pytest.approx(3.3 + 30 + 4.5)
    # its load doesn't know of pieces: 7, in 0.3, out 0.1
    assert judgement.devices[0].load == pytest.approx(7.4)
    assert judgement.devices[0].pieces == 2
    assert judgement.faults == ("accelerator 0 isn't convex: it is cut into 2",)


def test_accelerators_that_wait_for_each_other() -> None:
    instance = made([(1, 1)] * 4, [(1, 2, 0.0), (3, 4, 0.0)])
    judgement = judge(instance, split_of(instance, [[1, 4], [2, 3]]))
    assert judgement.latency == math.inf
    assert judgement.faults == ("accelerators wait for each other in a circle",)


def test_faults() -> None:
    instance = made(
        [(1, 1, 60), (1, 1, 60), (1, 1, 1, 7), (1, 1, 1, 7), (1, 1, 1, -1, 0)], accelerators=1
    )
    faults = judge(instance, Split(cpus=((2,),), accelerators=((0, 1, 3, 4, 4),))).faults
    assert set(faults) == {
        "node 5 is on 2 devices",
        "colour class 7 is on more than one device",
        "accelerator 0 needs 23 bytes more than it has",
    }
    faults = judge(instance, Split(cpus=(), accelerators=((4,),))).faults
    assert "node 5 is on accelerator 0, which can't run it" in faults
    assert "node 1 is on 0 devices" in faults


@given(instances(), st.data())
def test_convex_as_a_path_that_leaves_and_comes_back(
    instance: Instance, data: st.DataObject
) -> None:
    count = len(instance.nodes)
    held = data.draw(st.sets(st.integers(0, count - 1)))
    reached = [[False] * count for _ in range(count)]
    for node in reversed(instance.order):
        for after in instance.successors[node]:
            reached[node][after] = True
            for each in range(count):
                reached[node][each] |= reached[after][each]
    convex = not any(
        reached[a][outside] and reached[outside][b]
        for a in held for b in held for outside in set(range(count)) - held
    )  # fmt: skip
    rest = tuple(set(range(count)) - held)
    judgement = judge(instance, Split(cpus=(rest,), accelerators=(tuple(held),)))
    assert any("convex" in fault for fault in judgement.faults) != convex
    assert math.isfinite(judgement.latency)
