"""The validator: it agrees with the simulator, finds every kind of damage, and shares no code."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.planning import (
    Allowed,
    BlockNode,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    PlacedStage,
    Placement,
    Problem,
    Schedule,
    TargetCosts,
    Transfer,
    lifetimes,
)
from dioe.planning.validator import VIOLATIONS, Violation, violations
from dioe.types import Target
from tests.unit.planning import problem_strategies as some
from tests.unit.planning.problem_strategies import scheduled

quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))

IDS = ("a", "b", "c", "d", "e")


def on(text: str, ms: float, *, mixes: bool = False) -> TargetCosts:
    return TargetCosts(
        Target.parse(text),
        {name: Cost(ms) for name in IDS},
        mixes=mixes,
        dispatch_ms=0.5,
        entry=Line(0.25),
        exit=Line(0.125),
        workspace_bytes={"d": 7},
    )


# a gives p to b (on the same device, another precision) and to c, d (on the GPU); e reads all.
PROBLEM = Problem(
    (
        BlockNode("a", "op", ("a",), {"x": 40}, {"p": 80}, 100),
        BlockNode("b", "op", ("b",), {"p": 80}, {"q": 16}, 100, "pair"),
        BlockNode("c", "op", ("c",), {"p": 80, "x": 40}, {"r": 24}, 100),
        BlockNode("d", "op", ("d",), {"p": 80}, {"s": 32}, 100),
        BlockNode("e", "op", ("e",), {"q": 16, "r": 24, "s": 32}, {"y": 8}, 100, "pair"),
    ),
    (
        on("cpu/ort/fp32", 4, mixes=True),
        on("cpu/ort/bf16", 3, mixes=True),
        on("gpu:0/cuda/fp32", 2),
        replace(on("cpu/ov/fp32", 4), blocks={"a": Cost(4)}),
    ),
    ("y", "s"),
    ("x",),
    switch=Line(0.0, 0.0625),
    devices=(DeviceNode("cpu", 1, 1000, 20.0, 1.0), DeviceNode("gpu:0", 2, 1000, 50.0, 5.0)),
    links=(
        LinkCosts("cpu", "gpu:0", Line(0.5, 0.0125), "bus"),
        LinkCosts("gpu:0", "cpu", Line(0.5, 0.025), "bus"),
    ),
    edge_ms={"r": 1.5},
    home="cpu",
    allowed=Allowed((frozenset({"cpu", "gpu:0"}),), 8, 100.0),
)
PROBLEM = replace(
    PROBLEM, handover={(PROBLEM.targets[0].context, PROBLEM.targets[0].context): 0.375}
)
PLACEMENT = Placement(
    (
        PlacedStage(("a", "b"), (0, 1)),
        PlacedStage(("c",), (2,)),
        PlacedStage(("d",), (2,)),
        PlacedStage(("e",), (0,)),
    )
)
SCHEDULE = scheduled(PROBLEM, PLACEMENT)


def test_it_is_valid() -> None:
    assert violations(PROBLEM, SCHEDULE) == ()
    for policy in ("throughput", "efficiency", "memory"):
        assert violations(PROBLEM, scheduled(PROBLEM, PLACEMENT, policy)) == ()


Damage = Callable[[Schedule], Schedule]


def with_stage(number: int, **changes: Any) -> Damage:
    def damage(schedule: Schedule) -> Schedule:
        stages = list(schedule.simulation.stages)
        stages[number] = replace(stages[number], **changes)
        return replace(schedule, simulation=replace(schedule.simulation, stages=tuple(stages)))

    return damage


def moved(number: int, ms: float) -> Damage:
    """A stage that runs earlier or later."""

    def damage(schedule: Schedule) -> Schedule:
        stage = schedule.simulation.stages[number]
        return with_stage(number, start_ms=stage.start_ms + ms, end_ms=stage.end_ms + ms)(schedule)

    return damage


def with_times(number: int, **changes: Any) -> Damage:
    def damage(schedule: Schedule) -> Schedule:
        times = replace(schedule.simulation.stages[number].times, **changes)
        return with_stage(number, times=times)(schedule)

    return damage


def with_transfers(change: Callable[[list[Transfer]], list[Transfer]]) -> Damage:
    def damage(schedule: Schedule) -> Schedule:
        transfers = tuple(change(list(schedule.simulation.transfers)))
        return replace(schedule, simulation=replace(schedule.simulation, transfers=transfers))

    return damage


def with_transfer(name: str, to: str, **changes: Any) -> Damage:
    def change(transfers: list[Transfer]) -> list[Transfer]:
        chosen = [t for t in transfers if (t.value, t.destination) == (name, to)]
        assert len(chosen) == 1
        return [replace(t, **changes) if t in chosen else t for t in transfers]

    return with_transfers(change)


def late_transfer(value: str, destination: str, ms: float) -> Damage:
    def change(transfers: list[Transfer]) -> list[Transfer]:
        return [
            replace(t, start_ms=t.start_ms + ms, end_ms=t.end_ms + ms)
            if (t.value, t.destination) == (value, destination)
            else t
            for t in transfers
        ]

    return with_transfers(change)


def placed_as(*stages: tuple[str, tuple[int, ...]]) -> Damage:
    """Other stages, with the times of those before."""

    def damage(schedule: Schedule) -> Schedule:
        return replace(
            schedule,
            placement=Placement(
                tuple(PlacedStage(tuple(names.split()), targets) for names, targets in stages)
            ),
        )

    return damage


def with_simulation(**changes: Any) -> Damage:
    return lambda schedule: replace(schedule, simulation=replace(schedule.simulation, **changes))


def with_total(ms: float) -> Damage:
    return lambda schedule: with_simulation(total_ms=schedule.latency_ms + ms)(schedule)


def with_peak(schedule: Schedule) -> Schedule:
    """``peak_bytes`` is computed, so what it is computed from says another thing than the
    problem."""
    small = replace(PROBLEM.blocks[0], gives={"p": 1})
    return replace(schedule, problem=replace(PROBLEM, blocks=(small, *PROBLEM.blocks[1:])))


FIRST, SECOND, THIRD, LAST = (
    ("a b", (0, 1)),
    ("c", (2,)),
    ("d", (2,)),
    ("e", (0,)),
)

DAMAGES: list[tuple[str, Damage]] = [
    ("block", placed_as(FIRST, SECOND, LAST)),
    ("block", placed_as(FIRST, SECOND, THIRD, ("e d", (0, 0)))),
    ("block", placed_as(FIRST, SECOND, THIRD, ("e f", (0, 0)))),
    ("block", placed_as(FIRST, SECOND, ("d", ()), LAST)),
    ("target", placed_as(FIRST, SECOND, ("d", (3,)), LAST)),
    ("target", placed_as(FIRST, SECOND, ("d", (4,)), LAST)),
    ("sharing", placed_as(("a b", (3, 1)), SECOND, THIRD, LAST)),
    ("group", placed_as(FIRST, SECOND, THIRD, ("e", (2,)))),
    ("order", placed_as(("b a", (1, 0)), SECOND, THIRD, LAST)),
    ("order", placed_as(FIRST, SECOND, LAST, THIRD)),
    ("circle", placed_as(("a b e", (0, 1, 0)), SECOND, THIRD, ("", ()))),
    ("duration", with_stage(1, end_ms=SCHEDULE.simulation.stages[1].end_ms - 0.25)),
    ("duration", with_times(0, dispatch_ms=0.25)),
    ("duration", with_times(0, entries={})),
    ("duration", with_times(0, exits={"p": 0.125, "q": 0.125, "z": 0.0})),
    ("duration", with_times(0, blocks={"a": 4.0, "b": 2.5})),
    ("duration", with_times(0, blocks={"a": 4.0})),
    ("duration", with_simulation(stages=())),
    ("duration", with_times(0, switch_ms=0.0)),
    ("start", moved(1, -0.5)),
    ("start", late_transfer("p", "gpu:0", 0.25)),
    ("start", moved(3, -0.25)),
    ("transfer", with_transfers(lambda transfers: transfers[1:])),
    ("transfer", with_transfers(lambda transfers: [*transfers, transfers[-1]])),
    ("transfer", with_transfer("p", "gpu:0", value="q")),
    ("transfer", with_transfer("p", "gpu:0", value="nothing")),
    ("transfer", with_transfer("p", "gpu:0", source="gpu:0")),
    ("transfer", with_transfer("r", "cpu", end_ms=50.0)),
    ("transfer", with_transfer("r", "cpu", queue="")),
    ("transfer", late_transfer("p", "gpu:0", -0.125)),
    ("queue", late_transfer("r", "cpu", -0.25)),
    ("lane", with_stage(2, lane=2)),
    ("lane", with_stage(1, lane=-1)),
    ("lane", with_stage(2, lane=0)),
    ("lane", with_stage(2, device="cpu")),
    ("lane", moved(3, -8.0)),
    ("handover", with_stage(3, handover_ms=0.0)),
    ("total", with_total(-0.25)),
    ("total", with_total(0.25)),
    ("period", with_simulation(period_ms=SCHEDULE.period_ms - 0.5)),
    ("peak", with_peak),
    ("value", lambda schedule: replace(schedule, value=schedule.value - 0.25)),
    ("value", lambda schedule: replace(schedule, policy="throughput")),
    ("value", lambda schedule: replace(schedule, policy="efficiency")),
    ("value", lambda schedule: replace(schedule, policy="memory")),
    ("bound", lambda schedule: replace(schedule, bound=schedule.value + 0.25)),
    ("tried", lambda schedule: replace(schedule, tried={"heft": schedule.value - 0.25})),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_is_found(number: int) -> None:
    kind, damage = DAMAGES[number]
    found = violations(PROBLEM, damage(SCHEDULE))
    assert kind in {violation.what for violation in found}, found


SMALL = replace(PROBLEM.devices[0], memory_bytes=300)
LIMITS: list[tuple[str, Problem, float]] = [
    ("stages", replace(PROBLEM, allowed=Allowed(max_stages=3)), 1),
    ("latency", replace(PROBLEM, allowed=Allowed(latency_ms=SCHEDULE.latency_ms - 1)), 1),
    ("devices", replace(PROBLEM, allowed=Allowed((frozenset({"cpu"}),))), 1),
    (
        "memory",
        replace(PROBLEM, devices=(SMALL, PROBLEM.devices[1])),
        SCHEDULE.peak_bytes["cpu"] - 300,
    ),
]


@pytest.mark.parametrize(("kind", "problem", "by"), LIMITS)
def test_limits_that_are_passed(kind: str, problem: Problem, by: float) -> None:
    (found,) = violations(problem, replace(SCHEDULE, problem=problem))
    assert found.what == kind
    assert found.by == pytest.approx(by)


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _ in DAMAGES} | {kind for kind, *_ in LIMITS} == set(VIOLATIONS)


def test_a_stage_that_overtakes() -> None:
    """Lanes take stages in their order: the third can't have the lane that is free first if the
    fourth has it."""
    slow = replace(PROBLEM.targets[2], blocks={n: Cost(2.0 + 4 * (n == "a")) for n in "abcd"})
    slow = replace(slow, workspace_bytes={})
    problem = replace(
        PROBLEM,
        blocks=tuple(BlockNode(name, "op", (name,), {}, {}) for name in "abcd"),
        targets=(slow,),
        outputs=(),
        inputs=(),
        edge_ms={},
        home="",
    )
    schedule = scheduled(problem, Placement(tuple(PlacedStage((n,), (0,)) for n in "abcd")))
    assert violations(problem, schedule) == ()
    assert [stage.lane for stage in schedule.simulation.stages] == [0, 1, 1, 1]
    swapped = moved(2, 2.5)(moved(3, -2.5)(schedule))
    stages = swapped.simulation.stages
    assert stages[3].end_ms == stages[2].start_ms
    assert "lane" in {violation.what for violation in violations(problem, swapped)}


def test_a_violation_says_what_where_when_and_by_how_much() -> None:
    assert str(Violation("memory", "gpu:0", 2.5, 1024)) == "memory: gpu:0 at 2.5 ms, by 1024"
    assert str(Violation("block", "'a' is in no stage")) == "block: 'a' is in no stage"


def test_an_output_takes_room_at_home_from_its_transfer_on() -> None:
    """On a bus that is busy it sets out later than it was made."""
    away = replace(PROBLEM.targets[2], blocks={n: Cost(2) for n in "abc"}, workspace_bytes={})
    problem = replace(
        PROBLEM,
        blocks=(
            BlockNode("a", "op", ("a",), {}, {"p": 100, "q": 40}),
            BlockNode("b", "op", ("b",), {"p": 100}, {}),
            BlockNode("c", "op", ("c",), {"p": 100}, {}),
        ),
        targets=(replace(PROBLEM.targets[0], blocks={"b": Cost(1)}, workspace_bytes={}), away),
        outputs=("q",),
        inputs=(),
        edge_ms={},
        handover={},
    )
    stages = (PlacedStage(("a",), (1,)), PlacedStage(("b",), (0,)), PlacedStage(("c",), (1,)))
    schedule = scheduled(problem, Placement(stages), "memory")
    first, second = schedule.transfers
    assert (first.value, second.value) == ("p", "q")
    assert second.start_ms == first.end_ms > schedule.simulation.stages[0].end_ms
    held = {(h.device, h.what): h for h in lifetimes(problem, schedule.placement, schedule.simulation)}  # noqa: E501  # fmt: skip
    assert held["cpu", "q"].start_ms == second.start_ms
    assert violations(problem, schedule) == ()


@quick
@given(some.problems(), st.data())
def test_it_agrees_with_the_simulator(problem: Problem, data: st.DataObject) -> None:
    """On any placement, limits aside, which a random one doesn't keep."""
    placement = data.draw(some.placements(problem))
    policy = data.draw(st.sampled_from(("latency", "throughput", "memory")))
    found = violations(problem, scheduled(problem, placement, policy))
    assert [each for each in found if each.what not in ("memory", "group")] == []


