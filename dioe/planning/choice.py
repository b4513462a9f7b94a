"""The choice among single-target plans, by measured cost, under the fidelity limit."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from dioe.types import FidelityError, TargetReport, UnsupportedError

LEAST_GAIN = 0.01
"""Precision isn't given up for less: two medians are not told apart below about 1 % anyway."""


def best_single(reports: Sequence[TargetReport]) -> TargetReport | None:
    """The fastest target that is ``ok``; None if there is none that was timed."""
    timed = [r for r in reports if r.state == "ok" and r.p50_ms is not None]
    return min(timed, key=lambda r: r.p50_ms or math.inf, default=None)


def choose(
    reports: Sequence[TargetReport],
    *,
    limit: float,
    reluctant: Collection[str] = (),
    ratios: Mapping[str, float] | None = None,
) -> TargetReport:
    """The fastest fidel target; within ``LEAST_GAIN`` of it one that isn't among the ``reluctant``:
    those that compute in less precision than the model is written in, and plans of several parts.

    ``ratios`` are times by target relative to that of the least ``p50_ms``, where neighbouring
    rounds tell them better than the medians do.

    Raises FidelityError if targets ran but none within ``limit``, UnsupportedError if none ran;
    both name every target with its reason.
    """
    best = best_single(reports)
    if best is not None and best.p50_ms is not None:
        known = ratios or {}
        timed = [
            (known.get(r.target, r.p50_ms / best.p50_ms), r)
            for r in reports
            if r.state == "ok" and r.p50_ms is not None
        ]
        enough = min(ratio for ratio, _ in timed) * (1 + LEAST_GAIN)
        near = [(r.target in reluctant, ratio, r) for ratio, r in timed if ratio <= enough]
        return min(near, key=lambda item: item[:2])[2]
    listing = "; ".join(f"{r.target}: {r.reason or r.state}" for r in reports) or "no target at all"
    if any(r.state == "infidel" for r in reports):
        raise FidelityError(
            f"no target follows the reference within a relative L2 error of {limit:g} ({listing})",
            fix="raise max_relative_l2, allow another precision, or give representative inputs",
        )
    raise UnsupportedError(
        f"no target can run this model ({listing})",
        fix="`dioe inspect MODEL` shows which ops each target refuses and why",
    )


def default_choice(targets: Sequence[str], *, last_resort: Sequence[str] = ()) -> str:
    """The target to start on without measuring: the first that isn't a last resort.

    ``targets`` are those that support the whole model at the precision as written, in the order of
    the plugins' names. Raises UnsupportedError if empty.
    """
    if not targets:
        raise UnsupportedError(
            "no target can run this model",
            fix="`dioe inspect MODEL` shows which ops each target refuses and why",
        )
    return next((t for t in targets if t not in last_resort), targets[0])
