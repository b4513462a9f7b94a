"""What ``solve`` promises of any problem: it is valid, no worse with more, and the same again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dioe.planning import (
    SCHEDULE_POLICIES,
    Allowed,
    Cost,
    DeviceNode,
    PlacedStage,
    Placement,
    Problem,
    Schedule,
    Tables,
    bound,
    judged,
    simulate,
    solve,
    task_problem,
    violations,
)
from dioe.types import Target, UnsupportedError
from tests.unit.planning import problem_strategies as some

WORK = 100
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
policies = st.sampled_from(SCHEDULE_POLICIES)


def solved(problem: Problem, policy: str = "latency", **options: int) -> Schedule:
    """The schedule, where there is one: of a random problem the limits may be too tight."""
    assume(problem.devices or policy != "efficiency")
    try:
        return solve(problem, policy, **{"work_limit": WORK, **options})  # type: ignore[arg-type]
    except UnsupportedError as error:
        told = str(error)
    assert any(what in told for what in ("memory", "memories", "latency", "group")), told
    assume(False)
    raise AssertionError("assume() raises")


def no_worse(value: float, than: float) -> bool:
    return value <= than * (1 + 1e-9)


@quick
@given(some.problems(), policies, st.integers(0, 3))
def test_every_schedule_is_valid(problem: Problem, policy: str, seed: int) -> None:
    """The validator also looks at the bound, and at all that was tried."""
    schedule = solved(problem, policy, seed=seed)
    assert violations(problem, schedule) == ()
    assert no_worse(bound(Tables(problem), policy), schedule.value)


@quick
@given(some.problems(limited=False), policies, st.data())
def test_limits_are_kept_or_named(problem: Problem, policy: str, data: st.DataObject) -> None:
    free = solved(problem, policy)
    limits = Allowed(
        data.draw(st.sampled_from((None, (frozenset({problem.targets[0].target.device}),)))),
        data.draw(st.sampled_from((None, 1, len(free.placement.stages)))),
        data.draw(st.sampled_from((None, free.latency_ms, free.latency_ms / 2))),
    )
    tight = replace(problem, allowed=limits)
    try:
        schedule = solve(tight, policy, work_limit=WORK)
    except UnsupportedError as error:
        told = str(error)
    else:
        assert violations(tight, schedule) == ()
        return
    assert (
        (limits.max_stages is not None and "stages" in told)
        or (limits.latency_ms is not None and "latency" in told)
        or (limits.together is not None and "devices" in told)
        or "group" in told
    ), told


@quick
@given(some.problems(limited=False), policies)
def test_no_single_device_is_better(problem: Problem, policy: str) -> None:
    schedule = solved(problem, policy)
    for target, costs in enumerate(problem.targets):
        if all(block.id in costs.blocks for block in problem.blocks):
            names = tuple(block.id for block in problem.blocks)
            alone = Placement((PlacedStage(names, (target,) * len(names)),))
            assert no_worse(schedule.value, judged(problem, alone, policy).value)


@quick
@given(some.problems(), policies, st.data())
def test_another_device_never_hurts(problem: Problem, policy: str, data: st.DataObject) -> None:
    """The schedule so far is offered as a hint, judged anew."""
    assume(problem.devices)
    before = solved(problem, policy)
    ms = data.draw(some.times)
    added = replace(
        problem.targets[0],
        target=Target("d:new", "a"),
        blocks={block.id: Cost(ms) for block in problem.blocks},
        memory_bytes=None,
    )
    node = DeviceNode("d:new", 1, None, 1.0)
    more = replace(problem, devices=(*problem.devices, node), targets=(*problem.targets, added))
    after = solve(more, policy, work_limit=WORK, hint=before.placement)
    assert violations(more, after) == ()
    assert no_worse(after.value, judged(more, before.placement, policy).value)


@quick
@given(some.problems(), policies)
def test_more_memory_never_hurts(problem: Problem, policy: str) -> None:
    before = solved(problem, policy)
    more = replace(
        problem,
        devices=tuple(
            replace(d, memory_bytes=None if d.memory_bytes is None else 2 * d.memory_bytes)
            for d in problem.devices
        ),
        targets=tuple(replace(t, memory_bytes=None) for t in problem.targets),
    )
    after = solve(more, policy, work_limit=WORK, hint=before.placement)
    assert violations(more, after) == ()
    assert no_worse(after.value, before.value)


@quick
@given(some.problems(), policies, st.integers(0, 3))
def test_the_same_again(problem: Problem, policy: str, seed: int) -> None:
    first = solved(problem, policy, seed=seed)
    again = solved(problem, policy, seed=seed)
    assert (again.placement, again.value, again.found_by) == (
        first.placement, first.value, first.found_by,
    )  # fmt: skip
    assert simulate(problem, first.placement) == first.simulation


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_names_and_numbers_of_tasks_hardly_matter(data: st.DataObject) -> None:
    """Permuted ids and devices: an answer within 2 %."""
    count = data.draw(st.integers(2, 10))
    wide = data.draw(st.integers(1, 3))
    ms = data.draw(
        st.lists(
            st.lists(st.integers(4, 40), min_size=wide, max_size=wide),
            min_size=count,
            max_size=count,
        )
    )
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    edges = data.draw(st.lists(st.sampled_from(pairs), max_size=2 * count, unique=True))
    sizes = data.draw(st.lists(st.integers(0, 20), min_size=len(edges), max_size=len(edges)))
    tasks = data.draw(st.permutations(range(count)))
    machines = data.draw(st.permutations(range(wide)))
    queue = data.draw(st.sampled_from((None, "")))
    straight = task_problem(
        ms, [(a, b, n) for (a, b), n in zip(edges, sizes, strict=True)],
        ms_per_byte=1.0, queue=queue,
    )  # fmt: skip
    rows: list[list[float]] = [[] for _ in range(count)]
    for i, row in enumerate(ms):
        rows[tasks[i]] = [row[machine] for machine in machines]
    permuted = task_problem(
        rows, [(tasks[a], tasks[b], n) for (a, b), n in zip(edges, sizes, strict=True)],
        ms_per_byte=1.0, queue=queue,
    )  # fmt: skip
    one, other = (solve(problem, work_limit=3000).value for problem in (straight, permuted))
    assert max(one, other) <= 1.02 * min(one, other)


def test_what_cannot_be_is_told() -> None:
    tasks = task_problem(
        [[1, 2]] * 3, [(0, 1), (1, 2)], weight_bytes=[50] * 3, memory_bytes=[60, 60]
    )
    with pytest.raises(UnsupportedError, match=r"memory of all devices.*150 needed, 120 allowed"):
        solve(tasks)
    with pytest.raises(UnsupportedError, match="machine:0 has 40 bytes"):
        solve(replace(tasks, devices=tuple(replace(d, memory_bytes=40) for d in tasks.devices)))
    late = replace(task_problem([[1, 2]] * 3, [(0, 1), (1, 2)]), allowed=Allowed(latency_ms=2.5))
    with pytest.raises(UnsupportedError, match=r"latency: 3 needed, 2\.5 allowed, 0\.5 too much"):
        solve(late)
    apart = task_problem([[1, math.inf], [math.inf, 1]], groups={0: "g", 1: "g"})
    with pytest.raises(UnsupportedError, match="no device runs all blocks of group 'g'"):
        solve(apart)
