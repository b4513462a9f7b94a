"""``solve``: never worse than what it starts from, the same twice, optimal where that is known."""

from __future__ import annotations

import dataclasses
import itertools
import random
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dioe.planning import (
    SCHEDULE_POLICIES,
    Allowed,
    Assigned,
    BlockNode,
    Cost,
    Problem,
    Tables,
    TargetCosts,
    cpsat,
    judged,
    placed,
    solve,
    task_problem,
)
from dioe.planning.fast import Fast
from dioe.types import Target, UnsupportedError
from tests.unit.planning.random_problems import random_problem

needs_cpsat = pytest.mark.skipif(not cpsat.available(), reason="OR-Tools isn't installed")


def small(seed: int, count: int = 5, machines: int = 2, **more: object) -> Problem:
    rng = random.Random(seed)
    edges = [(a, b) for b in range(count) for a in range(b) if rng.random() < 0.3]
    return task_problem(
        [[rng.randrange(1, 40) / 4 for _ in range(machines)] for _ in range(count)],
        edges,
        edge_ms={edge: rng.randrange(0, 20) / 4 for edge in edges},
        **more,  # type: ignore[arg-type]
    )


def least(tables: Tables, policy: str) -> float:
    """Of all targets and orders."""
    fast = Fast(tables, policy)
    orders = [
        list(order)
        for order in itertools.permutations(range(tables.n))
        if all(order.index(p) < order.index(i) for i in order for p, _ in tables.preds[i])
    ]
    keys = [
        fast.key(Assigned(list(targets), order))
        for order in orders
        for targets in itertools.product(range(tables.m), repeat=tables.n)
    ]
    return min(value for over, value, _ in keys if not over)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lanes", [(1, 1), (2, None)])
@needs_cpsat
def test_small_problems_are_solved_and_proved(seed: int, lanes: tuple[int | None, ...]) -> None:
    problem = small(seed, lanes=lanes)
    schedule = solve(problem, work_limit=1000)
    assert schedule.proved
    assert schedule.value == pytest.approx(least(Tables(problem), "latency"), rel=1e-6)
    assert schedule.bound == pytest.approx(schedule.value, rel=1e-6)


@pytest.mark.parametrize("policy", ["latency", "throughput", "memory"])
@pytest.mark.parametrize("queue", [None, ""])
def test_a_search_finds_the_best_of_small_problems(policy: str, queue: str | None) -> None:
    problem = small(3, queue=queue)
    schedule = solve(problem, policy, work_limit=1500)
    assert schedule.value == pytest.approx(least(Tables(problem), policy), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(SCHEDULE_POLICIES),
)  # fmt: skip
def test_no_answer_is_below_the_bound_or_worse_than_the_portfolio(
    seed: int, staged: bool, queues: bool, limited: bool, policy: str
) -> None:
    problem = random_problem(random.Random(seed), staged=staged, queues=queues, limited=limited)
    try:
        schedule = solve(problem, policy, work_limit=60)
    except UnsupportedError as error:
        assume("needed" in str(error))
        return
    again = solve(problem, policy, work_limit=60)
    assert again.placement == schedule.placement
    assert schedule.bound <= schedule.value
    assert all(schedule.value <= value for value in schedule.tried.values())
    found = judged(problem, schedule.placement, policy)
    assert not found.over
    assert found.value == schedule.value


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_more_devices_and_memory_never_make_it_worse(seed: int, queues: bool) -> None:
    problem = random_problem(random.Random(seed), queues=queues)
    names = [node.id for node in problem.devices]
    fewer = dataclasses.replace(
        problem,
        targets=problem.targets[:-1],
        devices=tuple(dataclasses.replace(node, memory_bytes=200) for node in problem.devices[:-1]),
        links=tuple(k for k in problem.links if names[-1] not in (k.source, k.destination)),
        home="",
    )
    try:
        before = solve(fewer, work_limit=60)
    except UnsupportedError:
        return
    problem = dataclasses.replace(problem, home="")
    old = judged(problem, before.placement, "latency")
    assert solve(problem, work_limit=0, hint=before.placement).value <= old.value
    assert solve(problem, work_limit=60, hint=before.placement).value <= old.value


def test_a_group_stays_together_whatever_the_hint() -> None:
    free = small(5, count=6)
    hint = placed(Tables(free), Assigned([0, 1] * 3, list(range(6))))
    problem = small(5, count=6, groups={0: "a", 1: "a", 5: "b", 4: "b"})
    assignment = solve(problem, work_limit=200, hint=hint).assignment
    assert assignment["t0"] == assignment["t1"]
    assert assignment["t4"] == assignment["t5"]


