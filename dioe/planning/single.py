"""The plan of one stage: the whole model on one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dioe.types import Basis, Dim, Plan, Precisions, Resources, Stage, Target, TargetReport


def single_target_plan(
    target: Target,
    *,
    model_sha256: str,
    hardware: str,
    ops: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, tuple[Dim, ...]],
    resources: Resources,
    policy: str,
    precision: str,
    limit: float,
    report: TargetReport | None = None,
    candidates: Sequence[TargetReport] = (),
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
) -> Plan:
    """A plan that gives every op to ``target``; its cost is the report's measured median."""
    measured = report is not None and report.p50_ms is not None
    cost_ms = report.p50_ms if report is not None else None
    basis = Basis.MEASURED if measured else Basis.DEFAULT
    stage = Stage(
        name="s0",
        target=target,
        ops=tuple(ops),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        precisions=Precisions(target.precisions[0]),
        resources=resources,
        predicted_ms=cost_ms,
        basis=basis,
    )
    return Plan(
        model_sha256=model_sha256,
        hardware=hardware,
        stages=(stage,),
        shapes=dict(shapes),
        policy=policy,
        precision=precision,
        max_relative_l2=limit,
        relative_l2=report.relative_l2 if report is not None else None,
        predicted_ms=cost_ms,
        basis=basis,
        candidates=tuple(candidates),
        notes=tuple(notes),
        versions=dict(versions or {}),
    )
