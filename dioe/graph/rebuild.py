"""From a plan back to something that runs: the stage graph, and one ONNX model a stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import networkx as nx

from dioe.graph.extract import boundaries, extract
from dioe.graph.guard import shown
from dioe.graph.model import Model
from dioe.graph.opgraph import OpGraph
from dioe.graph.partition import quotient
from dioe.types import Boundary, Plan, PlanMismatch, Stage


@dataclass(frozen=True, slots=True, eq=False)
class StageGraph:
    """A plan as a graph, with the ONNX model of each stage.

    ``digraph`` has a node for each stage (``kind="stage"``, ``stage``, ``model``). Where a value
    goes to another device, a ``transfer`` node with its ``boundary`` lies between; where it stays
    but the backend or the precisions differ, a ``conversion`` node. Stages alike in both
    are joined by an edge with ``boundaries``. ``order`` is a topological order of the stages, the
    plan's own where that is one.
    """

    digraph: nx.DiGraph[str]
    models: Mapping[str, Model]
    order: tuple[str, ...]
    boundaries: tuple[Boundary, ...]


def rebuild(graph: OpGraph, plan: Plan) -> StageGraph:
    """The stage graph of ``plan`` for ``graph``, whose shapes should be the plan's.

    Ids of ``Constant`` nodes in a plan are ignored: they go where they are read. A plan of one
    stage gets the graph's own model, nothing cut. Raises PlanMismatch if the plan is another
    model's, if ops are missing, unknown or in two stages, or if stages depend on each other in a
    circle.
    """
    if plan.model_sha256 != graph.model.sha256:
        planned, ours = shown(plan.model_sha256[:12]), graph.model.sha256[:12]
        raise _mismatch(graph, f"the plan is for model {planned}…, this is {ours}…")
    groups = _groups(graph, plan)
    order = _order(graph, plan, groups)
    models = _models(graph, plan, groups)
    crossing = _with_predictions(boundaries(graph, plan.stages), plan)
    return StageGraph(_digraph(graph, plan, models, crossing), models, order, crossing)


def _groups(graph: OpGraph, plan: Plan) -> list[list[str]]:
    """The placed ops of each stage, all checked."""
    repeated = [name for name, uses in Counter(s.name for s in plan.stages).items() if uses > 1]
    if repeated:
        raise _mismatch(graph, f"stage {repeated[0]!r} is there twice")
    known = set(graph.model.op_ids)
    unknown = [op for stage in plan.stages for op in stage.ops if op not in known]
    if unknown:
        raise _mismatch(graph, f"the plan places {unknown[0]!r}, which the model doesn't have")
    groups = [[op for op in stage.ops if op in graph.ops] for stage in plan.stages]
    uses = Counter(op for group in groups for op in group)
    twice = [op for op, count in uses.items() if count > 1]
    if twice:
        raise _mismatch(graph, f"op {twice[0]!r} is in two stages")
    missing = [op for op in graph.ids if op not in uses]
    if missing:
        raise _mismatch(graph, f"{len(missing)} ops are in no stage, {missing[0]!r} first")
    return groups


def _order(graph: OpGraph, plan: Plan, groups: list[list[str]]) -> tuple[str, ...]:
    try:
        stages = quotient(graph, groups)
    except ValueError as error:
        raise _mismatch(graph, str(error)) from error
    numbers = nx.lexicographical_topological_sort(stages)
    return tuple(plan.stages[number].name for number in numbers)


def _models(graph: OpGraph, plan: Plan, groups: list[list[str]]) -> dict[str, Model]:
    if len(plan.stages) == 1:
        return {plan.stages[0].name: graph.model}
    try:
        return {
            stage.name: extract(graph, ops, stage.name)
            for stage, ops in zip(plan.stages, groups, strict=True)
        }
    except ValueError as error:
        raise _mismatch(graph, str(error)) from error


def _with_predictions(found: tuple[Boundary, ...], plan: Plan) -> tuple[Boundary, ...]:
    predicted = {(b.value, b.source, b.destination): b.predicted_ms for b in plan.boundaries}
    return tuple(
        replace(b, predicted_ms=predicted.get((b.value, b.source, b.destination))) for b in found
    )


def _digraph(
    graph: OpGraph, plan: Plan, models: Mapping[str, Model], crossing: tuple[Boundary, ...]
) -> nx.DiGraph[str]:
    result: nx.DiGraph[str] = nx.DiGraph(model=graph.model.sha256)
    stages = {stage.name: stage for stage in plan.stages}
    for stage in plan.stages:
        result.add_node(stage.name, kind="stage", stage=stage, model=models[stage.name])
    for edge in crossing:
        kind = _crossing(stages[edge.source], stages[edge.destination])
        if kind is None:
            joined = result.get_edge_data(edge.source, edge.destination, {"boundaries": ()})
            result.add_edge(edge.source, edge.destination, boundaries=(*joined["boundaries"], edge))
            continue
        node = f"{edge.source}>{edge.destination}:{edge.value}"
        result.add_node(node, kind=kind, boundary=edge)
        result.add_edge(edge.source, node)
        result.add_edge(node, edge.destination)
    return result


def _crossing(source: Stage, destination: Stage) -> str | None:
    if source.target.device != destination.target.device:
        return "transfer"
    alike = source.target == destination.target
    return None if alike else "conversion"


def _mismatch(graph: OpGraph, cause: str) -> PlanMismatch:
    return PlanMismatch(cause, place=graph.model.place, fix="make a plan for this model")
