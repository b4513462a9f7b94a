"""Timing whole models in settings: on the host, then on devices that are not shown to be slow."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dioe.graph import Model
from dioe.profiling import Calls, Timing, time_calls
from dioe.runtime import Runtime, is_host
from dioe.tuning.beside import Setting
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.targets import error_cause
from dioe.tuning.trial import TargetContender, TargetFailed, slow_at_first, time_surviving
from dioe.types import Feeds

log = logging.getLogger(__name__)

FEWER_RATIO = 1.5
"""A setting on fewer threads that takes this many times as long as the same target on all is no
place for part of the model."""

_DROP_RATIO = 3.0
"""A setting this much slower than the best is no place for part of the model either, unless a block
differs more from its neighbours than any we have seen."""

QUARTILE = 25
"""The percentile of runs that stands for them: what disturbs a shared machine only adds time, for
tenths of a second to seconds (docs/decisions/0003-rounds.md)."""

_ANCHOR_S = 0.06
_ROUNDS_SHARE = 0.7
"""Of the budget for whole models; the rest is for profiling their ops."""

_WHOLE_ROUNDS = 3
_WHOLE_S = 0.12
"""Openings of one executable differ by up to 30 % on a shared machine: several tell more than one
that is timed for longer."""


def too_slow(whole_ms: float, own_ms: float, least_ms: float) -> str:
    """Why a setting is too slow for any part of a plan, beside the same target on all its threads
    and the best; empty if it isn't."""
    if whole_ms > FEWER_RATIO * own_ms:
        return f"it takes {whole_ms:.4g} ms on fewer threads, {own_ms:.4g} on all"
    if whole_ms > _DROP_RATIO * least_ms:
        return f"as a whole it takes {whole_ms:.4g} ms, the best {least_ms:.4g}"
    return ""


@dataclass(frozen=True, slots=True)
class WholeBeside:
    """A whole model in one setting, under the setting's name."""

    setting: Setting
    model: Model
    feeds: Feeds
    runtime: Runtime
    watch: Stopwatch

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """As ``TargetContender.open``. Raises TargetFailed for whatever fails."""
        setting = self.setting
        candidate = replace(setting.candidate, resources=setting.resources)
        contender = TargetContender(candidate, self.model, self.feeds, self.runtime, self.watch)
        try:
            with contender.open() as calls:
                yield {setting.name: next(iter(calls.values()))}
        except TargetFailed as failure:
            raise TargetFailed(setting.name, failure.reason) from failure

    def slow_at_first(self, best_ms: float, left_s: float) -> str:
        """Why the first blocks show the setting to be too slow; empty if they don't."""
        return slow_at_first(
            self.setting.candidate, self.model, self.feeds, self.runtime, best_ms, left_s
        )


@dataclass(slots=True)
class WholeTimes:
    """Timings by setting's name, the reasons of those that failed, and of those that are slow."""

    timings: dict[str, Timing] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    slow: dict[Setting, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many something is known of."""
        return len(self.timings) + len(self.failures) + len(self.slow)


def time_wholes(
    wholes: Sequence[WholeBeside],
    budget: Budget,
    *,
    known_ms: float,
    locked: bool,
    progress: Callable[[str], None],
) -> WholeTimes:
    """Rounds of the wholes on the host, then of those on devices, as far as the budget goes.

    One on a device is left out where its first blocks show it to be slow beside the best on the
    host, which is at most ``known_ms``.
    """
    found = WholeTimes()
    on_host = [w for w in wholes if is_host(w.setting.target.device)]
    for group in (on_host, [w for w in wholes if w not in on_host]):
        left = []
        best_ms = min((known_ms, *(t.p50_ms for t in found.timings.values())))
        for whole in group:
            try:
                slow = whole.slow_at_first(best_ms, budget.left_s)
            except (Exception, SystemExit) as error:
                log.info("%s fails with the first blocks", whole.setting.name, exc_info=True)
                found.failures[whole.setting.name] = error_cause(error)
                continue
            if slow:
                found.slow[whole.setting] = slow
            else:
                left.append(whole)
        taken, failed = time_surviving(
            {w.setting.name: w for w in left},
            budget_s=_ROUNDS_SHARE * budget.left_s, rounds=_WHOLE_ROUNDS,
            least_round_s=_WHOLE_S, drop_ratio=FEWER_RATIO,
            always=[w.setting.name for w in left if w.setting.name == str(w.setting.target)],
            every=False, locked=locked, progress=progress,
        )  # fmt: skip
        found.timings |= taken
        found.failures |= failed
    return found


@contextlib.contextmanager
def slowdown_of(
    whole: WholeBeside | None, least_ms: MutableMapping[Setting, float]
) -> Iterator[Callable[[], float]]:
    """Gives a call that tells how many times as long a whole takes now as at best, which it keeps
    in ``least_ms``; always 1 where there is none, or it can't be opened."""
    with contextlib.ExitStack() as opened:
        try:
            calls = opened.enter_context(whole.open()) if whole is not None else {}
        except TargetFailed as failure:
            log.info("no anchor: %s", failure)
            calls = {}
        if whole is None or not calls:
            yield lambda: 1.0
            return
        (call,) = calls.values()
        setting = whole.setting

        def slowdown() -> float:
            now_ms = float(np.percentile(time_calls(call, seconds=_ANCHOR_S), QUARTILE))
            least_ms[setting] = min(least_ms.get(setting, math.inf), now_ms)
            return now_ms / least_ms[setting]

        yield slowdown
