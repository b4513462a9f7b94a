"""What each stage of a plan takes, measured in the session that runs the plan."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dioe.profiling import Calls, Round, Timing
from dioe.profiling.rounds import time_round
from dioe.runtime import Session
from dioe.types import DioeError, Feeds

log = logging.getLogger(__name__)

_ROUND_S = 0.06
_ROUNDS = 8
"""Quiet rounds that are enough: stages are timed for what they take beside each other, and not to
be compared with anything."""


@dataclass(slots=True)
class StageTimes:
    """The rounds of every stage of one plan, in order; ``reason`` says why there are none."""

    timings: list[Timing] = field(default_factory=list)
    reason: str = "no round was timed"

    @property
    def done(self) -> bool:
        """Whether more rounds would tell nothing new."""
        quiet = [not done.noisy for timing in self.timings[:1] for done in timing.rounds]
        return sum(quiet) >= _ROUNDS

    def take(self, session: Session, feeds: Feeds, *, locked: bool) -> None:
        """One more round: the session's plan on preset buffers, the clock read between stages.

        Never raises for what a backend does: that is the reason then.
        """
        try:
            bound = session.bind(feeds)
            request = bound.variant.loaded.request()
            request.bind(bound.inputs, {})
            self._time(request.run_timed, locked=locked)
        except DioeError as error:
            log.info("stages can't be timed: %s", error.cause, exc_info=True)
            self.reason = error.cause

    def _time(self, run_timed: Callable[[], list[float]], *, locked: bool) -> None:
        rows: list[list[float]] = []
        taken, _ = time_round(
            _Opened({"stages": lambda: rows.append(run_timed())}), seconds=_ROUND_S, locked=locked
        )
        done = taken["stages"]
        kept = np.asarray(rows[-len(done.samples_ms) :], dtype=np.float64)  # what warmed up is not
        if not self.timings:
            self.timings = [Timing() for _ in range(kept.shape[1])]
        for timing, column in zip(self.timings, kept.T, strict=True):
            timing.rounds.append(Round(column.copy(), done.noisy))
        self.reason = ""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A contender that somebody else opened and closes."""

    calls: Calls

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        yield self.calls
