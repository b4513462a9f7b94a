"""What lies between two blocks, by their targets."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from dioe.planning import (
    BlockNode,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    PlacedStage,
    Placement,
    Problem,
    Tables,
    TargetCosts,
    block_times,
    simulate,
    task_problem,
)
from dioe.planning.edge_costs import EdgeCosts
from dioe.types import Precision, Target
from tests.unit.planning.schedulers.examples import topcuoglu

NBYTES = 8
PAIRS = list(itertools.product(range(4), repeat=2))


def boundaries(own: float | None = None) -> Problem:
    """Two blocks, and four targets of two devices: all prices are different powers of two."""
    precisions = (Precision.FP32, Precision.BF16, Precision.FP32, Precision.FP32)
    names = (("cpu", "x"), ("cpu", "x"), ("cpu", "y"), ("gpu:0", "x"))
    targets = tuple(
        TargetCosts(
            Target(device, backend, (precision,)),
            {"a": Cost(1.0), "b": Cost(1.0)},
            mixes=backend == "x",
            dispatch_ms=2.0 ** (t + 1),
            entry=Line(2.0 ** (t + 5), 2.0**-3),
            exit=Line(2.0 ** (t + 9), 2.0**-4),
            copy_in=Line(2.0 ** (t + 13)),
            copy_out=Line(2.0 ** (t + 17)),
        )
        for t, ((device, backend), precision) in enumerate(zip(names, precisions, strict=True))
    )
    contexts = [costs.context for costs in targets]
    return Problem(
        blocks=(
            BlockNode("a", "conv", ("a",), {}, {"x": NBYTES}),
            BlockNode("b", "conv", ("b",), {"x": NBYTES}, {}),
        ),
        targets=targets,
        outputs=(),
        handover={(a, b): 2.0**22 for a, b in itertools.permutations(contexts, 2) if a != b},
        switch=Line(2.0**23),
        devices=(DeviceNode("cpu"), DeviceNode("gpu:0")),
        links=(LinkCosts("cpu", "gpu:0", Line(2.0**24, 4.0)), LinkCosts("gpu:0", "cpu", Line(3.0))),
        edge_ms={} if own is None else {"x": own},
    )


@pytest.mark.parametrize("own", [None, 2.0**25])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_it_is_what_the_simulator_says(source: int, target: int, own: float | None) -> None:
    problem = boundaries(own)
    tables = Tables(problem)
    edges = EdgeCosts(tables)
    shares = tables.group_of[source] == tables.group_of[target]
    stages = (
        (PlacedStage(("a", "b"), (source, target)),)
        if shares
        else (PlacedStage(("a",), (source,)), PlacedStage(("b",), (target,)))
    )
    found = simulate(problem, Placement(stages))
    runs = {
        run.block: run
        for stage, simulated in zip(stages, found.stages, strict=True)
        for run in block_times(stage, simulated)
    }
    between = runs["b"].start_ms - runs["a"].end_ms
    if shares:  # a switch lies at the end of the stage
        between += found.stages[0].times.switch_ms
    assert edges.shares[source][target] == shares
    assert edges.row(tables.problem.network.values["x"], source)[target] == between
    ms, per_byte = edges.lines[source][target]
    assert own is not None or ms + per_byte * NBYTES == between


def test_the_mean_is_that_of_targets_apart() -> None:
    tables = Tables(boundaries())
    edges = EdgeCosts(tables)
    apart = [edges.row(0, a)[b] for a, b in PAIRS if tables.group_of[a] != tables.group_of[b]]
    assert edges.mean() == [pytest.approx(sum(apart) / len(apart))]
    assert EdgeCosts(Tables(topcuoglu())).mean()[:2] == [18, 12]


def test_inputs_and_outputs_at_home() -> None:
    problem = task_problem([[1.0, 1.0]], latency_ms=2.0, ms_per_byte=0.5)
    block = replace(problem.blocks[0], reads={"in": 4}, gives={"out": 8})
    tables = Tables(
        replace(problem, blocks=(block,), inputs=("in",), outputs=("out",), home="machine:0")
    )
    edges = EdgeCosts(tables)
    values = tables.problem.network.values
    assert edges.from_home(values["in"]) == [0.0, 4.0]
    assert edges.to_home(values["out"]) == [0.0, 6.0]
    assert edges.results == {0: [0.0, 6.0]}
