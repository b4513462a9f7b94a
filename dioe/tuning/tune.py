"""Measure the candidate targets of a model with bound shapes, within a budget, and choose."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dioe.graph import RANDOM, Model
from dioe.planning import choose, default_choice, single_target_plan
from dioe.precision import error_limit, untold
from dioe.profiling import Contender, Timing, measuring
from dioe.runtime import Runtime, is_host
from dioe.tuning.aim import Aim
from dioe.tuning.beside import Setting
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.first_looks import FirstLooks
from dioe.tuning.found import Found, Mixed
from dioe.tuning.known import Known, Ratio
from dioe.tuning.limited import Limited
from dioe.tuning.mixed import MixedSearch
from dioe.tuning.modelled import known_devices, mark_plan, mark_reports
from dioe.tuning.no_plan import no_plan
from dioe.tuning.not_chosen import NotChosen, gain_notes
from dioe.tuning.plan_trial import PlanContender
from dioe.tuning.reports import left_out, paired_ratios, retimed, with_failures
from dioe.tuning.samples import untold_note
from dioe.tuning.targets import UNTRIED, Candidate, is_lowered
from dioe.tuning.trial import (
    OUT_OF_MEMORY,
    TargetContender,
    reference_outputs,
    time_surviving,
)
from dioe.types import (
    Dim,
    Feeds,
    FidelityError,
    Plan,
    Precision,
    Target,
    TargetReport,
    UnsupportedError,
    Value,
)

log = logging.getLogger(__name__)

Progress = Callable[[str], None]

_UNMEASURED = "nothing was measured (no tuning budget)"

_CLEAR = 1.3
"""How many times as long the best single target took, where a plan may be chosen by first tries:
they differ by up to that for no reason."""

_SEARCH_SHARE = 0.5
"""Of what is left of the budget after a first look at single targets."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the user asked of a tuning, for one set of shapes, and where it takes place."""

    policy: str
    precision: str
    max_relative_l2: float | None
    hardware: str
    real_inputs: bool
    pinned: Mapping[str, str] = field(default_factory=dict)
    """The device or target that an op has to be on, by op id."""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    """Outputs whose accuracy the samples tell nothing of."""
    limited: Limited = field(default_factory=Limited)
    """What plans may use at most."""

    @property
    def lowers(self) -> bool:
        """Whether precision may be lowered as far as fidelity allows."""
        return self.precision == "auto" and self.real_inputs and not self.untold

    def told_by(self, reference: Sequence[Mapping[str, Value]]) -> Goal:
        """The goal with what these outputs can't tell, and a note about it."""
        outputs = untold(reference)
        notes = (*self.notes, untold_note(outputs)) if outputs else self.notes
        return replace(self, untold=outputs, notes=notes)


