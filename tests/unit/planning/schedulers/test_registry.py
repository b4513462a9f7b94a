"""What every scheduler has to keep to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dioe.planning import Problem, Tables, placed, simulate, task_problem
from dioe.planning.schedulers import SCHEDULERS
from dioe.planning.schedulers.cpop import cpop_times
from dioe.planning.schedulers.dmda import dmda_times
from dioe.planning.schedulers.heft import heft_times
from dioe.planning.schedulers.lookahead import lookahead_times
from dioe.planning.schedulers.metf import metf_times
from dioe.planning.schedulers.min_min import min_min_times
from dioe.planning.schedulers.peft import peft_times
from dioe.planning.schedulers.timetable import Timetable
from tests.unit.planning.problems import DIAMOND, SKIP, TWO_BRANCHES, problems

TIMES: dict[str, Callable[[Tables], Timetable | None]] = {
    "heft": heft_times,
    "peft": peft_times,
    "cpop": cpop_times,
    "lookahead": lookahead_times,
    "m-etf": metf_times,
    "min-min": min_min_times,
    "dmda": dmda_times,
}
SMALL = 1e-9
few = settings(max_examples=40)


def test_all_are_tested() -> None:
    assert list(TIMES) == list(SCHEDULERS)


@st.composite
def machines(draw: st.DrawFn, memory: bool = False) -> Problem:
    """Tasks on unrelated machines without queues; quarters, so that sums are exact."""
    count, devices = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    quarters = st.integers(0, 40).map(lambda q: q / 4)
    duration = st.one_of(quarters, quarters, quarters, st.just(math.inf))
    rows = []
    for _ in range(count):
        row = draw(st.lists(duration, min_size=devices, max_size=devices))
        if min(row) == math.inf:
            row[draw(st.integers(0, devices - 1))] = draw(quarters)
        rows.append(row)
    pairs = [(a, b) for b in range(count) for a in range(b)]
    edges = [(a, b, draw(st.integers(0, 8))) for a, b in pairs if draw(st.integers(0, 3)) == 0]
    own = {(a, b): draw(quarters) for a, b, _ in edges if draw(st.integers(0, 5)) == 0}
    groups = {
        i: draw(st.sampled_from("ab")) for i in range(count) if memory and draw(st.booleans())
    }
    problem = task_problem(
        rows,
        edges,
        edge_ms=own,
        ms_per_byte=draw(quarters),
        latency_ms=draw(quarters),
        lanes=draw(st.lists(st.sampled_from([1, 1, 2, None]), min_size=devices, max_size=devices)),
        memory_bytes=draw(
            st.lists(st.one_of(st.none(), st.integers(0, 60)), min_size=devices, max_size=devices)
        )
        if memory
        else None,
        weight_bytes=draw(st.lists(st.integers(0, 20), min_size=count, max_size=count)),
        groups=groups,
    )
    if draw(st.booleans()):
        return problem
    last = f"t{count - 1}"
    return dataclasses.replace(
        problem,
        blocks=tuple(
            dataclasses.replace(
                block,
                reads={**block.reads, "in": 4} if not block.reads else block.reads,
                gives={**block.gives, "out": 4} if block.id == last else block.gives,
            )
            for block in problem.blocks
        ),
        inputs=("in",),
        outputs=("out",),
        home=draw(st.sampled_from([device.id for device in problem.devices])),
    )


@pytest.mark.parametrize("name", TIMES)
@few
@given(data=st.data())
def test_simulated_no_later_than_the_scheduler_says(name: str, data: st.DataObject) -> None:
    problem = data.draw(machines())
    tables = Tables(problem)
    times = TIMES[name](tables)
    assert times is not None  # nothing limits it
    found = SCHEDULERS[name](tables)
    assert found is not None
    assert sorted(found.order) == list(range(tables.n))
    assert found == times.assigned()
    simulated = simulate(problem, placed(tables, found))
    assert simulated.total_ms <= times.total_ms + SMALL
    assert all(tables.ms[i][t] < math.inf for i, t in enumerate(found.targets))


@pytest.mark.parametrize("name", TIMES)
@few
@given(data=st.data())
def test_memory_and_groups_are_kept(name: str, data: st.DataObject) -> None:
    problem = data.draw(machines(memory=True))
    tables = Tables(problem)
    assume(all(min(row) < math.inf for row in tables.ms))
    found = SCHEDULERS[name](tables)
    if found is None:
        # some block doesn't fit somewhere where it can run, or nothing would ever be left out
        total = sum(max(row) for row in tables.weights)
        assert min(tables.memory) < total
        return
    simulate(problem, placed(tables, found))
    for device, limit in enumerate(tables.memory):
        held = [
            tables.weights[i][t]
            for i, t in enumerate(found.targets)
            if tables.device_of[t] == device
        ]
        assert sum(held) <= limit
    for i, peers in enumerate(tables.peers):
        assert {tables.device_of[found.targets[j]] for j in peers} <= {
            tables.device_of[found.targets[i]]
        }


@pytest.mark.parametrize("name", SCHEDULERS)
@few
@given(data=st.data())
def test_problems_with_boundaries_and_without_devices(name: str, data: st.DataObject) -> None:
    problem = data.draw(st.sampled_from([SKIP, DIAMOND, TWO_BRANCHES]).flatmap(problems))
    tables = Tables(problem)
    found = SCHEDULERS[name](tables)
    if found is None:
        assert min(tables.memory) < math.inf or any(min(row) == math.inf for row in tables.ms)
    else:
        simulate(problem, placed(tables, found))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_device_that_is_full_is_left_out(name: str) -> None:
    problem = task_problem(
        [[1.0, 10.0]] * 4, memory_bytes=[20, None], weight_bytes=[10, 10, 10, 10]
    )
    found = SCHEDULERS[name](Tables(problem))
    assert found is not None
    assert found.targets.count(0) <= 2
    assert found.targets.count(1) >= 2


@pytest.mark.parametrize("name", SCHEDULERS)
def test_none_where_nothing_fits(name: str) -> None:
    problem = task_problem([[1.0, 1.0]] * 3, memory_bytes=[10, 10], weight_bytes=[10, 10, 10])
    assert SCHEDULERS[name](Tables(problem)) is None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_group_goes_where_all_of_it_fits(name: str) -> None:
    problem = task_problem(
        [[1.0, 5.0], [1.0, 5.0]],
        [(0, 1)],
        memory_bytes=[15, 20],
        weight_bytes=[10, 10],
        groups={0: "g", 1: "g"},
    )
    found = SCHEDULERS[name](Tables(problem))
    assert found is not None
    assert found.targets == [1, 1]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_block_that_no_target_runs(name: str) -> None:
    problem = task_problem([[1.0, 2.0], [math.inf, math.inf]])
    assert SCHEDULERS[name](Tables(problem)) is None
