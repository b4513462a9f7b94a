"""First looks at single targets: each is tried once, unless the history knows what came of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dioe.graph import Model
from dioe.profiling import CpuLoad
from dioe.runtime import Runtime
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.known import Known, Ratio
from dioe.tuning.reports import comparable, dropped
from dioe.tuning.targets import USED_UP, Candidate
from dioe.tuning.trial import disturbed_since, try_target
from dioe.types import Feeds, TargetReport, Value

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recalled:
    """Reports on all targets from the history, which tell who is faster.

    ``ratios`` are of the same ``rounds``, named by a token that is empty if only one target runs
    the model and was never timed in rounds.
    """

    reports: list[TargetReport]
    ratios: Mapping[str, Ratio]
    rounds: str


class FirstLooks:
    """The candidates of a model (shapes bound), tried one after the other.

    What a look tells is in the history when the next begins, so that neither Ctrl-C nor the end of
    a budget loses it, and another tuning goes on from there.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        model: Model,
        samples: Sequence[Feeds],
        reference: Sequence[Mapping[str, Value]],
        runtime: Runtime,
        *,
        known: Known,
        limit: float,
        watch: Stopwatch,
        progress: Callable[[str], None],
        locked: bool,
    ) -> None:
        self.took_s: dict[str, float] = {}
        """What a look took, compiling included, by target; 0 where that is unknown."""
        self._candidates = candidates
        self._model = model
        self._samples = samples
        self._reference = reference
        self._runtime = runtime
        self._known = known
        self._limit = limit
        self._watch = watch
        self._progress = progress
        self._locked = locked
        self._best_ms = math.inf

    def known(self) -> Recalled | None:
        """What the history says of all candidates; None unless it knows each, and who is faster."""
        reports, ratios = [], dict[str, Ratio]()
        for candidate in self._candidates:
            name = str(candidate.target)
            if candidate.refusal:
                reports.append(TargetReport(name, candidate.refused_state, candidate.refusal))
                continue
            report = self._recalled(candidate)
            if report is None:
                return None
            reports.append(report)
            ratio = self._known.ratio(candidate)
            if ratio is not None and report.state == "ok":
                ratios[name] = ratio
        if not comparable(reports, ratios):
            return None
        (rounds,) = {ratio.rounds for ratio in ratios.values()} or {""}
        return Recalled(reports, ratios, rounds)

    def all(self, budget: Budget, failures: Mapping[str, str] | None = None) -> list[TargetReport]:
        """Reports on all candidates, within the budget once one of them runs the model.

        ``failures`` has the reasons of targets that aren't tried, by name.
        """
        failures = failures or {}
        self._best_ms = math.inf
        reports: dict[str, TargetReport] = {}
        for candidate in self._candidates:
            name = str(candidate.target)
            reports[name] = (
                TargetReport(name, "failed", failures[name])
                if name in failures
                else self._report(candidate, budget)
            )
        for candidate in self._candidates:  # the last resort steps in where all others failed
            name = str(candidate.target)
            nothing = not math.isfinite(self._best_ms) and name not in failures
            if candidate.held_back and candidate.support.whole and nothing:
                reports[name] = self._report(replace(candidate, held_back=""), budget)
        return [dropped(report, self._best_ms) for report in reports.values()]

    def _report(self, candidate: Candidate, budget: Budget) -> TargetReport:
        """From the history, or from a look if it fits into the budget."""
        longest_s = max(self.took_s.values(), default=0.0)
        report = self._recalled(candidate)
        if candidate.compiles_long:
            longest_s = self.took_s.get(str(candidate.target), candidate.expected_s)
        fits = bool(candidate.refusal) or budget.allows(longest_s)
        if report is not None and report.state == "slow" and fits:
            report = None  # what was slow beside one target needn't be beside another
        if report is None:
            if math.isfinite(self._best_ms) and not fits:
                return TargetReport(str(candidate.target), "failed", USED_UP)
            report = self._look(candidate, budget)
        if report.state == "ok" and report.p50_ms is not None:
            self._best_ms = min(self._best_ms, report.p50_ms)
        return report

    def _recalled(self, candidate: Candidate) -> TargetReport | None:
        report = None if candidate.refusal else self._known.report(candidate, self._limit)
        if report is not None:
            self.took_s[report.target] = self._known.took_s(candidate)
        return report

    def _look(self, candidate: Candidate, budget: Budget) -> TargetReport:
        """Try a target. What came of it is kept at once, unless others disturbed it."""
        own = candidate.support.supported & set(self._model.placed_op_ids)
        others = any(c is not candidate and c.support.supported & own for c in self._candidates)
        name = str(candidate.target)
        self._progress(name)
        load, start = CpuLoad.now(), time.perf_counter()
        report = try_target(
            candidate, self._model, self._samples, self._reference, self._runtime,
            limit=self._limit, best_ms=self._best_ms, watch=self._watch,
            left_s=budget.left_s if others else math.inf,
        )  # fmt: skip
        log.info("%s: %s %s", name, report.state, report.reason)
        if not candidate.refusal:
            self.took_s[name] = time.perf_counter() - start
            if self._locked and not disturbed_since(load):
                self._known.keep_report(candidate, report, took_s=self.took_s[name])
        return report
