"""Where the seconds of tuning go, and how many are left."""

from __future__ import annotations

import pytest

from dioe.tuning.clock import Budget, Stopwatch, check_seconds
from dioe.types import InputError
from tests.toys.work import Clock


def test_a_part_inside_another_isnt_counted_twice(clock: Clock) -> None:
    watch = Stopwatch()
    with watch.part("outer"):
        clock.work(1000)
        with watch.part("inner"):
            clock.work(200)
        clock.work(1000)
    with watch.part("inner"):
        clock.work(300)
    assert watch.seconds == pytest.approx({"outer": 2.0, "inner": 0.5}, abs=1e-4)


def test_a_part_that_raises_is_counted(clock: Clock) -> None:
    watch = Stopwatch()

    @watch.part("failing")
    def fail() -> None:
        clock.work(500)
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert watch.seconds == pytest.approx({"failing": 0.5}, abs=1e-4)


def test_a_budget_runs_out(clock: Clock) -> None:
    budget = Budget(2.0)
    clock.work(1500)
    assert budget.left_s == pytest.approx(0.5, abs=1e-4)
    clock.work(1500)
    assert budget.left_s == pytest.approx(-1.0, abs=1e-4)


def test_a_budget_allows_what_overruns_it_by_a_tenth(clock: Clock) -> None:
    budget = Budget(2.0)
    assert budget.allows(2.19)
    assert not budget.allows(2.21)
    clock.work(1999)
    assert budget.allows(0.2)
    clock.work(2)
    assert not budget.allows(0.0)


@pytest.mark.parametrize("value", [0, 0.5, 30, 1e6])
def test_seconds_to_wait_for(value: float) -> None:
    assert check_seconds("budget_s", value) == value


@pytest.mark.parametrize("value", [-1, 1e7, float("nan"), float("inf"), True, "3", None])
def test_no_seconds_to_wait_for(value: float) -> None:
    with pytest.raises(InputError, match="budget_s is"):
        check_seconds("budget_s", value)
