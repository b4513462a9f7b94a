"""Many requests in a row: the period is what lies between two results in the end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import (
    BlockNode,
    ContextKey,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    PlacedStage,
    Placement,
    Problem,
    TargetCosts,
    simulate,
)
from dioe.types import Target

REQUESTS = 30
times = st.integers(1, 24).map(lambda quarters: quarters / 4)


@st.composite
def pipelines(draw: st.DrawFn, *, lanes: int = 1, again: bool = True) -> tuple[Problem, Placement]:
    """Blocks that read some of those before them, each a stage of its own on one of some devices;
    without ``again`` each on another device."""
    count = draw(st.integers(2, 4))
    devices = [f"gpu:{d}" for d in range(draw(st.integers(2, 3)) if again else count)]
    blocks = []
    for i in range(count):
        before = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=2)) if i else []
        reads = {f"v{s}": 8 for s in before} or {"x": 4}
        blocks.append(BlockNode(f"b{i}", "op", (f"b{i}",), reads, {f"v{i}": 8}))
    targets = tuple(
        TargetCosts(
            Target(device, "a"),
            {f"b{i}": Cost(draw(times)) for i in range(count)},
            dispatch_ms=draw(st.sampled_from((0.0, 0.5))),
            entry=Line(0.0, draw(st.sampled_from((0.0, 0.125)))),
        )
        for device in devices
    )
    contexts: list[ContextKey] = [costs.context for costs in targets]
    link = Line(draw(st.sampled_from((0.0, 1.0))), draw(st.sampled_from((0.0, 0.25))))
    shared = draw(st.sampled_from(("", "bus", None)))
    problem = Problem(
        tuple(blocks),
        targets,
        (f"v{count - 1}",),
        ("x",),
        {(c, c): draw(times) for c in contexts if draw(st.booleans())},
        devices=tuple(DeviceNode(name, lanes) for name in devices),
        links=tuple(LinkCosts(a, b, link, shared) for a, b in itertools.permutations(devices, 2)),
    )
    where = [draw(st.integers(0, len(devices) - 1)) if again else i for i in range(count)]
    placement = Placement(
        tuple(PlacedStage((f"b{i}",), (target,)) for i, target in enumerate(where))
    )
    return problem, placement


def many(problem: Problem, requests: int, pace_ms: float) -> Problem:
    """So many copies that share nothing but the devices, and one request every ``pace_ms``: another
    device, the clock, gives each the leave to start. (Else early stages would run far ahead, and
    fill a shared queue that later ones need.)"""
    ticks = [f"tick.{r}" for r in range(requests)]
    clock = TargetCosts(Target("clock", "a"), {name: Cost(pace_ms) for name in ticks})
    blocks = [BlockNode(name, "tick", (name,), {}, {f"{name}.v": 4}) for name in ticks]
    for r in range(requests):
        for block in problem.blocks:
            reads = {f"{value}.{r}": size for value, size in block.reads.items() if value != "x"}
            blocks.append(
                BlockNode(
                    f"{block.id}.{r}",
                    block.kind,
                    block.ops,
                    reads if "x" not in block.reads else {**reads, f"tick.{r}.v": 4},
                    {f"{value}.{r}": size for value, size in block.gives.items()},
                )
            )
    targets = [
        replace(
            costs,
            blocks={
                f"{name}.{r}": cost for name, cost in costs.blocks.items() for r in range(requests)
            },
        )
        for costs in problem.targets
    ]
    return replace(
        problem,
        blocks=tuple(blocks),
        targets=(*targets, clock),
        devices=(*problem.devices, DeviceNode("clock")),
        outputs=tuple(f"{value}.{r}" for value in problem.outputs for r in range(requests)),
        inputs=(),
    )


def end_ms(problem: Problem, placement: Placement, requests: int, late: int, pace: float) -> float:
    """When the last of so many requests has its result, if the stage number s of a request runs
    beside those number 0 of the ``late * s``-th request after it."""
    turns = sorted(
        (r + late * s, s, r) for r in range(requests) for s in range(len(placement.stages))
    )
    stages = [
        PlacedStage(
            tuple(f"{name}.{r}" for name in placement.stages[s].blocks), placement.stages[s].targets
        )
        for _, s, r in turns
    ]
    clock = [PlacedStage((f"tick.{r}",), (len(problem.targets),)) for r in range(requests)]
    return simulate(many(problem, requests, pace), Placement((*clock, *stages))).total_ms


def measured_ms(problem: Problem, placement: Placement, late: int, pace: float) -> float:
    """Between two results, when as many requests went before."""
    first, last = (end_ms(problem, placement, n, late, pace) for n in (REQUESTS, 2 * REQUESTS))
    return (last - first) / REQUESTS


@settings(max_examples=25, deadline=None)
@given(pipelines(again=False))
def test_each_device_once(drawn: tuple[Problem, Placement]) -> None:
    """One request simply after the other."""
    period = simulate(*drawn).period_ms
    assert measured_ms(*drawn, late=0, pace=period) == pytest.approx(period, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(pipelines())
def test_devices_with_several_stages(drawn: tuple[Problem, Placement]) -> None:
    """Each stage works on an earlier request than the one before it."""
    period = simulate(*drawn).period_ms
    assert measured_ms(*drawn, late=2, pace=period) == pytest.approx(period, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(pipelines(lanes=2, again=False))
def test_lanes_share_the_load(drawn: tuple[Problem, Placement]) -> None:
    period = simulate(*drawn).period_ms
    assert measured_ms(*drawn, late=0, pace=period) == pytest.approx(period, rel=0.05)


@settings(max_examples=25, deadline=None)
@given(pipelines(), st.integers(0, 2))
def test_never_faster(drawn: tuple[Problem, Placement], late: int) -> None:
    period = simulate(*drawn).period_ms
    assert measured_ms(*drawn, late=late, pace=0.5 * period) >= period * 0.97
