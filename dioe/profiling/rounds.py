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
from typing import Protocol, TypeAlias, TypedDict

import numpy as np

from dioe.profiling.load import NOISY_SHARE, CpuLoad, others_share

MIN_CALLS = 5
_WARMUP_CALLS = 3
_WARMUP_S = 0.05
_ROUND_S = 0.4
_SHORTEST_S = 0.02
_TURN_S = 0.015
_LEAST_PAIRS = 3


Calls: TypeAlias = Mapping[str, Callable[[], object]]
"""What to time, by name: one call, or several that belong together."""


class Contender(Protocol):
    """Something to be timed: opening it gives the calls to time, closing it frees its threads.

    Several calls of one contender are timed in turn within each of its rounds: so two ways into
    one executable are compared on the same memory, in the same second.
    """

    def open(self) -> AbstractContextManager[Calls]: ...


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one call."""

    samples_ms: np.ndarray[tuple[int], np.dtype[np.float64]]
    noisy: bool

    @property
    def median_ms(self) -> float:
        """Median of the round."""
        return float(np.median(self.samples_ms))


class TimingSummary(TypedDict):
    """Times in ms: the rounds' percentiles at their lower quartile, and the spread of medians."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    spread_ms: float
    runs: int
    noisy: bool


def shortest_round_s(run_ms: float) -> float:
    """Seconds that a round of a call takes at least, opening left out: warmed up, and timed."""
    return (_WARMUP_CALLS + MIN_CALLS) * run_ms / 1e3


@dataclass(slots=True)
class Timing:
    """All rounds of one call."""

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
        """The rounds' medians, at their lower quartile: see ``percentile_ms``."""
        return self.percentile_ms(50)

    @property
    def spread_ms(self) -> float:
        """Difference between the slowest and the fastest round's median."""
        medians = [r.median_ms for r in self.kept]
        return max(medians) - min(medians)

    def percentile_ms(self, percent: float) -> float:
        """The rounds' percentiles, at their lower quartile.

        Each round weighs the same. What disturbs a shared machine only ever adds time, for seconds
        on end: the lower quartile is what it does when left alone, as long as that is a quarter of
        the rounds.
        """
        return float(np.percentile([np.percentile(r.samples_ms, percent) for r in self.kept], 25))

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


def paired_ratio(timing: Timing, base: Timing) -> float:
    """How many times as long one call took as another: the median over neighbouring rounds.

    Both met the same changes of the machine in rounds of one number, so those cancel. Calls that
    have fewer than three quiet rounds in common are compared by ``p50_ms``.
    """
    pairs = [
        (mine.median_ms, other.median_ms, mine.noisy or other.noisy)
        for mine, other in zip(timing.rounds, base.rounds, strict=False)
    ]
    ratios = [mine / other for mine, other, noisy in pairs if not noisy and other > 0]
    if len(ratios) < _LEAST_PAIRS or len(timing.rounds) != len(base.rounds):
        return timing.p50_ms / base.p50_ms
    return float(np.median(ratios))


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


def time_round(
    contender: Contender, *, seconds: float, locked: bool = True, turned: bool = False
) -> tuple[dict[str, Round], float]:
    """Open, warm up, time and close one contender: a round for each of its calls, and the seconds
    that opening took. Several calls take short turns, there and back; the last begins if
    ``turned``. They are ways into one executable, so none has idle threads that disturb another's
    turn, and a change of the machine's speed meets them alike."""
    start = time.perf_counter()
    with contender.open() as calls:
        open_s = time.perf_counter() - start
        names = list(calls)[::-1] if turned else list(calls)
        taken: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {
            n: [] for n in calls
        }
        if len(names) > 1:  # nobody's turn is the first after compiling
            for name in (*names, *reversed(names)):
                calls[name]()
        before = CpuLoad.now()
        if len(names) == 1:
            taken[names[0]].append(time_calls(calls[names[0]], seconds=seconds))
        else:
            end = time.perf_counter() + seconds
            turns = (*names, *reversed(names))
            while not all(taken.values()) or time.perf_counter() < end:
                for name in turns:
                    calls[name]()  # the other call's data are in the caches
                    taken[name].append(
                        time_calls(calls[name], seconds=_TURN_S, min_calls=2, warm=False)
                    )
        noisy = others_share(before, CpuLoad.now()) > NOISY_SHARE or not locked
    return {n: Round(np.concatenate(parts), noisy) for n, parts in taken.items()}, open_s


