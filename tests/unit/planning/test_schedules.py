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


def test_one_by_one_where_memory_is_short() -> None:
    """On any number of lanes two blocks would run at the same time, and not fit together."""
    problem = task_problem([[1.0], [1.0]], lanes=[None], memory_bytes=[10])
    (costs,) = problem.targets
    costs = replace(costs, workspace_bytes={"t0": 8, "t1": 8})
    schedule = solve(replace(problem, targets=(costs,)))
    assert (schedule.latency_ms, schedule.peak_bytes) == (2.0, {"machine:0": 8})


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


@st.composite
def numbered_twice(draw: st.DrawFn, queue: str | None) -> tuple[Problem, Problem]:
    """A problem, and the same with its tasks and devices in another order."""
    count, wide = draw(st.integers(2, 10)), draw(st.integers(1, 3))
    row = st.lists(st.integers(4, 40), min_size=wide, max_size=wide)
    ms = draw(st.lists(row, min_size=count, max_size=count))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    edges = draw(st.dictionaries(st.sampled_from(pairs), st.integers(0, 20), max_size=2 * count))
    tasks, machines = draw(st.permutations(range(count))), draw(st.permutations(range(wide)))
    permuted: list[list[int]] = [[] for _ in range(count)]
    for i, times in enumerate(ms):
        permuted[tasks[i]] = [times[machine] for machine in machines]
    return (
        task_problem(ms, [(a, b, n) for (a, b), n in edges.items()], ms_per_byte=1.0, queue=queue),
        task_problem(
            permuted,
            [(tasks[a], tasks[b], n) for (a, b), n in edges.items()],
            ms_per_byte=1.0,
            queue=queue,
        ),
    )


@pytest.mark.parametrize("queue", [None, ""])
def test_names_and_numbers_hardly_matter(queue: str | None) -> None:
    """Permuted tasks and machines: within 2 %, whether transfers wait for each other or not."""

    @settings(quick, max_examples=25)
    @given(numbered_twice(queue))
    def close(problems: tuple[Problem, Problem]) -> None:
        values = [solve(problem, work_limit=1000).value for problem in problems]
        assert max(values) <= 1.02 * min(values)

    close()


def test_what_cannot_be_is_told() -> None:
    tasks = task_problem(
        [[1, 2]] * 3, [(0, 1), (1, 2)], weight_bytes=[50] * 3, memory_bytes=[60, 60]
    )
    with pytest.raises(
        UnsupportedError, match=r"memory of all devices.*150 B needed, 120 B allowed"
    ):
        solve(tasks)
    with pytest.raises(UnsupportedError, match="machine:0 has 40 bytes"):
        solve(replace(tasks, devices=tuple(replace(d, memory_bytes=40) for d in tasks.devices)))
    late = replace(task_problem([[1, 2]] * 3, [(0, 1), (1, 2)]), allowed=Allowed(latency_ms=2.5))
    with pytest.raises(
        UnsupportedError, match=r"latency: 3 ms needed, 2\.5 ms allowed, 0\.5 ms too much"
    ):
        solve(late)
    apart = task_problem([[1, math.inf], [math.inf, 1]], groups={0: "g", 1: "g"})
    with pytest.raises(UnsupportedError, match="no device runs all blocks of group 'g'"):
        solve(apart)