@quick
@given(some.problems(limited=False), st.data())
def test_damage_to_any_schedule_is_found(problem: Problem, data: st.DataObject) -> None:
    schedule = scheduled(problem, data.draw(some.placements(problem)))
    number = data.draw(st.integers(0, len(schedule.simulation.stages) - 1))
    stage = schedule.simulation.stages[number]
    damages = [
        moved(number, -stage.start_ms - 0.125),
        with_stage(number, end_ms=stage.end_ms + 0.125),
        with_stage(number, handover_ms=stage.handover_ms + 0.125),
        with_total(0.125),
    ]
    if schedule.transfers:
        left_out = data.draw(st.integers(0, len(schedule.transfers) - 1))
        damages += [
            with_transfers(lambda transfers: [*transfers[:left_out], *transfers[left_out + 1 :]]),
            with_transfers(lambda transfers: [*transfers, transfers[left_out]]),
        ]
    before = violations(problem, schedule)
    after = violations(problem, data.draw(st.sampled_from(damages))(schedule))
    assert set(after) - set(before)


# --- independence -------------------------------------------------------------------------------

DATA = {
    "dioe.flops": {"WEIGHT_BITS"},
    "dioe.planning.problem": {"BlockNode", "ContextKey", "Line", "Problem", "TargetCosts"},
    "dioe.planning.schedule": {"Schedule"},
    "dioe.planning.simulator": {"PlacedStage", "Placement"},
}
"""What the validator may take of others: tables and dataclasses."""
COMPUTED = {
    "assignment", "boundary_ms", "gap", "group_of", "groups", "handover_ms", "network", "positions",
    "producers", "readers",
}  # fmt: skip
"""What these dataclasses work out, which the validator has to do for itself."""


@pytest.mark.parametrize("module", ["validator", "validator_facts", "validator_memory"])
def test_it_shares_no_code(module: str) -> None:
    spec = importlib.util.find_spec(f"dioe.planning.{module}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= {"math"}
        elif isinstance(node, ast.ImportFrom):
            names = {name.name for name in node.names}
            assert node.module is not None
            if node.module.startswith("dioe.planning.validator"):
                continue
            if node.module.startswith("dioe"):
                assert names <= DATA[node.module], node.module
        elif isinstance(node, ast.Attribute):
            owner = node.value
            name = getattr(owner, "attr", getattr(owner, "id", ""))
            if name in ("problem", "schedule", "times"):
                assert node.attr not in COMPUTED