def time_in_rounds(
    contenders: Mapping[str, Contender],
    *,
    budget_s: float,
    rounds: int = 15,
    drop_ratio: float = 1.5,
    always: Sequence[str] = (),
    every: bool = True,
    least_round_s: float = _SHORTEST_S,
    locked: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """Time contenders in rounds of alternating order within ``budget_s`` seconds; by call.

    The first round visits everybody and lasts as long as it must; unless ``every`` is False: then
    it ends, some left out, where the next visit is likely to overrun the budget. A contender that
    it shows to be more than ``drop_ratio`` times slower than the best is left out of later rounds,
    unless it is among ``always``. Rounds are short and many, since a shared machine changes its
    speed every few seconds: all contenders then meet the same changes. A round that was noisy for
    one of them is taken again while the budget lasts; ``rounds`` is a maximum for quiet rounds;
    none is shorter than ``least_round_s``.
    """
    timings: dict[str, Timing] = {}
    calls_of: dict[str, list[str]] = {}
    start = time.perf_counter()
    open_s = dict.fromkeys(contenders, 0.0)

    def left_s() -> float:
        return budget_s - (time.perf_counter() - start)

    def visit(name: str, seconds: float) -> bool:
        progress(name)
        turned = bool(calls_of.get(name)) and len(timings[calls_of[name][0]].rounds) % 2 == 1
        taken, open_s[name] = time_round(
            contenders[name], seconds=seconds, locked=locked, turned=turned
        )
        calls_of[name] = list(taken)
        for call, done in taken.items():
            timings.setdefault(call, Timing()).rounds.append(done)
        return not any(done.noisy for done in taken.values())

    def least_s(name: str) -> float:
        """What another round of a contender takes at the very least."""
        calls = calls_of[name]
        turns = 1 if len(calls) == 1 else 2
        each_s = [turns * shortest_round_s(timings[c].p50_ms) for c in calls]
        return open_s[name] + max(least_round_s, sum(each_s))

    share_s = budget_s / (rounds * max(1, len(contenders)))
    order: list[str] = []
    quiet, longest_s = 0, 0.0
    for name in contenders:
        before_s = left_s()
        if not every and before_s <= longest_s:
            break
        quiet += visit(name, min(max(0.05, least_round_s, share_s / 2), _ROUND_S))
        longest_s = max(longest_s, before_s - left_s())
        order.append(name)
    best = min((t.p50_ms for t in timings.values()), default=math.inf)
    # in a noisy round only the fastest call says how fast a contender can be
    floor_ms = {
        n: min(timings[c].percentile_ms(0 if timings[c].noisy else 50) for c in calls_of[n])
        for n in order
    }
    whole = quiet == len(order)
    order = [n for n in order if n in always or floor_ms[n] <= drop_ratio * best]
    taken, good = 1, int(whole)
    while order and good < rounds and taken < 2 * rounds:
        order.reverse()
        needed_s = sum(least_s(n) for n in order)
        if left_s() < needed_s:
            break
        opening_s = sum(open_s[n] for n in order) * (rounds - good)
        seconds = (left_s() - opening_s) / ((rounds - good) * len(order))
        seconds = min(max(seconds, least_round_s), _ROUND_S)
        disturbed = 0
        for name in order:
            # ways into one executable are told apart by their turns, whatever the rounds tell
            enough_s = open_s[name] if len(calls_of[name]) > 1 else 0.0
            fair_s = max(min(seconds, left_s() / len(order)), min(enough_s, left_s() / 2))
            disturbed += not visit(name, max(least_round_s, fair_s))
        good += not disturbed
        taken += 1
    return timings
