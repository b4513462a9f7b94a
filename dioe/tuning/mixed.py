"""The search for a mixed plan: over several backends, or several precisions in one.

What the planner thinks best is compiled, checked and timed, one placement after the other; what was
learnt goes into the cost table before the next is chosen. It ends when nothing untried promises to
beat what was measured, or with the budget.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from dioe.graph import Model
from dioe.planning import (
    LEAST_GAIN,
    PlacedStage,
    Placement,
    Problem,
    block_reports,
    place_within,
    single_stage,
    to_plan,
)
from dioe.profiling import shortest_round_s
from dioe.runtime import Runtime
from dioe.tuning.aim import Aim
from dioe.tuning.beside import Setting
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.found import (
    Found,
    Lowering,
    Mixed,
    Tried,
    found_from_json,
    found_to_json,
    lowering_of,
    plan_name,
    shared_out,
    told_apart,
)
from dioe.tuning.known import Known
from dioe.tuning.lowering import Judge, lower_blocks
from dioe.tuning.parts import Parts
from dioe.tuning.plan_trial import try_plan
from dioe.tuning.reports import with_failures
from dioe.tuning.targets import USED_UP, is_lowered
from dioe.tuning.trial import reference_context
from dioe.types import (
    Basis,
    DioeError,
    Feeds,
    Plan,
    Precision,
    Target,
    TargetReport,
    Value,
)

log = logging.getLogger(__name__)

_MOST_TRIES = 6
_MOST_PLACED = 24
_KEPT = 2
"""Mixed plans that are timed in the final rounds."""

_NEAR = 1.25
"""A mixed plan that took this much longer than the best single target in a first try is dropped."""

_HOPE = 1.15
"""One executable of several precisions, or on other threads, is tried though it is predicted to be
this much slower than the best: it has no boundaries that could turn out dearer, and single first
timings of two targets differ by as much."""

_SAME_BUDGET = 0.9
"""Of a budget: several shapes share theirs, so it is never quite the same."""

_WHOLES_SHARE = 0.5
_LOWERING_SHARE = 0.6
_ALONE_SHARE = 0.4


class MixedSearch:
    """Looks for plans that beat every single target."""

    def __init__(
        self,
        aim: Aim,
        model: Model,
        samples: Sequence[Feeds],
        reference: Sequence[Mapping[str, Value]],
        *,
        runtime: Runtime,
        known: Known,
        watch: Stopwatch,
        progress: Callable[[str], None],
        locked: bool,
    ) -> None:
        self._aim = aim
        self._model = model
        self._samples = samples
        self._reference = reference
        self._runtime = runtime
        self._known = known
        self._watch = watch
        self._progress = progress
        self._locked = locked
        self.took_s: dict[str, float] = {}
        """What trying a plan took, compiling included, by its name."""
        self._found = Found()
        self._tried: set[Placement] = set()
        self._forbidden: set[tuple[str, Setting]] = set()
        self._needed = False
        """Whether no single target can do, so that a plan has to be found, whatever it takes."""
        self._verified: list[tuple[Setting, Setting, frozenset[str]]] = []

    def run(self, singles: Sequence[TargetReport], budget: Budget, least_s: float = 0.0) -> Found:
        """Search within the budget. Never raises for what a backend does.

        ``singles`` are the reports on single targets so far, each of which took up to ``least_s``:
        with less of a budget the search doesn't begin. A search of the same aim that was kept
        is not made again, unless it was cut short by less of a budget.
        """
        kept = self._known.search(self._targets, **self._aim.key())
        if kept is not None:
            found = self._passed_over(replace(found_from_json(kept), known=True))
            if found.cut_at_s is None or found.cut_at_s >= _SAME_BUDGET * self._aim.budget_s:
                return found
        if self._aim.settings:
            self._needed = not any(r.state == "ok" for r in singles)
            begins = self._needed or budget.left_s > least_s
            if begins:
                self._search(singles, budget)
            if not begins or budget.left_s <= 0:
                self._cut_short()
        return self._found

    def _passed_over(self, found: Found) -> Found:
        """What was found, without the plans that are broken."""
        broken = self._aim.broken
        found.retell(with_failures(found.reports, broken))
        found.plans = [m for m in found.plans if m.report.target not in broken]
        return found

    def _cut_short(self) -> None:
        """More might have been found in a larger budget."""
        self._found.cut_at_s = self._aim.budget_s

    def keep(self, found: Found) -> None:
        """Keep what was found, with what its plans took in the final rounds."""
        noisy = found.noisy or any(mixed.report.noisy for mixed in found.plans)
        kept = found_to_json(found)
        self._known.keep_search(self._targets, kept, noisy=noisy, **self._aim.key())

    @property
    def _targets(self) -> list[Target]:
        return list(dict.fromkeys(s.target for s in self._aim.settings))

    def _search(self, singles: Sequence[TargetReport], budget: Budget) -> None:
        parts = self._parts()
        wholes = Budget(_WHOLES_SHARE * budget.left_s)
        hopeful = [s for s in self._aim.settings if not self._is_hopeless(s)]
        meet = {r.target for r in singles if r.state == "ok"}
        if not parts.measure_wholes(
            hopeful, wholes, locked=self._locked, meets=lambda s: str(s.target) in meet
        ):
            self._cut_short()
        self._found.noisy = parts.noisy
        lowers = Budget(_LOWERING_SHARE * budget.left_s)
        usable = [*self._usable(parts, singles), *self._lowerable(parts, singles, lowers)]
        slow = {s for s in usable if self._is_slow(s, parts)}
        parts.leave_to_others(slow, usable)
        usable = [s for s in usable if parts.has_blocks_for(s)]
        if not usable or (slow.issuperset(usable) and not self._needed):
            return
        partial = [s for s in usable if s.candidate.partial]
        best_ms = self._best_ms(parts, singles)
        parts.measure_copies(usable, locked=self._locked)
        if (
            partial
            or self._verified
            or self._next(self._problem(parts, usable), usable, best_ms) is not None
        ):
            with parts.anchor() as speed:
                speed()  # at best counts from before the blocks are measured
                alone = Budget(_ALONE_SHARE * budget.left_s)
                with reference_context(self._runtime) as context:
                    parts.measure_alone(usable, alone, context, locked=self._locked, choices=True)
                self._try_all(parts, usable, best_ms, speed, budget)
        self._explain_singles(parts.problem(usable), usable)

    def _parts(self) -> Parts:
        return Parts(
            self._model, self._samples[0], self._runtime, self._known, self._watch, self._progress,
            self._aim.pinned,
        )  # fmt: skip

    def _problem(self, parts: Parts, usable: Sequence[Setting]) -> Problem:
        return parts.problem(usable, complete=self._needed and not self._found.plans)

    def untried(self) -> Plan | None:
        """The plan that looks best where nothing is measured; None if there is none."""
        self._needed = True
        parts = self._parts()
        settings = list(self._aim.settings)
        if not settings:
            return None
        problem = self._problem(parts, settings)
        placement = self._next(problem, settings, math.inf)
        if placement is None:
            return None
        plan = self._plan(parts, problem, placement, settings)
        stages = tuple(replace(s, predicted_ms=None, basis=Basis.DEFAULT) for s in plan.stages)
        return replace(plan, stages=stages, predicted_ms=None, basis=Basis.DEFAULT)

    @property
    def unplaced(self) -> str:
        """Why no placement could be made at all; empty if one could, or none was asked for."""
        return self._found.unplaced

    def _best_ms(self, parts: Parts, singles: Sequence[TargetReport]) -> float:
        """What a plan has to beat, at the speed that the machine had when the parts were measured.

        Single targets were timed at another time. Those whose threads don't spin by default take as
        long beside others, so the least ratio of the two tells how the speed has changed.
        """
        timed = {r.target: r.p50_ms for r in singles if r.state == "ok" and r.p50_ms}
        ratios = [parts.whole_ms(s) / timed[s.name] for s in parts.wholes if s.name in timed]
        return min(timed.values(), default=math.inf) * min(ratios, default=1.0)

    def _usable(self, parts: Parts, singles: Sequence[TargetReport]) -> list[Setting]:
        """Settings to plan with: those of targets that are right, as far as anything is known, and
        those that take a part of the model only."""
        states = {r.target: r.state for r in singles}
        return [
            setting
            for setting in self._aim.settings
            if setting.candidate.partial or states.get(str(setting.target)) in ("ok", "slow")
        ]

    def _is_hopeless(self, setting: Setting) -> bool:
        return str(setting.target) in self._aim.hopeless

    def _is_slow(self, setting: Setting, parts: Parts) -> bool:
        """Whether a setting gets only what no other takes: it is known to be slow, or it could have
        the whole and nothing is known of it."""
        unknown = not setting.candidate.partial and setting not in parts.settings
        return unknown or self._is_hopeless(setting) or setting in parts.slow

    def _lowerable(
        self, parts: Parts, singles: Sequence[TargetReport], budget: Budget
    ) -> list[Setting]:
        """Settings in lower precision that err too much as a whole, where some blocks may have it:
        those blocks are noted, all others forbidden. Of the others it is noted why not."""
        lows = {s.name: s for s in self._aim.settings if self._aim.lowers and self._is_lowered(s)}
        found = []
        for report in singles:
            low = lows.get(report.target)
            if low is None or report.state != "infidel":
                continue
            written = self._written(parts, low, singles)
            if isinstance(written, str):
                error = "too much" if report.relative_l2 is None else f"by {report.relative_l2:.2g}"
                why_not = f"no block is lowered on {low.name}, which errs {error} as a whole: "
                self._found.lowerings += (Lowering(low.name, why_not=why_not + written),)
                continue
            self._progress(f"{low.name}, block by block")
            judge = Judge(
                self._model, low, self._samples, self._reference, self._runtime, self._watch
            )
            with self._runtime.context(low.target, low.resources):  # what it caches stays
                lowered = lower_blocks(
                    parts.blocks, parts.problem([written, low]), low.target.precisions[0], judge,
                    limit=self._aim.limit, budget=budget,
                )  # fmt: skip
            self._found.tradeoffs += lowered.tradeoffs
            self._found.lowerings += (lowered.lowering(low.name, parts.blocks, self._aim.limit),)
            if lowered.blocks:
                others = {block.id for block in parts.blocks} - lowered.blocks
                self._forbidden |= {(block, low) for block in others}
                self._verified.append((written, low, lowered.blocks))
                found.append(low)
        return found

    def _is_lowered(self, setting: Setting) -> bool:
        return is_lowered(setting.target, quantised=self._model.quantised)

    def _written(
        self, parts: Parts, low: Setting, singles: Sequence[TargetReport]
    ) -> Setting | str:
        """The setting whose executables take blocks in ``low``'s precision too; or why there is
        none to be used."""
        if not low.candidate.mixes:
            return f"{low.target.backend} doesn't mix precisions in one executable"
        beside = (low.target.device, low.target.backend, low.resources)
        written = next(
            (
                s
                for s in self._aim.settings
                if s.candidate.mixes
                and (s.target.device, s.target.backend, s.resources) == beside
                and s.target.precisions[0] is Precision.FP32
            ),
            None,
        )
        if written is None:
            return f"{low.target.backend} isn't used in fp32"
        for setting in (written, low):
            if setting not in parts.wholes:
                why = parts.left_out.get(setting.name, setting.candidate.refusal)
                return f"{setting.name} is left out, {why}"
        state = next((r.state for r in singles if r.target == written.name), "unknown")
        return written if state in ("ok", "slow") else f"{written.name} is {state}"

    # --- trying -------------------------------------------------------------------------------

    def _try_all(
        self,
        parts: Parts,
        usable: Sequence[Setting],
        best_ms: float,
        speed: Callable[[], float],
        budget: Budget,
    ) -> None:
        """``speed`` tells how much slower the machine is now than at its best since the search
        began to measure blocks."""
        longest_s = 0.0
        tried: list[Mixed] = []
        for _ in range(_MOST_TRIES):
            problem = self._problem(parts, usable)
            placement = self._as_verified(problem, usable) or self._next(problem, usable, best_ms)
            if placement is None:
                break
            plan = self._plan(parts, problem, placement, usable)
            if not budget.allows(longest_s) and not (self._needed and not self._found.plans):
                self._cut_short()
                report = TargetReport(plan_name(plan), "failed", USED_UP)
                self._note(tried, Mixed(plan, report), best_ms)
                break
            self._tried.add(placement)
            start = time.perf_counter()
            report, stage_ms = self._try(plan, speed, budget)
            took_s = max(time.perf_counter() - start, shortest_round_s(report.p50_ms or 0.0))
            self.took_s[report.target] = max(self.took_s.get(report.target, 0.0), took_s)
            longest_s = max(longest_s, took_s)
            self._note(tried, Mixed(plan, report), best_ms)
            log.info("%s: predicted %s ms, %s", report.target, plan.predicted_ms, report)
            if stage_ms and len(plan.stages) > 1:
                parts.observe(list(zip(plan.stages, stage_ms, strict=True)), usable)
            if report.state == "ok" and report.p50_ms is not None:
                self._keep(plan, report, stage_ms)
                best_ms = min(best_ms, report.p50_ms)
        near = [m for m in self._found.plans if (m.report.p50_ms or math.inf) <= _NEAR * best_ms]
        kept: dict[str, Mixed] = {}  # of those that share a name, the fastest
        for each in sorted(near, key=lambda m: m.report.p50_ms or math.inf):
            kept.setdefault(each.report.target, each)
        self._found.plans = list(kept.values())[:_KEPT]
        self._found.retell(told_apart(tried, self._found.plans))

    def _note(self, tried: list[Mixed], mixed: Mixed, best_ms: float) -> None:
        """Add a plan to those that were ``tried``, and what there is to tell of it."""
        plan, report = mixed.plan, mixed.report
        tried.append(mixed)
        lowering = lowering_of(plan, report.relative_l2, quantised=self._model.quantised)
        self._found.tried.append(
            Tried(
                report, len(plan.stages), plan.predicted_ms,
                best_ms if math.isfinite(best_ms) else None,
                lowering if self._aim.lowers else None,
            )
        )  # fmt: skip

    def _as_verified(self, problem: Problem, usable: Sequence[Setting]) -> Placement | None:
        """Next of the choices of blocks that were verified just so: fewer may err more."""
        index = {setting: i for i, setting in enumerate(usable)}
        ids = tuple(block.id for block in problem.blocks)
        for written, low, blocks in self._verified:
            if written not in index or low not in index:
                continue
            targets = tuple(index[low if block in blocks else written] for block in ids)
            placement = Placement((PlacedStage(ids, targets),))
            if placement not in self._tried:
                return placement
        return None

    def _next(
        self, problem: Problem, usable: Sequence[Setting], best_ms: float
    ) -> Placement | None:
        """The best placement that was not tried, if it promises to beat ``best_ms``."""
        index = {setting: i for i, setting in enumerate(usable)}
        penalty = {(b, index[s]): math.inf for b, s in self._forbidden if s in index}
        try:
            placements = place_within(
                problem, allowed=self._aim.allowed, most=_MOST_PLACED, penalty=penalty
            )
        except DioeError as error:
            log.info("nothing to place: %s", error.cause)
            self._found.unplaced = error.cause
            return None
        for placement in placements:
            hope = _HOPE if len(placement.stages) == 1 else 1 - LEAST_GAIN
            worth = (placement.predicted_ms or 0.0) <= best_ms * hope
            known = placement in self._tried or self._is_single(problem, placement)
            if worth and not known and not _is_split(problem, placement):
                return placement
        return None

    def _is_single(self, problem: Problem, placement: Placement) -> bool:
        """True for a target as it was timed alone: one stage, one precision, its own threads."""
        used = set(placement.targets.values())
        if len(placement.stages) > 1 or len(used) > 1:
            return False
        costs = problem.targets[used.pop()]
        return any(
            s.target == costs.target and s.candidate.resources.threads == costs.resources.threads
            for s in self._aim.settings
        )

    def _plan(
        self, parts: Parts, problem: Problem, placement: Placement, usable: Sequence[Setting]
    ) -> Plan:
        plan = to_plan(
            problem,
            placement,
            parts.graph,
            hardware=self._aim.hardware,
            shapes=self._aim.shapes,
            policy=self._aim.policy,
            precision=self._aim.precision,
            limit=self._aim.limit,
            tradeoffs=self._found.tradeoffs,
            versions=self._aim.versions,
            allowed=self._aim.allowed,
        )
        if len(plan.stages) > 1:
            return plan
        (stage,) = plan.stages  # alone its threads may spin, as they do by default
        own = next(s.candidate.resources.spin for s in usable if s.resources == stage.resources)
        return replace(plan, stages=(replace(stage, resources=replace(stage.resources, spin=own)),))

    def _try(
        self, plan: Plan, speed: Callable[[], float], budget: Budget
    ) -> tuple[TargetReport, list[float]]:
        """A first report on a plan, and what each of its stages takes."""
        name = plan_name(plan)
        if name in self._aim.broken:
            return TargetReport(name, "failed", self._aim.broken[name]), []
        self._progress(name)
        return try_plan(
            plan, self._model, self._samples, self._reference, self._runtime,
            limit=self._aim.limit, speed=speed, watch=self._watch, left_s=budget.left_s,
        )  # fmt: skip

    def _keep(self, plan: Plan, report: TargetReport, stage_ms: Sequence[float]) -> None:
        stages = tuple(
            replace(stage, predicted_ms=ms, basis=Basis.MEASURED)
            for stage, ms in zip(plan.stages, stage_ms, strict=True)
        )
        measured = replace(
            plan,
            stages=stages,
            blocks=shared_out(plan.blocks, stages, report.runs),
            relative_l2=report.relative_l2,
            predicted_ms=report.p50_ms,
            basis=Basis.MEASURED,
        )
        self._found.plans.append(Mixed(measured, report))

    # --- explaining ---------------------------------------------------------------------------

    def _explain_singles(self, problem: Problem, usable: Sequence[Setting]) -> None:
        """Reports by block for each single target, which may yet be chosen."""
        for index, setting in enumerate(usable):
            placement = single_stage(problem, index)
            if placement is not None and str(setting.target) not in self._found.blocks:
                self._found.blocks[str(setting.target)] = block_reports(
                    problem, placement, self._aim.allowed
                )


def _is_split(problem: Problem, placement: Placement) -> bool:
    """True if a stage follows one of its own context: they would be better off as one, and if they
    are predicted to be faster, that is the error of the prediction."""
    contexts = [problem.targets[stage.targets[0]].context for stage in placement.stages]
    groups = [problem.group_of[stage.targets[0]] for stage in placement.stages]
    return any(
        c == d and g == h
        for (c, d), (g, h) in zip(pairwise(contexts), pairwise(groups), strict=True)
    )
