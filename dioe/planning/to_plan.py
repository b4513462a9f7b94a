"""From a placement to a plan: stages with their ops, precisions and boundaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dioe.graph import OpGraph, boundaries, stage_io
from dioe.planning.allowed import Allowed
from dioe.planning.explain import block_reports
from dioe.planning.names import stage_name
from dioe.planning.problem import Problem
from dioe.planning.simulator import PlacedStage, Placement, Simulation, StageTimes, simulate
from dioe.types import (
    Basis,
    Boundary,
    Dim,
    Plan,
    Precision,
    Precisions,
    Stage,
    Target,
    TargetReport,
    Tradeoff,
)


def to_plan(
    problem: Problem,
    placement: Placement,
    graph: OpGraph,
    *,
    hardware: str,
    shapes: Mapping[str, tuple[Dim, ...]],
    policy: str,
    precision: str,
    limit: float,
    relative_l2: float | None = None,
    candidates: Sequence[TargetReport] = (),
    tradeoffs: Sequence[Tradeoff] = (),
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    allowed: Allowed | None = None,
) -> Plan:
    """The plan of a placement of ``graph``'s blocks, explained block by block: also by what is
    ``allowed`` at most.

    Its times are the simulator's, so its basis is ``predicted`` (``default`` if a block's cost is
    that): who times it replaces both. A stage's time includes its boundaries; a boundary's is its
    part of that, the exit of a value counted with its first reader. Raises as ``simulate`` does,
    and ValueError if the placement's ops aren't all of the graph's.
    """
    simulation = simulate(problem, placement)
    ops = {block.id: block.ops for block in problem.blocks}
    if sorted(op for block in ops.values() for op in block) != sorted(graph.ids):
        raise ValueError("the problem's blocks aren't those of the graph")
    stages = [
        _stage(problem, graph, stage_name(number), stage, simulation.stages[number].times)
        for number, stage in enumerate(placement.stages)
    ]
    if len(stages) == 1:
        stages = [
            replace(
                stages[0],  # inputs that nothing reads are the stage's too: it gets the whole model
                inputs=tuple(spec.name for spec in graph.model.inputs),
                outputs=tuple(spec.name for spec in graph.model.outputs),
            )
        ]
    return Plan(
        model_sha256=graph.model.sha256,
        hardware=hardware,
        stages=tuple(stages),
        boundaries=_boundaries(graph, stages, simulation),
        shapes=dict(shapes),
        policy=policy,
        precision=precision,
        max_relative_l2=limit,
        relative_l2=relative_l2,
        predicted_ms=simulation.total_ms,
        basis=_weakest(stage.basis for stage in stages),
        candidates=tuple(candidates),
        blocks=block_reports(problem, placement, allowed),
        tradeoffs=tuple(tradeoffs),
        notes=tuple(notes),
        versions=dict(versions or {}),
    )


def _stage(
    problem: Problem, graph: OpGraph, name: str, stage: PlacedStage, times: StageTimes
) -> Stage:
    precision_of = {
        op: problem.targets[target].precision
        for block, target in zip(stage.blocks, stage.targets, strict=True)
        for op in problem.blocks[problem.positions[block]].ops
    }
    ops = tuple(sorted(precision_of, key=graph.index.__getitem__))
    precisions = _precisions({op: precision_of[op] for op in ops})
    inputs, outputs = stage_io(graph, ops)
    costs = problem.targets[stage.targets[0]]
    bases = [
        problem.targets[target].blocks[block].basis
        for block, target in zip(stage.blocks, stage.targets, strict=True)
    ]
    return Stage(
        name=name,
        target=Target(costs.target.device, costs.target.backend, precisions.used),
        ops=ops,
        inputs=inputs,
        outputs=outputs,
        precisions=precisions,
        resources=costs.resources,
        predicted_ms=times.total_ms,
        basis=_weakest(bases),
    )


def _precisions(precision_of: Mapping[str, Precision]) -> Precisions:
    """The commonest precision but fp32 as the default: backends that mix compile for a lower one
    and keep some ops as written."""
    counts = Counter(precision_of.values())
    default = max(counts, key=lambda p: (p is not Precision.FP32, counts[p], p))
    return Precisions(default, {op: p for op, p in precision_of.items() if p is not default})


def _weakest(bases: Iterable[Basis]) -> Basis:
    """A sum of costs is a prediction, and a default if one of them is."""
    return Basis.DEFAULT if Basis.DEFAULT in set(bases) else Basis.PREDICTED


def _boundaries(
    graph: OpGraph, stages: Sequence[Stage], simulation: Simulation
) -> tuple[Boundary, ...]:
    times = {
        stage.name: simulated.times
        for stage, simulated in zip(stages, simulation.stages, strict=True)
    }
    found: list[Boundary] = []
    left: set[str] = set()
    for edge in boundaries(graph, stages):
        exit_ms = 0.0 if edge.value in left else times[edge.source].exits[edge.value]
        left.add(edge.value)
        entry_ms = times[edge.destination].entries[edge.value]
        found.append(replace(edge, predicted_ms=exit_ms + entry_ms))
    return tuple(found)
