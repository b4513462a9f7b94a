"""Plans of pipelines: which pins are whose, ways to run the whole, and whether a plan fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dioe.runtime import Clock, Pipeline, near
from dioe.tuning.modelled import is_modelled
from dioe.tuning.pins import Pin
from dioe.types import (
    Basis,
    HostTask,
    InputError,
    ModelNode,
    NodeCost,
    PipelinePlan,
    Plan,
    PlanMismatch,
)

COMPILE_ANEW = "compile the pipeline again, without plan=, and write down session.plan.to_json()"

ALONE = "each model as it was tuned alone"
BESIDE = "each model with threads that don't spin"


@dataclass(frozen=True, slots=True)
class NodePin(Pin):
    """A pin of ops of one model, written and told with the ``node`` that it is in."""

    node: str

    def __str__(self) -> str:
        return f"{self.node}{'' if self.pattern == '*' else f'.{self.pattern}'}={self.target}"


def pins_by_node(pipeline: Pipeline, pins: Sequence[Pin]) -> dict[str, tuple[NodePin, ...]]:
    """The pins of each model: ``node.pattern`` pins ops of it, ``node`` alone all of them.

    Raises InputError for a pin of no model.
    """
    found: dict[str, list[NodePin]] = {name: [] for name in pipeline.models}
    for pin in pins:
        node, dot, pattern = pin.pattern.partition(".")
        if node in pipeline.tasks:
            raise InputError(
                f"pin {pin}: {node!r} is a callable, which runs on the host", fix="leave it out"
            )
        if node not in found or (dot and not pattern):
            raise InputError(
                f"pin {pin} names no model of the pipeline",
                fix=f"write NODE.PATTERN=TARGET, or NODE=TARGET; {near(node, found)}",
            )
        found[node].append(NodePin(pattern or "*", pin.target, node))
    return {node: tuple(each) for node, each in found.items()}


Plans = Mapping[str, tuple[Plan, ...]]
"""The plans of each model, by its node."""


def devices_of(plans: Plans) -> frozenset[str]:
    """The devices that the plans of all models use."""
    stages = (stage for each in plans.values() for plan in each for stage in plan.stages)
    return frozenset(stage.target.device for stage in stages)


def ways(plans: Plans) -> dict[str, Plans]:
    """Ways to run the whole, by name: as each model was tuned alone, and without spinning.

    Idle threads that spin steal cores from the node that runs next; one model without company has
    no reason not to.
    """
    found = {ALONE: plans}
    if len(plans) > 1:
        beside = {name: tuple(map(_not_spinning, each)) for name, each in plans.items()}
        if beside != plans:
            found[BESIDE] = beside
    return found


def _not_spinning(plan: Plan) -> Plan:
    stages = tuple(
        replace(stage, resources=replace(stage.resources, spin=False)) for stage in plan.stages
    )
    return replace(plan, stages=stages)


def pipeline_plan(
    pipeline: Pipeline, plans: Plans, clocks: Sequence[Clock] = (), **settings: Any
) -> PipelinePlan:
    """The plan of the whole; ``clocks`` are what each node took in each of some runs.

    ``settings`` are the other fields of the plan.
    """
    cost = {name: _cost(name, clocks) for name in (*pipeline.models, *pipeline.tasks)}
    plan = PipelinePlan(
        models={name: ModelNode(each, cost[name]) for name, each in plans.items()},
        tasks={
            name: HostTask(given_parameters(pipeline, name), cost[name]) for name in pipeline.tasks
        },
        order=pipeline.order,
        edges=pipeline.edges,
        calls=pipeline.calls,
        outputs=pipeline.asked,
    )
    return replace(plan, **settings)


def _cost(name: str, clocks: Sequence[Clock]) -> NodeCost | None:
    taken = [clock.get(name, 0.0) for clock in clocks]
    if not taken:
        return None
    low, middle, high = (float(ms) for ms in np.percentile(taken, (25, 50, 75)))
    return NodeCost(middle, high - low, len(taken))


def modelled_costs(plan: PipelinePlan, devices: frozenset[str]) -> PipelinePlan:
    """The plan, ``modelled`` beside the costs of nodes on modelled devices, and of the whole."""
    found = {name for name, node in plan.models.items() if any_modelled(node.plans, devices)}
    if not found or plan.predicted_ms is None:
        return plan
    models = {
        name: replace(node, cost=replace(node.cost, basis=Basis.MODELLED))
        if name in found and node.cost is not None
        else node
        for name, node in plan.models.items()
    }
    return replace(plan, models=models, basis=Basis.MODELLED)


def any_modelled(plans: Sequence[Plan], devices: frozenset[str]) -> bool:
    """Whether a stage of any of the plans is on one of these devices."""
    return any(is_modelled(plan, devices) for plan in plans)


def unchecked_nodes(pipeline: Pipeline, plans: Plans, devices: frozenset[str]) -> frozenset[str]:
    """Nodes whose outputs mean nothing: they are on modelled devices, or read from such."""
    found = {name for name, each in plans.items() if any_modelled(each, devices)}
    for place, model in pipeline.calls.items():
        if model in found:
            found.add(place.partition(".")[0])
    for node in pipeline.order:
        if any(source in found for source, _ in pipeline.wires[node].values()):
            found.add(node)
    return frozenset(found)


def tasks_before(pipeline: Pipeline, node: str) -> tuple[str, ...]:
    """The callables that a node's outputs depend on, itself among them, in their order."""
    before, waiting = set[str](), [node]
    while waiting:
        name = waiting.pop()
        if name not in before:
            before.add(name)
            waiting += [source for source, _ in pipeline.wires[name].values()]
    return tuple(name for name in pipeline.order if name in before and name in pipeline.tasks)


