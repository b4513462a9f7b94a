"""Measure the candidate targets of a model with bound shapes, within a budget, and choose."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dioe.graph import Model
from dioe.planning import choose, default_choice, single_target_plan
from dioe.precision import error_limit
from dioe.profiling import Timing, measuring, time_in_rounds
from dioe.runtime import Runtime
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.targets import Candidate
from dioe.tuning.trial import SLOW_RATIO, TargetContender, reference_outputs, try_target
from dioe.types import Dim, Feeds, Plan, Precision, TargetReport, Value

log = logging.getLogger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Goal:
    """What the user asked of a tuning, for one set of shapes, and where it takes place."""

    policy: str
    precision: str
    max_relative_l2: float | None
    hardware: str
    real_inputs: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Tuning:
    """A plan with everything that led to it."""

    plan: Plan
    candidates: list[Candidate]
    reports: list[TargetReport]
    reference: list[dict[str, Value]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def tune(
    model: Model,
    base: Model,
    samples: Sequence[Feeds],
    candidates: Sequence[Candidate],
    goal: Goal,
    runtime: Runtime,
    *,
    budget_s: float,
    progress: Progress = lambda text: None,
) -> Tuning:
    """Try every candidate on ``model`` (shapes bound; ``base`` as it came) and choose the fastest
    within the fidelity limit.

    ``budget_s`` = 0 measures nothing and takes a default. Raises UnsupportedError if nothing can
    run the model, FidelityError if nothing that runs it is close enough.
    """
    watch = Stopwatch()
    limit = error_limit(
        goal.precision, quantised=base.quantised, max_relative_l2=goal.max_relative_l2
    )
    if budget_s <= 0:
        return _untimed(model, base, candidates, goal, limit)
    budget = Budget(budget_s)
    with measuring(timeout_s=max(60.0, 2 * budget_s)) as locked:
        with watch.part("verify_s"):
            progress("reference")
            reference = reference_outputs(model, samples, runtime)
        with watch.part("profile_s"):
            reports = _try_all(
                model, samples, candidates, reference, runtime, limit, budget, watch, progress
            )
            timings = _time_survivors(
                model, samples[0], candidates, reports, goal, runtime, budget, watch, locked,
                progress,
            )
    with watch.part("plan_s"):
        reports = [_final(r, timings.get(r.target), goal, base) for r in reports]
        chosen = choose(reports, limit=limit)
        plan = _plan(model, base, candidates, chosen, goal, limit, reports)
    return Tuning(plan, list(candidates), reports, reference, dict(watch.seconds))


def _try_all(
    model: Model,
    samples: Sequence[Feeds],
    candidates: Sequence[Candidate],
    reference: Sequence[dict[str, Value]],
    runtime: Runtime,
    limit: float,
    budget: Budget,
    watch: Stopwatch,
    progress: Progress,
) -> list[TargetReport]:
    reports: list[TargetReport] = []
    best_ms = math.inf
    for candidate in candidates:
        name = str(candidate.target)
        if budget.left_s <= 0 and math.isfinite(best_ms) and not candidate.refusal:
            reports.append(TargetReport(name, "failed", "not tried: the tuning budget was used up"))
            continue
        progress(name)
        report = try_target(
            candidate, model, samples, reference, runtime,
            limit=limit, best_ms=best_ms, watch=watch,
        )  # fmt: skip
        log.info("%s: %s %s", name, report.state, report.reason)
        if report.state == "ok" and report.p50_ms is not None:
            best_ms = min(best_ms, report.p50_ms)
        reports.append(report)
    return [_slow(r, best_ms) for r in reports]


def _slow(report: TargetReport, best_ms: float) -> TargetReport:
    if report.state != "ok" or (report.p50_ms or 0.0) <= SLOW_RATIO * best_ms:
        return report
    reason = f"over {SLOW_RATIO:g} times slower than the best"
    return replace(report, state="slow", reason=reason)


def _time_survivors(
    model: Model,
    feeds: Feeds,
    candidates: Sequence[Candidate],
    reports: Sequence[TargetReport],
    goal: Goal,
    runtime: Runtime,
    budget: Budget,
    watch: Stopwatch,
    locked: bool,
    progress: Progress,
) -> dict[str, Timing]:
    by_name = {str(c.target): c for c in candidates}
    contenders = {
        r.target: TargetContender(by_name[r.target], model, feeds, runtime, watch)
        for r in reports
        if r.state == "ok"
    }
    if not contenders or budget.left_s <= 0:
        return {}
    return time_in_rounds(contenders, budget_s=budget.left_s, locked=locked, progress=progress)


def _final(
    report: TargetReport, timing: Timing | None, goal: Goal, base: Model
) -> TargetReport:
    """The report with what the rounds measured; lower precision is refused on made-up inputs."""
    if timing is not None:
        report = retimed(report, timing)
    lowered = not report.target.endswith(tuple(f"/{p}" for p in _as_written(base)))
    made_up = goal.precision == "auto" and not goal.real_inputs
    if report.state == "ok" and lowered and made_up:
        return replace(
            report,
            state="infidel",
            reason="precision is lowered only on inputs you give; these were made up",
        )
    return report


def _as_written(base: Model) -> tuple[Precision, ...]:
    return (Precision.FP32, Precision.INT8) if base.quantised else (Precision.FP32,)


def _untimed(
    model: Model,
    base: Model,
    candidates: Sequence[Candidate],
    goal: Goal,
    limit: float,
) -> Tuning:
    usable = [c for c in candidates if not c.refusal]
    written = [c for c in usable if c.target.precisions[0] is Precision.FP32] or usable
    name = default_choice(
        [str(c.target) for c in written],
        last_resort=[str(c.target) for c in written if c.last_resort],
    )
    reports = [
        TargetReport(str(c.target), "unsupported" if c.refusal else "ok", c.refusal or "not timed")
        for c in candidates
    ]
    chosen = next(r for r in reports if r.target == name)
    note = "nothing was measured (tuning_budget_s=0): the first target that takes the whole model"
    goal = replace(goal, notes=(*goal.notes, note))
    plan = _plan(model, base, candidates, chosen, goal, limit, reports)
    return Tuning(plan, list(candidates), reports)


def _plan(
    model: Model,
    base: Model,
    candidates: Sequence[Candidate],
    chosen: TargetReport,
    goal: Goal,
    limit: float,
    reports: Sequence[TargetReport],
) -> Plan:
    candidate = next(c for c in candidates if str(c.target) == chosen.target)
    shapes: dict[str, tuple[Dim, ...]] = {
        spec.name: spec.shape for spec in model.inputs if spec.shape is not None
    }
    return single_target_plan(
        candidate.target,
        model_sha256=base.sha256,
        hardware=goal.hardware,
        ops=base.op_ids,
        inputs=[spec.name for spec in base.inputs],
        outputs=[spec.name for spec in base.outputs],
        shapes=shapes,
        resources=candidate.resources,
        policy=goal.policy,
        precision=goal.precision,
        limit=limit,
        report=chosen,
        candidates=reports,
        notes=(*goal.notes, *_gain_note(chosen, reports)),
        versions=goal.versions,
    )


def _gain_note(chosen: TargetReport, reports: Sequence[TargetReport]) -> list[str]:
    """What lower precision would have gained, where only made-up inputs stood in the way."""
    return [
        f"{r.target} would be {chosen.p50_ms / r.p50_ms:.2f} times faster at error "
        f"{r.relative_l2:.2g} on made-up inputs; give sample inputs to allow it"
        for r in reports
        if r.state == "infidel"
        and "made up" in r.reason
        and r.p50_ms and chosen.p50_ms and r.relative_l2 is not None
        and r.p50_ms < chosen.p50_ms
    ]  # fmt: skip
