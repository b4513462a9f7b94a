"""What a session can run later shapes on: every way that was right when it was tuned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import psutil

from dioe.graph import Model
from dioe.hardware import Pool
from dioe.runtime import is_host
from dioe.runtime.variants import MAX_SHAPE_VARIANTS, unmeasured
from dioe.tuning.buckets import Point, Shapes
from dioe.tuning.found import plan_name
from dioe.tuning.limited import Limited
from dioe.tuning.targets import usual_resources
from dioe.types import (
    InputError,
    OutOfMemory,
    Plan,
    Precision,
    Precisions,
    Stage,
    Target,
    TargetReport,
)

MEMORY_SHARE = 1 / 4
VARIANT_WEIGHTS = 2.0
"""Prepared variants may fill this share of the memory, each counted as so many times the model's
weights: a backend keeps them in a layout of its own, and activations besides."""

MEMORY_RESERVE = 1 / 4
"""Nothing more is prepared once less than this share of the memory is left. Activations can take
far more than weights: 50 to 140 MiB for PP-OCR det at 320x640 to 960x960 pixels on OpenVINO
2026.4.1, with weights of 4.5 MiB."""

_WRITTEN = (Precision.FP32,)


@dataclass(frozen=True, slots=True)
class Option:
    """A way to run the model, by the name of its targets; a plan for any shapes by ``at``."""

    name: str
    plan: Plan

    def at(self, shapes: Shapes) -> Plan:
        """The plan for these shapes, nothing measured yet."""
        return unmeasured(self.plan, shapes, "prepared in the background")


def option_name(plan: Plan, pool: Pool) -> str:
    """The name of a tuned plan: the same as in reports on it.

    A whole model on a target with the threads that it has by default is named like the target.
    """
    if len(plan.stages) == 1 and len(plan.stages[0].target.precisions) == 1:
        stage = plan.stages[0]
        usual = usual_resources(stage.target.device, pool)
        if (stage.resources.threads, stage.resources.cores) == (usual.threads, usual.cores):
            return str(stage.target)
    return plan_name(plan)


def options_of(
    model: Model, plans: Sequence[Plan], pool: Pool, limited: Limited | None = None
) -> list[Option]:
    """The tuned plans, and every single target that was right where it was tried.

    A target in lower precision than written has to have been within the limit at all shapes that
    were tuned for: there the caller's own samples judged it. No single target is
    among them that is ``limited`` by now.
    """
    limited = limited or Limited()
    names = [option_name(plan, pool) for plan in plans]
    found = {n: Option(n, plan) for n, plan in reversed([*zip(names, plans, strict=True)])}
    for report in [report for plan in plans for report in plan.candidates]:
        if report.target in found:
            continue
        reports = [r for plan in plans for r in plan.candidates if r.target == report.target]
        stage = _whole_stage(model, report.target, pool, limited)
        if stage is None or any(limited.breaches([stage])):
            continue
        if _usable(reports, lowered=stage.target.precisions != _WRITTEN):
            plan = replace(plans[0], stages=(stage,), boundaries=())
            found[report.target] = Option(report.target, plan)
    return list(found.values())


def points_of(plans: Sequence[Plan], options: Sequence[Option], pool: Pool) -> Iterator[Point]:
    """What the tuned plans tell about the options' costs at their shapes."""
    names = {option.name for option in options}
    for plan in plans:
        shapes = {
            name: tuple(dim for dim in shape if isinstance(dim, int))
            for name, shape in plan.shapes.items()
        }
        costs = {r.target: _cost_ms(r) for r in plan.candidates if r.target in names}
        costs[option_name(plan, pool)] = plan.predicted_ms
        known = {name: ms for name, ms in costs.items() if ms is not None}
        if plan.predicted_ms is not None:
            yield Point(shapes, known)


def most_variants(model: Model, pool: Pool, limited: Limited | None = None) -> int:
    """How many prepared variants fit what may be used of the host's memory; 0 for a model too large
    for any."""
    sizes = [d.memory_bytes for d in pool.devices if d.kind == "cpu" and d.memory_bytes]
    caps = (limited or Limited()).limits.memory_bytes
    sizes += [size for device, size in caps.items() if is_host(device)]
    if not sizes:
        return MAX_SHAPE_VARIANTS
    room = MEMORY_SHARE * min(sizes) / (VARIANT_WEIGHTS * max(model.weight_bytes, 1))
    return int(min(room, MAX_SHAPE_VARIANTS))


def check_memory(pool: Pool) -> None:
    """Raise OutOfMemory if the host has too little left for another variant."""
    system = psutil.virtual_memory()
    limits = [d.memory_bytes for d in pool.devices if d.kind == "cpu" and d.memory_bytes]
    limit = min(limits, default=system.total)
    left = min(system.available, limit - psutil.Process().memory_info().rss)
    if left < MEMORY_RESERVE * limit:
        raise OutOfMemory(
            f"{left / 2**20:.0f} MiB of {limit / 2**20:.0f} are left, too little for more variants",
            place="tuning in the background",
            fix="compile with tune_shapes=False, or give the shapes that matter as sample_inputs",
        )


def _cost_ms(report: TargetReport) -> float | None:
    """Its time; infinite if it can't be used, None if it wasn't found out."""
    if report.state in ("unsupported", "infidel"):
        return math.inf
    return report.p50_ms if report.state in ("ok", "slow") else None


def _usable(reports: Sequence[TargetReport], *, lowered: bool) -> bool:
    states = {report.state for report in reports}
    if lowered:
        return states == {"ok"}
    return bool(states & {"ok", "slow"}) and "infidel" not in states


def _whole_stage(model: Model, name: str, pool: Pool, limited: Limited) -> Stage | None:
    """The whole model on a target; None if its name doesn't say all about it."""
    try:
        target = Target.parse(name)
    except InputError:  # a plan of several stages
        return None
    if len(target.precisions) > 1:  # which op is in which isn't in the name
        return None
    return Stage(
        "s0",
        target,
        model.placed_op_ids,
        tuple(spec.name for spec in model.inputs),
        tuple(spec.name for spec in model.outputs),
        Precisions(target.precisions[0]),
        limited.resources(target.device, usual_resources(target.device, pool)),
    )
