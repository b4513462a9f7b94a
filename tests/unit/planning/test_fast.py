"""The fast scores are those of the simulator."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import SCHEDULE_POLICIES, Tables, judged, placed
from dioe.planning.fast import Fast
from dioe.types import InputError
from tests.unit.planning.random_problems import random_assigned, random_problem


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans())
def test_scores_are_those_of_the_simulator(
    seed: int, staged: bool, queues: bool, limited: bool
) -> None:
    rng = random.Random(seed)
    problem = random_problem(rng, staged=staged, queues=queues, limited=limited)
    tables = Tables(problem)
    for policy in SCHEDULE_POLICIES:
        fast = Fast(tables, policy)
        for _ in range(3):
            assigned = random_assigned(tables, rng)
            found = judged(problem, placed(tables, assigned), policy)
            assert fast.key(assigned) == pytest.approx(found.key, rel=1e-9, abs=1e-9)


def test_an_early_end_is_none_for_what_is_better() -> None:
    rng = random.Random(3)
    tables = Tables(random_problem(rng, count=20))
    fast = Fast(tables, "latency")
    assigned = random_assigned(tables, rng)
    ms = fast.latency(assigned.targets, assigned.order)
    assert fast.latency(assigned.targets, assigned.order, ms) == float("inf")
    assert fast.latency(assigned.targets, assigned.order, ms * 1.01) == ms


def test_an_unknown_policy_is_told() -> None:
    tables = Tables(random_problem(random.Random(1)))
    with pytest.raises(InputError, match="no policy"):
        Fast(tables, "speed")
