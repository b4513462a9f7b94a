"""Reports on targets and plans: what later times, failures and other reports make of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dioe.planning import best_single
from dioe.profiling import Timing, paired_ratio
from dioe.tuning.known import Ratio
from dioe.tuning.trial import SLOW_RATIO
from dioe.types import TargetReport

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
