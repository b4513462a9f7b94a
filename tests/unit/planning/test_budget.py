"""Budgets: evaluations that are counted, time that passes, limits that are none."""

from __future__ import annotations

import math

import pytest

from dioe.planning import Budget
from dioe.types import InputError


def test_work_is_counted() -> None:
    budget = Budget(work_limit=3)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    assert budget.work == 3


def test_without_a_limit_nothing_is_left() -> None:
    assert not Budget().left
    assert not Budget(work_limit=0).left
    assert not Budget(time_limit_s=0.0).left
    assert Budget(time_limit_s=1e6).left


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_limits_below_nothing_are_refused(limit: float) -> None:
    with pytest.raises(InputError, match=r"time_limit_s.* is no limit"):
        Budget(time_limit_s=limit)
    with pytest.raises(InputError, match="work_limit"):
        Budget(work_limit=-5)
