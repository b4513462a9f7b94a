"""Per-op times come from the backend's own counters, slowest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from dioe.profiling import profile_executable
from dioe.types import DONE, Context, Event, Feeds, OpTime, Precision, Precisions, StageModel

FEEDS = {"x": np.array([1.0, 2.0])}


class Counting:
    """A context, its executable and its request in one, that counts what it is asked to do."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.runs = 0
        self.closed = False
        self.fails_at = fails_at
        self.bound: Feeds = {}
        self.compiled: tuple[Any, ...] = ()

    def compile(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> Counting:
        self.compiled = (model, precisions, dict(options))
        return self

    def request(self) -> Counting:
        return self

    def bind(self, inputs: Feeds) -> None:
        self.bound = inputs

    def run(self) -> Event:
        self.runs += 1
        if self.runs == self.fails_at:
            raise OSError("lost")
        return DONE

    def profile(self) -> tuple[OpTime, ...]:
        return (
            OpTime("fast", "Relu", ("relu",), 2.0, self.runs),
            OpTime("slow", "Conv", ("conv",), 10.0 * self.runs, self.runs),
            OpTime("once", "Reorder", (), 5.0, 1),
        )

    def close(self) -> None:
        self.closed = True


def profile(counting: Counting, **options: Any) -> tuple[OpTime, ...]:
    model = cast(StageModel, object())
    times = profile_executable(
        cast(Context, counting), model, Precisions(Precision.BF16), FEEDS, **options
    )
    assert counting.compiled == (model, Precisions(Precision.BF16), {"profile": True})
    return times


def test_slowest_first() -> None:
    counting = Counting()
    times = profile(counting, seconds=0.0, min_runs=7)
    assert counting.runs == 7
    assert counting.bound is FEEDS
    assert [(t.name, t.mean_ms) for t in times] == [
        ("slow", 10.0),
        ("once", 5.0),
        ("fast", pytest.approx(2 / 7)),
    ]
    assert counting.closed


def test_it_runs_for_the_time_given() -> None:
    counting = Counting()
    profile(counting, seconds=0.05)
    assert counting.runs > 5


def test_a_failing_run_closes_the_executable() -> None:
    counting = Counting(fails_at=3)
    with pytest.raises(OSError, match="lost"):
        profile(counting, seconds=0.0)
    assert counting.closed
