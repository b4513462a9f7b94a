"""What is said of targets on devices that aren't hardware (``dioe.types.KnownAs``).

A modelled device is a descriptor only: times are computed, outputs unchecked. A plan with a stage
on one gives outputs that mean nothing, so they aren't held to the fidelity limit, and every figure
that rests on it says ``modelled``. A simulated one computes on the CPU: its outputs are right, and
its times, measured as they are, say nothing of the device, so that they say ``simulated``. So it is
with strict fakes of a vendor's API, whose figures say ``contract``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dioe.registry import Registry
from dioe.types import Basis, BlockReport, KnownAs, Plan, Stage, TargetReport

UNCHECKED = "modelled: its times are computed from a descriptor, its outputs aren't checked"
"""The reason of a report that no comparison with the reference led to."""

STAND_INS: Mapping[KnownAs, tuple[str, str, str]] = {
    KnownAs.CONTRACT: (
        "is a fake of its vendor's API",
        "are fakes of their vendor's API",
        "outputs and times there are those of the fakes",
    ),
    KnownAs.SIMULATED: (
        "is a simulated device",
        "are simulated devices",
        "outputs are right, times there are those of the CPU that computes them",
    ),
}
"""What computes in a device's stead: how one and several of them are called, what figures mean."""

MEANINGLESS = "outputs mean nothing: on a modelled device nothing is executed"
"""For who gets them."""


def modelled_devices(registry: Registry) -> frozenset[str]:
    """Ids of the devices that are descriptors only."""
    return frozenset(
        placement.device.id
        for placement in registry.placements
        if placement.device.known_as is KnownAs.MODELLED
    )


def known_devices(registry: Registry) -> Mapping[str, KnownAs]:
    """How the devices that aren't hardware are known, by id."""
    return {
        placement.device.id: placement.device.known_as
        for placement in registry.placements
        if placement.device.known_as is not KnownAs.HARDWARE
    }


def is_modelled(plan: Plan, devices: frozenset[str]) -> bool:
    """Whether a stage of the plan is on one of these devices."""
    return any(stage.target.device in devices for stage in plan.stages)


def mark_plan(plan: Plan, known: Mapping[str, KnownAs]) -> Plan:
    """The plan, with how they are known beside the figures that rest on such devices."""
    plan = replace(plan, candidates=tuple(mark_reports(plan.candidates, known)))
    for word, stands_for in STAND_INS.items():
        plan = _mark_stand_ins(plan, known, word, stands_for)
    devices = frozenset(d for d, known_as in known.items() if known_as is KnownAs.MODELLED)
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
    reports: Iterable[TargetReport], known: Mapping[str, KnownAs]
) -> Sequence[TargetReport]:
    """The reports, with how a device of their target or plan is known; ``modelled`` before
    ``contract`` before ``simulated``."""
    return [_marked_report(report, known) for report in reports]


def _marked_report(report: TargetReport, known: Mapping[str, KnownAs]) -> TargetReport:
    words = {known.get(_device(part)) for part in report.target.split(" -> ")}
    for word in (KnownAs.MODELLED, *STAND_INS):
        if word in words:
            return replace(report, known_as=word)
    return report


def _mark_stand_ins(
    plan: Plan, known: Mapping[str, KnownAs], word: KnownAs, stands_for: tuple[str, str, str]
) -> Plan:
    one, several, times = stands_for
    used = {stage.target.device for stage in plan.stages}
    marked = sorted(device for device in used if known.get(device) is word)
    if not marked:
        return plan
    note = f"{', '.join(marked)} {one if len(marked) == 1 else several}: {times}"
    return replace(plan, notes=(note, *(n for n in plan.notes if n != note)))


def _marked_stage(stage: Stage, devices: frozenset[str]) -> Stage:
    known = stage.predicted_ms is not None and stage.target.device in devices
    return replace(stage, basis=Basis.MODELLED) if known else stage


def _marked_block(block: BlockReport, devices: frozenset[str]) -> BlockReport:
    known = block.cost_ms is not None and _device(block.target) in devices
    return replace(block, basis=Basis.MODELLED) if known else block


def _device(target: str) -> str:
    return target.partition("/")[0]
