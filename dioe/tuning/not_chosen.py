"""Why a plan is not a mix of backends or precisions: what was tried and lost, in sentences."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dioe.planning import LEAST_GAIN
from dioe.tuning.found import Found, Lowering, Tried, listed
from dioe.tuning.targets import USED_UP
from dioe.types import TargetReport


@dataclass(frozen=True, slots=True)
class NotChosen:
    """What a search found beside the ``chosen`` plan or target.

    ``singles`` are the reports on single targets, ``lowered`` the names of those in less precision
    than the model is written in; none where precision may not be lowered. ``ratios`` are times of
    targets and plans of the same rounds, relative to the best. ``mixable``: there was more than one
    target, or number of threads, to mix.
    """

    found: Found
    chosen: TargetReport
    singles: Sequence[TargetReport]
    lowered: Collection[str]
    ratios: Mapping[str, float]
    mixable: bool = True

    def notes(self) -> tuple[str, ...]:
        """A sentence for each way to lower precision, and one for plans of several stages, that was
        looked at and isn't chosen: with times, errors and blocks."""
        return (*self._blocks(), *self._wholes(), *self._stages(), *self._unfinished())

    # --- precision ----------------------------------------------------------------------------

    def _blocks(self) -> list[str]:
        """Of choices of blocks: the best one that was tried on each target."""
        may = {each.target: each for each in self.found.lowerings}
        tried: dict[str, list[Tried]] = {target: [] for target in may}
        for each in self.found.tried:
            if each.lowering is not None:
                tried.setdefault(each.lowering.target, []).append(each)
        notes = []
        for target, tries in tried.items():
            if self.chosen.target in (target, *(t.report.target for t in tries)):
                continue
            if tries:
                notes.append(self._lost(tries, may.get(target)))
            elif may[target].blocks:
                notes.append(f"{_lowering(may[target])} was not chosen: {_not_tried(may[target])}")
            else:
                notes.append(may[target].why_not)
        return notes

    def _lost(self, tries: Sequence[Tried], may: Lowering | None) -> str:
        best = min(tries, key=self._rank)
        lowering = best.lowering
        if lowering is None:
            raise ValueError(f"{best.report.target} lowers nothing")
        if lowering.error is None and may is not None and may.stay == lowering.stay:
            lowering = replace(lowering, error=may.error)  # as it was when it was looked for
        which = f", the best of {len(tries)} choices of blocks," if len(tries) > 1 else ""
        stay = f"; {listed(lowering.stay)} stay as written" if lowering.stay else ""
        return f"{_lowering(lowering)}{which} was not chosen: {self._outcome(best)}{stay}"

    def _wholes(self) -> list[str]:
        """Of whole models in lower precision, if nothing that is chosen has any."""
        mixes = {t.report.target for t in self.found.tried if t.lowering is not None}
        if self.chosen.target in {*self.lowered, *mixes}:
            return []
        return [
            f"lowering the whole model on {report.target}{_error(report.relative_l2)} was not "
            f"chosen: {self._told(report) or self._beside(report)}"
            for report in self.singles
            if report.target in self.lowered and report.state in ("ok", "slow", "failed")
        ]

    # --- stages -------------------------------------------------------------------------------

    def _stages(self) -> list[str]:
        """Of plans of several stages that lower nothing: the best one that was tried."""
        tries = [t for t in self.found.tried if t.stages > 1]
        if self.chosen.target in {t.report.target for t in tries}:
            return []
        tries = [t for t in tries if t.lowering is None]
        if not tries:
            return []
        best = min(tries, key=self._rank)
        which = f", the best of {len(tries)} plans of several stages," if len(tries) > 1 else ""
        return [f"{best.report.target}{which} was not chosen: {self._outcome(best)}"]

    def _unfinished(self) -> list[str]:
        if not self.mixable or self.found.cut_at_s is None:
            return []
        also = " and for blocks to lower" if self.lowered else ""
        return [
            f"the tuning budget ended the search for plans over several targets{also}: "
            "a larger one may find more"
        ]

    # --- what became of a plan ----------------------------------------------------------------

    @property
    def _plans(self) -> dict[str, TargetReport]:
        """Those that may win, as they were timed at last."""
        return {mixed.report.target: mixed.report for mixed in self.found.plans}

    def _rank(self, tried: Tried) -> tuple[int, float]:
        """Those that came furthest first: timed at last, else once, within the limit or not."""
        report = self._plans.get(tried.report.target, tried.report)
        if report.state == "infidel":
            return 2, math.inf if report.relative_l2 is None else report.relative_l2
        if report.state != "ok" or report.p50_ms is None:
            return 3, 0.0
        return int(report.target not in self._plans), report.p50_ms

    def _outcome(self, tried: Tried) -> str:
        predicted = "" if tried.predicted_ms is None else f"predicted {tried.predicted_ms:.4g} ms"
        to_beat = "" if tried.best_ms is None else f"where {tried.best_ms:.4g} had to be beaten"
        final = self._plans.get(tried.report.target)
        if final is not None:
            return self._beside(final)
        report = tried.report
        if report.reason == USED_UP:
            return " ".join(filter(None, [f"{USED_UP},", predicted, to_beat]))
        if report.state != "ok" or report.p50_ms is None:
            return self._told(report)
        first = f"in a first try it took {report.p50_ms:.4g} ms"
        if predicted:
            first += f" ({predicted})"
        if report.reason:
            return f"{first}, and was {report.reason}"
        slower = tried.best_ms is not None and report.p50_ms >= tried.best_ms
        return f"{first}, {to_beat if slower else 'and others less'}"

    def _told(self, report: TargetReport) -> str:
        return "" if report.state == "ok" else report.reason or report.state

    def _beside(self, report: TargetReport) -> str:
        """How a report compares with the chosen one's."""
        took = f"it took {report.p50_ms:.4g} ms" if report.p50_ms else "it wasn't timed"
        if self.chosen.p50_ms:
            took += f" where {self.chosen.target} took {self.chosen.p50_ms:.4g}"
        if not {report.target, self.chosen.target} <= self.ratios.keys():
            return took
        ratio = self.ratios[report.target] / self.ratios[self.chosen.target]
        wanted = f"; below {1 / (1 + LEAST_GAIN):.2f} is wanted" if ratio < 1 else ""
        return f"{took} in the same rounds ({ratio:.3f} of it{wanted})"


def _lowering(lowering: Lowering) -> str:
    """What is lowered, where, and its error."""
    how_many = f"{lowering.blocks} of {lowering.of} blocks"
    if lowering.blocks == lowering.of:
        how_many = f"all {lowering.of} blocks"
    return f"lowering {how_many} on {lowering.target}{_error(lowering.error)}"


def _not_tried(may: Lowering) -> str:
    """Of blocks that may be lowered: what was predicted, and which stay."""
    told = USED_UP
    if may.predicted_ms is not None and may.written_ms is not None:
        told += f", predicted {may.predicted_ms:.4g} ms for {may.written_ms:.4g} as written"
    return f"{told}; {listed(may.stay)} stay as written" if may.stay else told


def _error(relative_l2: float | None) -> str:
    return "" if relative_l2 is None else f" (error {relative_l2:.2g})"


def gain_notes(chosen: TargetReport, reports: Sequence[TargetReport]) -> list[str]:
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
