"""What later times, failures and other reports make of a report."""

from __future__ import annotations

import numpy as np
import pytest

from dioe.profiling import Round, Timing
from dioe.tuning.known import Ratio
from dioe.tuning.reports import (
    comparable,
    dropped,
    left_out,
    paired_ratios,
    retimed,
    with_failures,
)
from dioe.types import TargetReport


def ok(name: str, p50_ms: float = 1.0, state: str = "ok") -> TargetReport:
    return TargetReport(name, state, p50_ms=p50_ms)


def timing(*medians_ms: float) -> Timing:
    return Timing([Round(np.full(5, ms), noisy=False) for ms in medians_ms])


def test_what_failed_says_why() -> None:
    assert with_failures([ok("a"), ok("b")], {"b": "lost", "c": "unheard of"}) == [
        ok("a"), TargetReport("b", "failed", "lost", p50_ms=1.0)
    ]  # fmt: skip


@pytest.mark.parametrize(("p50_ms", "state"), [(2.9, "ok"), (3.0, "ok"), (3.1, "slow")])
def test_over_three_times_the_best_is_slow(p50_ms: float, state: str) -> None:
    found = dropped(ok("a", p50_ms), best_ms=1.0)
    assert found.state == state
    assert ("3 times" in found.reason) == (state == "slow")


def test_what_is_wrong_isnt_slow() -> None:
    wrong = ok("a", 9.0, "infidel")
    assert dropped(wrong, best_ms=1.0) == wrong


def test_a_later_timing_replaces_a_first_look() -> None:
    assert retimed(ok("a", 9.0), None) == ok("a", 9.0)
    found = retimed(ok("a", 9.0), timing(1.0, 1.0, 1.0, 1.0))
    assert (found.p50_ms, found.runs, found.noisy) == (1.0, 20, False)


def test_a_plan_the_budget_wasnt_enough_for_says_so() -> None:
    assert "budget" in left_out(ok("a"), {"a"}).reason
    assert left_out(ok("a"), {"b"}) == ok("a")
    wrong = ok("a", state="infidel")
    assert left_out(wrong, {"a"}) == wrong


def test_ratios_are_told_by_neighbouring_rounds() -> None:
    """The machine grew slower for both."""
    timings = {"a": timing(1.0, 2.0, 4.0), "b": timing(1.5, 3.0, 6.0)}
    reports = [ok("a", 1.0), ok("b", 1.5)]
    assert paired_ratios(timings, reports) == pytest.approx({"a": 1.0, "b": 1.5})
    assert paired_ratios({}, reports) == {}
    assert paired_ratios({"b": timings["b"]}, reports) == {}  # nobody timed the best one
    assert paired_ratios(timings, []) == {}


FIRST = {"a": Ratio(1.0, "first"), "b": Ratio(1.5, "first")}


@pytest.mark.parametrize(
    ("reports", "ratios", "known"),
    [
        ([ok("a"), ok("b")], FIRST, True),
        ([ok("a"), ok("b")], {"a": FIRST["a"], "b": Ratio(1.0, "second")}, False),
        ([ok("a"), ok("b")], {"a": FIRST["a"]}, False),  # b was looked at once
        ([ok("a"), ok("b")], {}, False),
        ([ok("a")], {}, True),
        ([ok("a"), ok("b", 9.0, "infidel")], {"a": FIRST["a"]}, True),
        ([ok("a"), ok("b", 3.5, "slow")], FIRST, True),
        ([ok("a"), ok("b", 2.5, "slow")], FIRST, True),  # a first look, then a was timed for longer
        ([ok("a"), ok("b", 1.9, "slow")], FIRST, False),  # slow beside another one
        ([ok("b", 2.5, "slow")], {}, False),
        ([ok("b", 2.5, "infidel")], {}, False),
        ([], {}, False),
    ],
)
def test_costs_of_different_occasions_arent_compared(
    reports: list[TargetReport], ratios: dict[str, Ratio], known: bool
) -> None:
    assert comparable(reports, ratios) is known