@dataclass(slots=True)
class Tuning:
    """A plan with everything that led to it."""

    plan: Plan
    candidates: list[Candidate]
    reports: list[TargetReport]
    reference: list[dict[str, Value]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Measured:
    """Reports on single targets, what neighbouring rounds say of all, and mixed plans."""

    reports: list[TargetReport]
    ratios: Mapping[str, float]
    mixed: Found

    def forget_errors(self) -> None:
        """No error was measured after all: there was nothing that could differ."""
        self.reports = [replace(r, relative_l2=None) for r in self.reports]
        found = self.mixed
        found.retell([replace(r, relative_l2=None) for r in found.reports])
        found.plans = [replace(m, report=replace(m.report, relative_l2=None)) for m in found.plans]


class Tuner:
    """The candidates of ``model`` (shapes bound; ``base`` as it came), tried towards a goal."""

    def __init__(
        self,
        model: Model,
        base: Model,
        samples: Sequence[Feeds],
        candidates: Sequence[Candidate],
        goal: Goal,
        runtime: Runtime,
        known: Known,
        settings: Sequence[Setting] = (),
        broken: Mapping[str, str] | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        """``broken`` has the reasons of plans, by name, that are known to fail."""
        self._model = model
        self._base = base
        self._samples = samples
        self._candidates = list(candidates)
        self._goal = goal
        self._runtime = runtime
        self._known_devices = known_devices(runtime.registry)
        self._known = known
        self._settings = settings
        self._broken = dict(broken or {})
        self._progress = progress
        self._watch = Stopwatch()
        self._took_s: dict[str, float] = {}
        self._limit = error_limit(
            goal.precision, quantised=base.quantised, max_relative_l2=goal.max_relative_l2
        )

    def tune(self, budget_s: float) -> Tuning:
        """Measure every candidate and choose the fastest within the fidelity limit.

        ``budget_s`` = 0 measures nothing and takes a default. Raises UnsupportedError if nothing
        can run the model, FidelityError if nothing that runs it is close enough.
        """
        if budget_s <= 0:
            return self._untimed()
        budget = Budget(budget_s)
        watch = self._watch
        with measuring(timeout_s=max(60.0, 2 * budget_s)) as locked:
            with watch.part("verify_s"):
                self._progress("reference")
                reference = reference_outputs(self._model, self._samples, self._runtime)
                self._goal = self._goal.told_by(reference)
            with watch.part("profile_s"):
                measured = self._measure(reference, budget, locked)
        with watch.part("plan_s"):
            measured.reports = [_final(r, self._goal, self._base) for r in measured.reports]
            if len(self._goal.untold) == len(self._base.outputs):
                measured.forget_errors()
            plan = mark_plan(self._choose(measured), self._known_devices)
        return Tuning(
            plan, self._candidates, list(mark_reports(measured.reports, self._known_devices)),
            reference,
            dict(watch.seconds),
        )  # fmt: skip

    def _measure(
        self, reference: Sequence[dict[str, Value]], budget: Budget, locked: bool
    ) -> _Measured:
        """Single targets first, then a search for mixed plans; what is left of the budget goes to
        timing all that may win in the same rounds."""
        looks = FirstLooks(
            self._candidates, self._model, self._samples, reference, self._runtime,
            known=self._known, limit=self._limit, watch=self._watch, progress=self._progress,
            locked=locked,
        )  # fmt: skip
        self._took_s = looks.took_s
        known = looks.known()
        reports = known.reports if known is not None else looks.all(budget)
        search = self._search(reference, reports, budget, locked)
        found = search.run(
            reports,
            Budget(_SEARCH_SHARE * max(0.0, budget.left_s)),
            # of a device that gets no more than what it has to, a look tells nothing of the rest
            least_s=max(
                (self._took_s.get(r.target, 0.0) for r in reports if not _hopeless(r)), default=0.0
            ),
        )
        self._took_s |= search.took_s
        if known is not None and (found.known or not found.plans):
            if not found.known:
                search.keep(found)
            met = {m.report.target: m.ratio for m in found.plans if m.ratio is not None}
            ratios = {
                name: ratio.value
                for name, ratio in {**known.ratios, **met}.items()
                if ratio.rounds == known.rounds
            }
            return _Measured(known.reports, ratios, found)
        failures: dict[str, str] = {}
        while True:
            timings, new = self._time_survivors(reports, found, budget, locked)
            failures |= new
            # one that fails in the rounds may have made others look slow that are the best now
            if not new or not any(r.state == "slow" for r in reports):
                break
            reports = looks.all(budget, failures)
        found.retell(with_failures(found.reports, failures))
        measured = self._judged(with_failures(reports, failures), found, timings)
        search.keep(found)
        return measured

    def _search(
        self,
        reference: Sequence[dict[str, Value]],
        reports: Sequence[TargetReport],
        budget: Budget,
        locked: bool,
    ) -> MixedSearch:
        roomless = {r.target: r.reason for r in reports if _is_roomless(r)}
        roomless |= {str(c.target): c.roomless for c in self._candidates if c.roomless}
        out = {r.target for r in reports if r.state == "failed"} - roomless.keys()
        settings = [
            s
            if str(s.target) not in roomless
            else replace(s, candidate=replace(s.candidate, roomless=roomless[str(s.target)]))
            for s in self._settings
            if str(s.target) not in out
            and (self._may_mix(s) or not is_lowered(s.target, quantised=self._base.quantised))
        ]
        aim = Aim(
            settings=settings,
            hardware=self._goal.hardware,
            shapes=self._shapes,
            policy=self._goal.policy,
            precision=self._goal.precision,
            limit=self._limit,
            versions=self._goal.versions,
            lowers=self._goal.lowers,
            budget_s=budget.seconds,
            broken=self._broken,
            pinned=self._goal.pinned,
            # what was slow with its first blocks already is never run as a whole
            hopeless=frozenset(r.target for r in reports if _hopeless(r)),
            limited=self._goal.limited,
        )
        return MixedSearch(
            aim, self._model, self._samples, reference, runtime=self._runtime, known=self._known,
            watch=self._watch, progress=self._progress, locked=locked,
        )  # fmt: skip

    def _may_mix(self, setting: Setting) -> bool:
        """Whether parts of the model may be in a setting's precision, though that is lower: within
        the limit, or because it was asked for where outputs mean nothing."""
        asked = self._goal.precision not in ("fp32", "auto")
        return self._goal.lowers or (asked and setting.candidate.modelled)

    def _judged(
        self, reports: Sequence[TargetReport], found: Found, timings: Mapping[str, Timing]
    ) -> _Measured:
        """What the rounds told, for the choice and for the history."""
        timed = [retimed(r, timings.get(r.target)) for r in reports]
        if timings or any(r.state == "ok" for r in reports):
            # a plan that nobody timed beside the others is no choice, but for a clear one
            best_ms = min((r.p50_ms for r in timed if r.state == "ok" and r.p50_ms), default=0.0)
            left = {
                m.report.target
                for m in found.plans
                if m.report.target not in timings
                and (m.report.p50_ms or math.inf) * _CLEAR > best_ms
            }
            found.retell([left_out(r, left) for r in found.reports])
            found.plans = [
                Mixed(m.plan, retimed(m.report, timings.get(m.report.target)))
                for m in found.plans
                if m.report.target not in left
            ]
        ratios = paired_ratios(timings, [*timed, *(m.report for m in found.plans)])
        by_name = {str(c.target): c for c in self._candidates}
        rounds = uuid.uuid4().hex
        told = {name: Ratio(ratio, rounds) for name, ratio in ratios.items()}
        found.plans = [replace(m, ratio=told.get(m.report.target)) for m in found.plans]
        for report in timed:
            name, candidate = report.target, by_name[report.target]
            news = name in timings or report != self._known.report(candidate, self._limit)
            if news and not candidate.refusal:
                took_s = self._took_s.get(name, 0.0)
                self._known.keep_report(candidate, report, told.get(name), took_s=took_s)
        return _Measured(timed, ratios, found)

    def _choose(self, measured: _Measured) -> Plan:
        found = measured.mixed
        reports = [*measured.reports, *(m.report for m in found.plans)]
        drawn = sorted(RANDOM & self._base.op_types.keys())
        if drawn and not any(r.state == "ok" for r in reports):
            raise FidelityError(
                f"the model draws random numbers ({', '.join(drawn)}): no answer can be checked",
                fix="start without a check: tuning_budget_s=0 (--tuning-budget 0)",
            )
        plans = {m.report.target: m.plan for m in found.plans}
        lowered = [r.target for r in measured.reports if _lowers(r, self._base)]
        chosen = self._pick(
            [*reports, *(r for r in found.reports if r.state != "ok")],
            reluctant=[*lowered, *plans],
            ratios=measured.ratios,
            unplaced=found.unplaced,
        )
        return self._explained(chosen, reports, measured, plans.get(chosen.target))

    def _pick(
        self, reports: Sequence[TargetReport], unplaced: str = "", **preferences: Any
    ) -> TargetReport:
        """As ``choose``, whose error tells what may be done about it."""
        try:
            return choose(reports, limit=self._limit, **preferences)
        except UnsupportedError as error:
            ops, limited = self._base.placed_op_ids, self._goal.limited
            raise no_plan(error, self._candidates, ops, limited, unplaced) from None

    def _time_survivors(
        self, reports: Sequence[TargetReport], found: Found, budget: Budget, locked: bool
    ) -> tuple[dict[str, Timing], dict[str, str]]:
        by_name = {str(c.target): c for c in self._candidates}
        contenders: dict[str, Contender] = {
            r.target: TargetContender(
                by_name[r.target], self._model, self._samples[0], self._runtime, self._watch
            )
            for r in reports
            if r.state == "ok"
        }
        for mixed in found.plans:
            name = mixed.report.target
            contenders[name] = PlanContender(
                name, mixed.plan, self._model, self._samples[0], self._runtime, self._watch
            )
        first_ms = {
            r.target: r.p50_ms or math.inf for r in [*reports, *(m.report for m in found.plans)]
        }
        fitting = self._fitting(sorted(contenders, key=first_ms.__getitem__), budget)
        if len(fitting) < min(2, len(contenders)):
            return {}, {}
        return time_surviving(
            {name: contenders[name] for name in contenders if name in fitting},
            budget_s=budget.left_s, locked=locked, progress=self._progress,
        )  # fmt: skip

    def _fitting(self, names: Sequence[str], budget: Budget) -> set[str]:
        """Those, the first first, whom the budget is enough to open and time once each."""
        fitting: set[str] = set()
        needed_s = 0.0
        for name in names:
            needed_s += self._took_s.get(name, 0.0)
            if not budget.allows(needed_s):
                break
            fitting.add(name)
        return fitting

    def _untimed(self) -> Tuning:
        usable = [c for c in self._candidates if not c.refusal]
        if not usable:
            refused = [
                TargetReport(str(c.target), c.refused_state, c.refusal) for c in self._candidates
            ]
            search = self._search([], [], Budget(0.0), False)
            plan = search.untried()
            if plan is None:
                self._pick(refused, search.unplaced)  # raises, with every reason
            else:
                notes = (*self._goal.notes, _UNMEASURED)
                return Tuning(replace(plan, notes=notes), self._candidates, refused)
        name = default_choice(
            [str(c.target) for c in usable if may_start(c, self._goal.precision)],
            last_resort=[str(c.target) for c in usable if c.last_resort],
        )
        reports = [
            TargetReport(str(c.target), "ok", "not timed: there was no tuning budget")
            if str(c.target) == name
            else TargetReport(
                str(c.target),
                c.refused_state if c.refusal else "failed",
                c.refusal or UNTRIED,
            )
            for c in self._candidates
        ]
        chosen = next(r for r in reports if r.target == name)
        note = f"{_UNMEASURED}: the first target that takes the model"
        plan = mark_plan(self._plan(chosen, reports, (note,)), self._known_devices)
        return Tuning(plan, self._candidates, list(mark_reports(reports, self._known_devices)))

    def _explained(
        self,
        chosen: TargetReport,
        reports: Sequence[TargetReport],
        measured: _Measured,
        plan: Plan | None,
    ) -> Plan:
        """The chosen plan with everything that led to it; ``plan`` is None for a single target."""
        found = measured.mixed
        tried = [r for r in found.reports if r.target not in {m.report.target for m in found.plans}]
        lowered = [r.target for r in measured.reports if _lowers(r, self._base)]
        not_chosen = NotChosen(
            found, chosen, measured.reports, lowered if self._goal.lowers else (), measured.ratios,
            mixable=len(self._settings) > 1,
        )  # fmt: skip
        notes = not_chosen.notes()
        if plan is None:
            single = self._plan(chosen, [*reports, *tried], notes)
            blocks = found.blocks.get(chosen.target, ())
            return replace(single, blocks=blocks, tradeoffs=found.tradeoffs)
        stages = plan.stages
        if len(stages) == 1:  # what the stage takes is what the plan takes
            stages = (replace(stages[0], predicted_ms=chosen.p50_ms),)
        return replace(
            plan,
            stages=stages,
            relative_l2=chosen.relative_l2,
            predicted_ms=chosen.p50_ms,
            candidates=(*reports, *tried),
            tradeoffs=found.tradeoffs,
            notes=(*self._goal.notes, *notes, *gain_notes(chosen, reports)),
        )

    @property
    def _shapes(self) -> dict[str, tuple[Dim, ...]]:
        return {spec.name: spec.shape for spec in self._model.inputs if spec.shape is not None}

    def _plan(
        self, chosen: TargetReport, reports: Sequence[TargetReport], notes: tuple[str, ...] = ()
    ) -> Plan:
        candidate = next(c for c in self._candidates if str(c.target) == chosen.target)
        return single_target_plan(
            candidate.target,
            model_sha256=self._base.sha256,
            hardware=self._goal.hardware,
            ops=self._base.placed_op_ids,
            inputs=[spec.name for spec in self._base.inputs],
            outputs=[spec.name for spec in self._base.outputs],
            shapes=self._shapes,
            resources=candidate.resources,
            policy=self._goal.policy,
            precision=self._goal.precision,
            limit=self._limit,
            report=chosen,
            candidates=reports,
            notes=(*self._goal.notes, *notes, *gain_notes(chosen, reports)),
            versions=self._goal.versions,
        )


def _hopeless(report: TargetReport) -> bool:
    return report.state == "slow" and report.p50_ms is None


def _is_roomless(report: TargetReport) -> bool:
    """Whether a device has no room for the whole model, and perhaps for a part of it."""
    device = Target.parse(report.target).device
    full = report.state == "failed" and report.reason.startswith(OUT_OF_MEMORY)
    return full and not is_host(device)


def may_start(candidate: Candidate, precision: str) -> bool:
    """True if a session may start on this target without a check of its outputs: it takes the
    model as written, or in the one precision that was asked for."""
    asked = precision not in ("fp32", "auto")
    return not candidate.refusal and (asked or candidate.target.precisions[0] is Precision.FP32)


def _final(report: TargetReport, goal: Goal, base: Model) -> TargetReport:
    """The report as the goal judges it: lower precision is refused on made-up inputs, and where
    they tell nothing."""
    if report.state != "ok" or goal.precision != "auto" or goal.lowers or not _lowers(report, base):
        return report
    reason = "precision is lowered only on inputs you give; these were made up"
    if goal.untold:
        reason = f"precision is lowered only where samples tell of every output: {goal.untold[0]!r}"
    return replace(report, state="infidel", reason=reason)


def _lowers(report: TargetReport, base: Model) -> bool:
    return is_lowered(Target.parse(report.target), quantised=base.quantised)