def test_on_one_lane_devices_that_may_be_used_together_are_kept_to() -> None:
    targets = tuple(
        TargetCosts(Target(device, "a"), {"b0": Cost(ms), "b1": Cost(4.0 - ms)})
        for device, ms in (("d:0", 1.0), ("d:1", 3.0))
    )
    blocks = (
        BlockNode("b0", "op", ("o0",), {"x": 0}, {"v": 0}),
        BlockNode("b1", "op", ("o1",), {"v": 0}, {}),
    )
    problem = Problem(blocks, targets, (), ("x",))
    assert solve(problem).value == 2.0
    alone = Allowed(together=(frozenset({"d:0"}), frozenset({"d:1"})))
    assert solve(dataclasses.replace(problem, allowed=alone)).value == 4.0


def test_what_cannot_be_is_told_with_the_limit_and_the_excess() -> None:
    heavy = small(1, memory_bytes=[100, 150], weight_bytes=[60] * 5)
    with pytest.raises(UnsupportedError, match=r"all devices together: 300 B needed, 250 B"):
        solve(heavy, work_limit=50)
    large = small(1, memory_bytes=[100, 150], weight_bytes=[0, 0, 200, 0, 0])
    with pytest.raises(UnsupportedError, match=r"machine:1|t2"):
        solve(large, work_limit=50)
    slow = dataclasses.replace(small(1), allowed=Allowed(latency_ms=0.5))
    with pytest.raises(UnsupportedError, match=r"can keep the limits: latency: .* 0\.5 ms allowed"):
        solve(slow, work_limit=50)


@pytest.mark.parametrize("policy", ["latency", "throughput", "memory"])
def test_only_devices_that_may_be_used_together_are(policy: str) -> None:
    free = small(6, count=7, machines=4)
    pairs = [frozenset({"machine:0", "machine:1"}), frozenset({"machine:2", "machine:3"})]
    limited = dataclasses.replace(free, allowed=Allowed(tuple(pairs)))
    schedule = solve(limited, policy, work_limit=600)
    used = {target.split("/")[0] for target in schedule.assignment.values()}
    assert any(used <= pair for pair in pairs)
    assert schedule.bound <= schedule.value
    each = [
        solve(dataclasses.replace(free, allowed=Allowed((pair,))), policy, work_limit=600)
        for pair in pairs
    ]
    assert schedule.value == pytest.approx(min(one.value for one in each), rel=0.02)


def test_a_tight_memory_is_kept() -> None:
    problem = small(2, count=8, memory_bytes=[130, 130], weight_bytes=[30] * 8)
    schedule = solve(problem, work_limit=400)
    assert max(schedule.peak_bytes.values()) <= 130


AFTER = """
import os, signal, time
from dioe.planning import solve, task_problem
edges = [(max(0, b - 2), b) for b in range(1, 14)]
ms = [[1.0 + (7 * i + 3 * d) % 5 for d in range(3)] for i in range(14)]
solve(task_problem(ms, edges, edge_ms=dict.fromkeys(edges, 1.5)), work_limit=500)
assert "ortools" in __import__("sys").modules
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
"""


@needs_cpsat
def test_ctrl_c_is_python_s_after_solving() -> None:
    """CP-SAT's own handler would leave the system's behind: an interrupt ended the process."""
    done = subprocess.run(
        [sys.executable, "-c", AFTER], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr


def test_without_cp_sat_everything_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpsat, "available", lambda: False)
    problem = small(4)
    schedule = solve(problem, work_limit=300)
    assert schedule.value == pytest.approx(least(Tables(problem), "latency"))


@pytest.mark.parametrize("seed", range(3))
def test_few_long_stages_where_each_costs_and_one_device_is_too_small(seed: int) -> None:
    rng = random.Random(seed)
    count = 60
    problem = task_problem(
        [[rng.uniform(1, 3)] * 2 for _ in range(count)],
        [(i, i + 1, rng.randrange(1, 100)) for i in range(count - 1)],
        ms_per_byte=0.001,
        latency_ms=0.5,
        memory_bytes=[60_000, 60_000],
        weight_bytes=[rng.randrange(500, 2500) for _ in range(count)],
    )
    targets = tuple(dataclasses.replace(each, dispatch_ms=5.0) for each in problem.targets)
    problem = dataclasses.replace(problem, targets=targets)
    two = solve(dataclasses.replace(problem, allowed=Allowed(max_stages=2)))
    assert len(two.placement.stages) == 2
    assert solve(problem).value <= two.value * (1 + 1e-9)
    assert solve(problem, work_limit=0).value < two.value * 1.05