def given_parameters(pipeline: Pipeline, task: str) -> tuple[str, ...]:
    """The parameters of a callable that something is given to: edges, feeds, models to call."""
    free = {full for full in (*pipeline.inputs, *pipeline.calls) if full.partition(".")[0] == task}
    return tuple(sorted({full.partition(".")[2] for full in free} | pipeline.wires[task].keys()))


def check_pipeline_plan(plan: PipelinePlan, pipeline: Pipeline) -> None:
    """Raise PlanMismatch, which names the node, unless the plan is of this pipeline's nodes and
    edges. The models' own plans aren't looked at."""
    for word, planned, here in (
        ("model", plan.models, pipeline.models), ("callable", plan.tasks, pipeline.tasks)
    ):  # fmt: skip
        for name in planned:
            if name not in here:
                _mismatch(name, f"the plan has a {word} of this name, the pipeline has none")
        for name in here:
            if name not in planned:
                _mismatch(name, f"the pipeline has a {word} of this name, the plan has none")
    for name, task in plan.tasks.items():
        given = given_parameters(pipeline, name)
        if tuple(task.parameters) != given:
            _mismatch(
                name,
                f"the callable is given {', '.join(given) or 'nothing'}, in the plan "
                f"{', '.join(task.parameters) or 'nothing'}",
            )
    edges = {(edge.source, edge.destination) for edge in pipeline.edges}
    planned_edges = {(edge.source, edge.destination) for edge in plan.edges}
    for source, destination in sorted(edges ^ planned_edges):
        where = "pipeline" if (source, destination) in planned_edges else "plan"
        _mismatch(
            destination.partition(".")[0], f"edge {source} -> {destination} isn't in the {where}"
        )
    for place in sorted(plan.calls.keys() | pipeline.calls.keys()):
        if plan.calls.get(place) != pipeline.calls.get(place):
            _mismatch(
                place.partition(".")[0],
                f"{place} calls {pipeline.calls.get(place, 'nothing')}, in the plan "
                f"{plan.calls.get(place, 'nothing')}",
            )
    for full in sorted({*plan.outputs} ^ {*pipeline.asked}):
        where = "pipeline" if full in plan.outputs else "plan"
        _mismatch(full.partition(".")[0], f"output {full} isn't asked for in the {where}")


def _mismatch(node: str, cause: str) -> None:
    raise PlanMismatch(cause, place=f"node {node!r}", fix=COMPILE_ANEW)
