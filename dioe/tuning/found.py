"""What a search for mixed plans found, how the history keeps it, and what its plans are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dioe.planning import on_threads, plan_from_json
from dioe.types import Basis, BlockReport, Plan, TargetReport, Tradeoff


@dataclass(frozen=True, slots=True)
class Mixed:
    """A plan of several stages or precisions, with the report on it."""

    plan: Plan
    report: TargetReport


@dataclass(slots=True)
class Found:
    """What a search found: plans that may win, and what the cost table says of single targets."""

    plans: list[Mixed] = field(default_factory=list)
    reports: list[TargetReport] = field(default_factory=list)
    tradeoffs: tuple[Tradeoff, ...] = ()
    notes: tuple[str, ...] = ()
    blocks: dict[str, tuple[BlockReport, ...]] = field(default_factory=dict)
    """Reports by block for plans of one stage on a target, by the target's name."""
    known: bool = False
    """Whether it was found before, and is from the history."""
    cut_at_s: float | None = None
    """The tuning budget that ended the search; None where it ended by itself."""
    noisy: bool = False
    """Whether what it rests on was measured while other processes used the cores."""


def found_to_json(found: Found) -> dict[str, Any]:
    """As JSON values, for the history."""
    return {
        "plans": [{"plan": m.plan.to_json(), "report": asdict(m.report)} for m in found.plans],
        "reports": [asdict(report) for report in found.reports],
        "tradeoffs": [asdict(each) for each in found.tradeoffs],
        "notes": list(found.notes),
        "cut_at_s": found.cut_at_s,
        "blocks": {name: [asdict(b) for b in blocks] for name, blocks in found.blocks.items()},
    }


def found_from_json(kept: Mapping[str, Any]) -> Found:
    """What ``found_to_json`` wrote."""
    return Found(
        plans=[
            Mixed(plan_from_json(m["plan"], place="history"), TargetReport(**m["report"]))
            for m in kept["plans"]
        ],
        reports=[TargetReport(**report) for report in kept["reports"]],
        tradeoffs=tuple(
            Tradeoff(**{**each, "basis": Basis(each["basis"])}) for each in kept["tradeoffs"]
        ),
        notes=tuple(kept["notes"]),
        cut_at_s=kept.get("cut_at_s"),
        blocks={
            name: tuple(
                BlockReport(**{**b, "ops": tuple(b["ops"]), "basis": Basis(b["basis"])})
                for b in blocks
            )
            for name, blocks in kept["blocks"].items()
        },
    )


# --- names ------------------------------------------------------------------------------------


def told_apart(tried: Sequence[Mixed], kept: Sequence[Mixed]) -> list[TargetReport]:
    """The reports on what was tried; of plans that share a name, those that aren't kept say how
    many ops they give to what."""
    count = Counter(each.report.target for each in tried)
    reports = []
    for each in tried:
        report, (first, *others) = each.report, each.plan.stages
        if count[report.target] > 1 and all(report is not m.report for m in kept):
            sizes = [str(len(stage.ops)) for stage in (first, *others)]
            lowered = len(first.ops) - len(first.precisions.exceptions)
            how = f"{'+'.join(sizes)} ops" if others else f"{lowered} of {sizes[0]} ops lowered"
            report = replace(report, target=f"{report.target} ({how})")
        reports.append(report)
    return reports


def plan_name(plan: Plan) -> str:
    """A plan's targets in the order of its stages, with their threads where one isn't enough to
    tell it from a single target."""
    names = [str(stage.target) for stage in plan.stages]
    threads = plan.stages[0].resources.threads
    if len(names) == 1 and len(plan.stages[0].target.precisions) == 1 and threads is not None:
        return on_threads(names[0], threads)
    return " -> ".join(names)


def breaking_names(plan: Plan) -> tuple[str, ...]:
    """What is to be passed over if the plan fails: a single target, else only the plan itself."""
    single = len(plan.stages) == 1 and len(plan.stages[0].target.precisions) == 1
    return plan.targets if single else (plan_name(plan),)
