"""Whether a plan made before fits a model and a machine: it may be of others, or edited by hand."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dioe.graph import Model, OpGraph, boundaries, stage_io
from dioe.graph.shapes import bind_dims
from dioe.planning.plan_file import MAKE_ANEW
from dioe.types import InputError, Plan, PlanMismatch


def check_plan(
    plan: Plan,
    model: Model,
    *,
    hardware: str,
    cores: Collection[int] = (),
    versions: Mapping[str, str] | None = None,
    place: str = "plan",
) -> None:
    """Raise PlanMismatch unless the plan was made for this model, hardware and these backends.

    ``cores`` are the ids of the cores that may be used (none: not known), ``versions`` those of the
    installed backends; ``place`` is where the plan is from.
    """
    if plan.model_sha256 != model.sha256:
        raise PlanMismatch(
            f"made for another model (plan {plan.model_sha256[:12]}, model {model.sha256[:12]})",
            place=place,
            fix=MAKE_ANEW,
        )
    if plan.hardware != hardware:
        raise PlanMismatch(
            f"made on other hardware (plan {plan.hardware}, here {hardware})",
            place=place,
            fix=f"{MAKE_ANEW} on this machine",
        )
    for problem in _misfits(plan, model, cores, versions or {}):
        raise PlanMismatch(problem, place=place, fix=MAKE_ANEW)


def _misfits(
    plan: Plan, model: Model, cores: Collection[int], versions: Mapping[str, str]
) -> Iterator[str]:
    yield from _other_versions(plan, versions)
    yield from _other_ops(plan, model)
    if plan.rewrites:
        yield f"rewrites[0]: unknown rewrite {plan.rewrites[0]!r:.60}"
    yield from _other_shapes(plan, model)
    for i, stage in enumerate(plan.stages):
        for core in stage.resources.cores or ():
            if cores and core not in cores:
                known = ", ".join(map(str, sorted(cores)))
                yield f"stages[{i}].resources.cores: there is no core {core} here, but {known}"
    yield from _other_values(plan, model)


def _other_versions(plan: Plan, versions: Mapping[str, str]) -> Iterator[str]:
    """Backends of the plan that have another version here; who misses one says so elsewhere."""
    for backend in dict.fromkeys(stage.target.backend for stage in plan.stages):
        made_with, here = plan.versions.get(backend), versions.get(backend)
        if made_with is not None and here is not None and made_with != here:
            yield f"versions.{backend}: made with {made_with:.60}, and here is {here}"


def _other_ops(plan: Plan, model: Model) -> Iterator[str]:
    placed = {op for stage in plan.stages for op in stage.ops}
    unknown, missing = placed.difference(model.op_ids), set(model.placed_op_ids) - placed
    if unknown or missing:
        what = f"places {min(unknown)!r}" if unknown else f"leaves out {min(missing)!r}"
        yield f"{what}, unlike the model"


def _other_shapes(plan: Plan, model: Model) -> Iterator[str]:
    declared = {spec.name: spec.shape for spec in model.inputs}
    try:
        bind_dims(model.inputs, plan.shapes)
    except InputError as error:
        yield f"shapes: {error.cause}"
        return
    for name, shape in plan.shapes.items():
        for i, (dim, own) in enumerate(zip(shape, declared[name] or (), strict=False)):
            if isinstance(dim, str) and dim != own:
                yield f"shapes.{name}[{i}]: {dim!r:.60} is no dimension of the model's, {own!r} is"


def _other_values(plan: Plan, model: Model) -> Iterator[str]:
    """Inputs, outputs and boundaries that the stages' ops don't have."""
    if len(plan.stages) == 1:  # which has the whole model, with what nothing reads
        real = [
            (tuple(spec.name for spec in model.inputs), tuple(spec.name for spec in model.outputs))
        ]
        crossing = set()
    else:
        graph = OpGraph.build(model)
        placed = [[op for op in stage.ops if op in graph.ops] for stage in plan.stages]
        real = [stage_io(graph, ops) for ops in placed]
        crossing = {(b.value, b.source, b.destination) for b in boundaries(graph, plan.stages)}
    for i, (stage, (inputs, outputs)) in enumerate(zip(plan.stages, real, strict=True)):
        for what, named, own in (
            ("inputs", stage.inputs, inputs),
            ("outputs", stage.outputs, outputs),
        ):
            if other := set(named) - set(own):
                yield f"stages[{i}].{what}: {min(other)!r:.60} is none of its ops' {what}"
            if left := set(own) - set(named):
                yield f"stages[{i}].{what}: {min(left)!r:.60} is missing"
    for i, edge in enumerate(plan.boundaries):
        if (edge.value, edge.source, edge.destination) not in crossing:
            yield (
                f"boundaries[{i}]: {edge.value!r:.60} doesn't go from {edge.source} to "
                f"{edge.destination}"
            )
