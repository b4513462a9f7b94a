"""What is said of targets on modelled devices: their times are computed, their outputs unchecked.

Such a device is a descriptor only (``dioe.types.KnownAs``). A plan with a stage on one gives
outputs that mean nothing, so they aren't held to the fidelity limit, and every figure that rests on
it says ``modelled``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dioe.registry import Registry
from dioe.types import Basis, BlockReport, KnownAs, Plan, Stage, TargetReport

UNCHECKED = "modelled: its times are computed from a descriptor, its outputs aren't checked"
"""The reason of a report that no comparison with the reference led to."""


def modelled_devices(registry: Registry) -> frozenset[str]:
    """Ids of the devices that are descriptors only."""
    return frozenset(
        placement.device.id
        for placement in registry.placements
        if placement.device.known_as is KnownAs.MODELLED
    )


def is_modelled(plan: Plan, devices: frozenset[str]) -> bool:
    """Whether a stage of the plan is on one of these devices."""
    return any(stage.target.device in devices for stage in plan.stages)


def mark_plan(plan: Plan, devices: frozenset[str]) -> Plan:
    """The plan, with ``modelled`` beside every figure that rests on one of these devices."""
    plan = replace(plan, candidates=tuple(mark_reports(plan.candidates, devices)))
    if not is_modelled(plan, devices):
        return plan
    used = sorted({s.target.device for s in plan.stages if s.target.device in devices})
    are = "is a modelled device" if len(used) == 1 else "are modelled devices"
    note = (
        f"{', '.join(used)} {are}: times are computed from a descriptor, and outputs mean nothing; "
        "they weren't compared with the reference"
    )
    return replace(
        plan,
        stages=tuple(_marked_stage(stage, devices) for stage in plan.stages),
        blocks=tuple(_marked_block(block, devices) for block in plan.blocks),
        basis=Basis.MODELLED if plan.predicted_ms is not None else plan.basis,
        relative_l2=None,
        notes=(note, *(n for n in plan.notes if n != note)),
    )


def mark_reports(
    reports: Iterable[TargetReport], devices: frozenset[str]
) -> Sequence[TargetReport]:
    """The reports, ``modelled`` where a part of their target or plan is on one of these devices."""
    return [
        replace(report, known_as=KnownAs.MODELLED)
        if any(_device(part) in devices for part in report.target.split(" -> "))
        else report
        for report in reports
    ]


def _marked_stage(stage: Stage, devices: frozenset[str]) -> Stage:
    known = stage.predicted_ms is not None and stage.target.device in devices
    return replace(stage, basis=Basis.MODELLED) if known else stage


def _marked_block(block: BlockReport, devices: frozenset[str]) -> BlockReport:
    known = block.cost_ms is not None and _device(block.target) in devices
    return replace(block, basis=Basis.MODELLED) if known else block


def _device(target: str) -> str:
    return target.partition("/")[0]
