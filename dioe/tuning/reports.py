"""Reports on targets and plans: what later times, failures and other reports make of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from dioe.planning import best_single
from dioe.profiling import Timing, paired_ratio
from dioe.tuning.found import plan_name
from dioe.tuning.known import Ratio
from dioe.tuning.stage_times import StageTimes
from dioe.tuning.trial import SLOW_RATIO
from dioe.types import Basis, KnownAs, Plan, Stage, TargetReport

_MAY_WIN = 2.0
"""A target whose first look was more than this many times the best's can't be the fastest."""


def with_failures(
    reports: Sequence[TargetReport], failures: Mapping[str, str]
) -> list[TargetReport]:
    """The reports, with those targets ``failed`` that have a reason in ``failures``."""
    return [
        replace(r, state="failed", reason=failures[r.target]) if r.target in failures else r
        for r in reports
    ]


def dropped(report: TargetReport, best_ms: float) -> TargetReport:
    """The report, ``slow`` if its target is shown to be so beside one that takes ``best_ms``."""
    if report.state != "ok" or (report.p50_ms or 0.0) <= SLOW_RATIO * best_ms:
        return report
    reason = f"over {SLOW_RATIO:g} times slower than the best"
    return replace(report, state="slow", reason=reason)


def comparable(reports: Sequence[TargetReport], ratios: Mapping[str, Ratio]) -> bool:
    """Whether what is known of targets tells which is the fastest: a first look doesn't, nor do
    rounds of different tunings, and what was slow beside one target needn't be beside another."""
    best_ms = min((r.p50_ms for r in reports if r.state == "ok" and r.p50_ms), default=math.inf)
    if any(r.state == "slow" and (r.p50_ms or 0.0) <= _MAY_WIN * best_ms for r in reports):
        return False
    usable = [r.target for r in reports if r.state == "ok"]
    rounds = {ratios[name].rounds if name in ratios else "" for name in usable}
    return len(usable) == 1 or (len(rounds) == 1 and rounds != {""})


def retimed(report: TargetReport, timing: Timing | None) -> TargetReport:
    """The report with the figures of a later timing, if there is one."""
    return report if timing is None else replace(report, **timing.summary())


def left_out(report: TargetReport, names: Collection[str]) -> TargetReport:
    """The report, with the reason if it is on one of those that the budget wasn't enough for."""
    if report.state != "ok" or report.target not in names:
        return report
    return replace(report, reason="not timed beside the others: the tuning budget was used up")


def paired_ratios(
    timings: Mapping[str, Timing], reports: Sequence[TargetReport]
) -> dict[str, float]:
    """Times relative to the target of the least median, told by neighbouring rounds."""
    best = best_single(reports)
    if best is None or best.target not in timings:
        return {}
    base = timings[best.target]
    return {name: paired_ratio(timing, base) for name, timing in timings.items()}


# --- the plan ---------------------------------------------------------------------------------


def chosen_name(plan: Plan) -> str:
    """The name under which a plan is among its candidates."""
    name = plan_name(plan)
    if any(report.target == name for report in plan.candidates):
        return name
    return " -> ".join(str(stage.target) for stage in plan.stages)


def known_as(plan: Plan) -> KnownAs:
    """How the times of a plan are known: ``modelled`` where a stage is on a modelled device."""
    name = chosen_name(plan)
    return next((r.known_as for r in plan.candidates if r.target == name), KnownAs.HARDWARE)


def plan_report(plan: Plan, timing: Timing, stages: StageTimes) -> dict[str, Any]:
    """What a plan is made of, as plain data: what each part was thought to cost and what it took.

    A plan of one stage took ``timing``; of several, ``stages`` has the times. Where nothing was
    measured the time is None, and ``reason`` says why.
    """
    measured: list[tuple[float | None, str]] = [(None, stages.reason)] * len(plan.stages)
    if len(plan.stages) == 1:
        measured = [(timing.p50_ms, "")]
    elif stages.timings:
        measured = [(each.p50_ms, "") for each in stages.timings]
    return {
        "name": chosen_name(plan),
        "known_as": str(known_as(plan)),
        "predicted_ms": plan.predicted_ms,
        "basis": str(plan.basis),
        "max_relative_l2": plan.max_relative_l2,
        "stages": [
            {
                "name": stage.name,
                "target": str(stage.target),
                "ops": len(stage.ops),
                "precisions": precision_counts(stage),
                "resources": asdict(stage.resources),
                "predicted_ms": stage.predicted_ms,
                "basis": str(stage.basis),
                "measured_ms": ms,
                "reason": reason,
            }
            for stage, (ms, reason) in zip(plan.stages, measured, strict=True)
        ],
        "boundaries": [
            {
                **asdict(edge),
                "basis": str(Basis.DEFAULT if edge.predicted_ms is None else Basis.PREDICTED),
                "measured_ms": None,
                "reason": _INSIDE_STAGES,
            }
            for edge in plan.boundaries
        ],
    }


def precision_counts(stage: Stage) -> dict[str, int]:
    """How many ops of a stage compute in which precision, the commonest first."""
    return dict(Counter(str(stage.precisions.of(op)) for op in stage.ops).most_common())


_INSIDE_STAGES = "not timed by itself: giving and taking the value are part of its stages' times"
