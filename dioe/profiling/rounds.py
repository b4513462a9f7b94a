"""The measuring protocol: rounds of one contender each, in alternating order, medians kept.

Idle threads of one runtime steal cores from what runs next, so contenders are never interleaved
call by call: a contender is opened, warmed up, timed and closed before the next is opened. The
order turns round each time, the first calls of a round are thrown away, and a round during which
other processes used more than 5 % of the cores is taken again while the budget lasts.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

import numpy as np

from dioe.profiling.load import NOISY_SHARE, CpuLoad, others_share

MIN_CALLS = 5
_WARMUP_CALLS = 3
_WARMUP_S = 0.05
_SHORTEST_S = 0.02


class Contender(Protocol):
    """Something to be timed: opening it gives the call to time, closing it frees its threads."""

    def open(self) -> AbstractContextManager[Callable[[], object]]: ...


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one contender."""

    samples_ms: np.ndarray[tuple[int], np.dtype[np.float64]]
    open_s: float
    noisy: bool

    @property
    def median_ms(self) -> float:
        """Median of the round."""
        return float(np.median(self.samples_ms))


class TimingSummary(TypedDict):
    """Times in ms: median of the rounds' medians, percentiles alike, spread of medians."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    spread_ms: float
    runs: int
    noisy: bool


@dataclass(slots=True)
class Timing:
    """All rounds of one contender."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def kept(self) -> list[Round]:
        """The quiet rounds, or all if none was quiet."""
        return [r for r in self.rounds if not r.noisy] or self.rounds

    @property
    def noisy(self) -> bool:
        """True if no round was quiet."""
        return all(r.noisy for r in self.rounds)

    @property
    def runs(self) -> int:
        """Number of samples kept."""
        return sum(len(r.samples_ms) for r in self.kept)

    @property
    def p50_ms(self) -> float:
        """Median of the rounds' medians, so that each round weighs the same."""
        return float(np.median([r.median_ms for r in self.kept]))

    @property
    def spread_ms(self) -> float:
        """Difference between the slowest and the fastest round's median."""
        medians = [r.median_ms for r in self.kept]
        return max(medians) - min(medians)

    def percentile_ms(self, percent: float) -> float:
        """Median of the rounds' percentiles: never below ``p50_ms`` for a higher percentage."""
        return float(np.median([np.percentile(r.samples_ms, percent) for r in self.kept]))

    def summary(self) -> TimingSummary:
        """The figures a report carries."""
        return {
            "p50_ms": self.p50_ms,
            "p90_ms": self.percentile_ms(90),
            "p99_ms": self.percentile_ms(99),
            "spread_ms": self.spread_ms,
            "runs": self.runs,
            "noisy": self.noisy,
        }


def time_calls(
    call: Callable[[], object], *, seconds: float, min_calls: int = MIN_CALLS, warm: bool = True
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Milliseconds of each call of ``call`` made within ``seconds``, and at least ``min_calls``."""
    clock = time.perf_counter_ns
    if warm:
        start = clock()
        for _ in range(_WARMUP_CALLS):
            call()
        while clock() - start < min(_WARMUP_S, seconds / 4) * 1e9:
            call()
    samples: list[int] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = clock() + int(seconds * 1e9)
        before = clock()
        while before < end or len(samples) < min_calls:
            call()
            after = clock()
            samples.append(after - before)
            before = clock()
    finally:
        if collecting:
            gc.enable()
    return np.asarray(samples, dtype=np.float64) / 1e6


def time_round(contender: Contender, *, seconds: float, locked: bool = True) -> Round:
    """Open, warm up, time and close one contender."""
    start = time.perf_counter()
    with contender.open() as call:
        open_s = time.perf_counter() - start
        before = CpuLoad.now()
        samples_ms = time_calls(call, seconds=seconds)
        noisy = others_share(before, CpuLoad.now()) > NOISY_SHARE
    return Round(samples_ms, open_s, noisy or not locked)


def time_in_rounds(
    contenders: Mapping[str, Contender],
    *,
    budget_s: float,
    rounds: int = 5,
    drop_ratio: float = 1.5,
    always: Sequence[str] = (),
    locked: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """Time contenders in rounds of alternating order within ``budget_s`` seconds.

    The first round visits everybody and lasts as long as it must. What it shows to be more than
    ``drop_ratio`` times slower than the best is left out of later rounds, except ``always``. Noisy
    rounds are retaken after the last round while the budget lasts. ``rounds`` is a maximum for
    quiet rounds; the seconds of a round share out what opening leaves of the budget.
    """
    timings = {name: Timing() for name in contenders}
    start = time.perf_counter()
    open_s = dict.fromkeys(contenders, 0.0)

    def left_s() -> float:
        return budget_s - (time.perf_counter() - start)

    def least_s(name: str) -> float:
        """What another round of a contender takes at the very least."""
        calls_ms = (_WARMUP_CALLS + MIN_CALLS) * timings[name].p50_ms
        return open_s[name] + max(_SHORTEST_S, calls_ms / 1e3)

    def visit(name: str, seconds: float) -> None:
        progress(name)
        done = time_round(contenders[name], seconds=seconds, locked=locked)
        timings[name].rounds.append(done)
        open_s[name] = done.open_s

    order = list(contenders)
    for name in order:
        visit(name, max(0.05, budget_s / (rounds * len(order)) / 2))
    best = min((t.p50_ms for t in timings.values()), default=math.inf)
    # in a noisy round only the fastest call says how fast a contender can be
    floor_ms = {n: t.percentile_ms(0 if t.noisy else 50) for n, t in timings.items()}
    order = [n for n in order if n in always or floor_ms[n] <= drop_ratio * best]
    done = 1
    while order and done < rounds + 3:
        order.reverse()
        todo = [n for n in order if sum(not r.noisy for r in timings[n].rounds) < rounds]
        opening_s = sum(open_s[n] for n in todo)
        rounds_left = max(1, rounds - done)
        seconds = (left_s() - opening_s * rounds_left) / (rounds_left * max(1, len(todo)))
        if not todo or left_s() < sum(least_s(n) for n in todo):
            break
        for name in todo:
            visit(name, min(max(seconds, _SHORTEST_S), left_s() / len(todo)))
        done += 1
    return timings
