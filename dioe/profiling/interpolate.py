"""Costs between measured shapes: from the amounts of work that were measured to another one."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Iterable, Sequence

from dioe.types import InputError

_SHORTEST_MS = 1e-6
"""What a time of 0 counts as where its logarithm is needed: a nanosecond, below every clock."""
_LARGEST_LOG = math.log(sys.float_info.max)


def interpolate(points: Sequence[tuple[float, float]], work: float) -> float:
    """The time in ms of ``work``, from measured ``(work, ms)`` points in any order.

    Work is any measure that grows with the shapes, such as FLOPs or bytes. Between two points the
    time is linear on logarithmic axes, so it follows any power of the work. Beyond them it goes on
    with the slope of the nearest two, but grows at most in proportion to the work and never
    shrinks with it; one point alone goes on in proportion. Exact at the points, and monotone if
    they are; several points of the same work count as their median. Raises InputError without
    points, for work that isn't positive, and for times that are negative or none.
    """
    measured = _by_work(points)
    _check(math.isfinite(work) and work > 0, f"work is {work!r}")
    for at, ms in measured:
        if at == work:
            return ms
    below = [point for point in measured if point[0] < work]
    above = [point for point in measured if point[0] > work]
    if below and above:
        return _between(below[-1], above[0], work)
    end = below[-1] if below else above[0]
    distance = math.log(work) - math.log(end[0])
    ms = _exp(_log_ms(end) + _slope(below[-2:] or above[:2]) * distance)
    return max(ms, end[1]) if below else min(ms, end[1])


def _by_work(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points in order of their work, one for each amount."""
    for at, ms in points:
        _check(math.isfinite(at) and at > 0, f"a point's work is {at!r}")
        _check(math.isfinite(ms) and ms >= 0, f"a point's time is {ms!r} ms")
    groups = itertools.groupby(sorted(points), key=lambda point: point[0])
    measured = [(at, statistics.median(ms for _, ms in group)) for at, group in groups]
    _check(bool(measured), "there are no points")
    return measured


def _between(low: tuple[float, float], high: tuple[float, float], work: float) -> float:
    span = math.log(high[0]) - math.log(low[0])
    share = (math.log(work) - math.log(low[0])) / span if span > 0 else 0.5
    ms = _exp(_log_ms(low) + share * (_log_ms(high) - _log_ms(low)))
    least, most = sorted((low[1], high[1]))
    return min(max(ms, least), most)  # rounding leaves neither


def _slope(ends: Sequence[tuple[float, float]]) -> float:
    """Exponent of the work's power that the time follows, from 0 (constant) to 1 (proportional)."""
    if len(ends) < 2 or not (span := math.log(ends[1][0]) - math.log(ends[0][0])) > 0:
        return 1.0
    return min(max((_log_ms(ends[1]) - _log_ms(ends[0])) / span, 0.0), 1.0)


def _log_ms(point: tuple[float, float]) -> float:
    return math.log(max(point[1], _SHORTEST_MS))


def _exp(log_ms: float) -> float:
    return math.exp(min(log_ms, _LARGEST_LOG))


def _check(good: bool, wrong: str) -> None:
    if not good:
        raise InputError(wrong, place="interpolate", fix="give positive work and measured times")
