"""The event-driven timeline: lanes, queues, transfers, handovers; examples worked out by hand."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning.timeline import Jobs, Way, run


def test_a_lane_takes_its_jobs_in_order() -> None:
    """The first job waits for its input, and the second, which could start, waits behind it."""
    jobs = Jobs(
        ms=[5.0, 1.0, 2.0],
        device=[0, 1, 1],
        context=[0, 1, 1],
        reads=[[], [0], []],
        source=[0],
        nbytes=[10.0],
        lanes=[1, 1],
        ways={(0, 1): Way(1.0, 0.1, -1)},
    )
    timed = run(jobs)
    assert timed.start == [0.0, 7.0, 8.0]
    assert timed.end == [5.0, 8.0, 10.0]
    assert timed.total_ms == 10.0
    assert [(c.start_ms, c.end_ms) for c in timed.crossings] == [(5.0, 7.0)]


def test_transfers_of_one_queue_wait_for_each_other_in_the_order_they_are_ready() -> None:
    jobs = Jobs(
        ms=[2.0, 1.0, 1.0, 1.0],
        device=[0, 1, 2, 2],
        context=[0, 1, 2, 2],
        reads=[[], [], [0], [1]],
        source=[0, 1],
        nbytes=[1.0, 1.0],
        lanes=[1, 1, 1],
        ways={(0, 2): Way(0.0, 4.0, 7), (1, 2): Way(0.0, 4.0, 7)},
    )
    timed = run(jobs)
    # value 1 is made first (at 1) and holds the queue until 5; value 0 crosses from 5 to 9
    assert [(c.value, c.start_ms, c.end_ms) for c in timed.crossings] == [(1, 1, 5), (0, 5, 9)]
    assert timed.start == [0.0, 0.0, 9.0, 10.0]


def test_a_value_crosses_once_for_all_readers_of_a_device() -> None:
    jobs = Jobs(
        ms=[1.0, 1.0, 1.0],
        device=[0, 1, 1],
        context=[0, 1, 1],
        reads=[[], [0], [0]],
        source=[0],
        nbytes=[3.0],
        lanes=[1, 2],
        ways={(0, 1): Way(0.0, 1.0, 0)},
    )
    timed = run(jobs)
    assert len(timed.crossings) == 1
    assert timed.start == [0.0, 4.0, 4.0]
    assert sorted(timed.lane[1:]) == [0, 1]


def test_handover_comes_between_contexts_of_one_lane() -> None:
    jobs = Jobs(
        ms=[1.0, 1.0, 1.0],
        device=[0, 0, 0],
        context=[0, 1, 1],
        reads=[[], [], []],
        source=[],
        nbytes=[],
        lanes=[1],
        handover={(0, 1): 0.5},
    )
    timed = run(jobs)
    assert timed.start == [0.0, 1.5, 2.5]
    assert timed.handover == [0.0, 0.5, 0.0]


def test_home_holds_inputs_and_gets_outputs() -> None:
    jobs = Jobs(
        ms=[2.0],
        device=[1],
        context=[0],
        reads=[[0]],
        source=[-1, 0],
        nbytes=[5.0, 7.0],
        lanes=[1, 1],
        ways={(0, 1): Way(1.0, 1.0, 0), (1, 0): Way(1.0, 1.0, 1)},
        home=0,
        lasting=[1],
    )
    timed = run(jobs)
    assert timed.start == [6.0]
    assert timed.end == [8.0]
    assert timed.total_ms == 16.0


def test_a_fixed_time_takes_the_place_of_the_links() -> None:
    jobs = Jobs(
        ms=[1.0, 1.0],
        device=[0, 1],
        context=[0, 1],
        reads=[[], [0]],
        source=[0],
        nbytes=[1e9],
        lanes=[0, 0],
        ways={(0, 1): Way(0.0, 1.0, -1)},
        fixed={0: 2.5},
    )
    assert run(jobs).start == [0.0, 3.5]


def test_jobs_that_wait_for_each_other_are_no_timeline() -> None:
    jobs = Jobs(
        ms=[1.0, 1.0],
        device=[0, 0],
        context=[0, 0],
        reads=[[0], []],
        source=[1],
        nbytes=[1.0],
        lanes=[1],
    )
    with pytest.raises(ValueError, match="circle"):
        run(jobs)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 3))
def test_no_lane_and_no_queue_does_two_things_at_once(seed: int, count: int, devices: int) -> None:
    rng = random.Random(seed)
    reads = [sorted(set(rng.choices(range(i), k=2))) if i else [] for i in range(count)]
    jobs = Jobs(
        ms=[rng.uniform(0, 5) for _ in range(count)],
        device=[rng.randrange(devices) for _ in range(count)],
        context=[rng.randrange(2) for _ in range(count)],
        reads=reads,
        source=list(range(count)),
        nbytes=[rng.uniform(0, 5) for _ in range(count)],
        lanes=[rng.randint(1, 3) for _ in range(devices)],
        ways={
            (a, b): Way(rng.uniform(0, 1), rng.uniform(0, 2), rng.randrange(2))
            for a in range(devices)
            for b in range(devices)
            if a != b
        },
        handover={(0, 1): 0.25, (1, 0): 0.5},
    )
    timed = run(jobs)
    arrived = {(c.value, c.destination): c.end_ms for c in timed.crossings}
    for job, values in enumerate(reads):
        for value in values:
            there = timed.end[value]
            if jobs.device[value] != jobs.device[job]:
                there = arrived[value, jobs.device[job]]
            assert timed.start[job] >= there
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    queue = devices  # a number that no device has
    for job in range(count):
        span = (timed.start[job] - timed.handover[job], timed.end[job])
        lanes.setdefault((jobs.device[job], timed.lane[job]), []).append(span)
    for c in timed.crossings:
        lanes.setdefault((queue, c.queue), []).append((c.start_ms, c.end_ms))
        assert c.start_ms >= timed.end[c.value]
    for spans in lanes.values():
        spans.sort()
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert start >= end - 1e-9
    assert all(len([k for k in lanes if k[0] == d]) <= jobs.lanes[d] for d in range(devices))
    assert timed.total_ms == max(timed.end)
