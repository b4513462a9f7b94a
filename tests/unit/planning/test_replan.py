"""Planning again with other costs."""

from __future__ import annotations

import math
import random

import pytest

from dioe.planning import Tables, judged, solve
from dioe.planning.replan import Replanner
from dioe.types import InputError
from tests.unit.planning.random_problems import random_problem


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("policy", ["latency", "throughput"])
def test_the_answer_follows_the_costs(staged: bool, policy: str) -> None:
    rng = random.Random(4)
    problem = random_problem(rng, count=20, staged=staged)
    able = [
        {problem.blocks[i].id for i, row in enumerate(Tables(problem).ms) if row[t] < math.inf}
        for t in range(len(problem.targets))
    ]
    replanner = Replanner(problem, solve(problem, policy, work_limit=50).placement, policy)
    improved = 0
    for _ in range(4):
        costs = {
            t: {
                name: problem.targets[t].blocks[name].ms * rng.choice((0.3, 1.0, 3.0))
                for name in names
            }
            for t, names in enumerate(able)
        }
        before = replanner.placement
        found = replanner.replan(costs, time_limit_s=None, work_limit=60)
        now = replanner.problem
        assert judged(now, before, policy).value == pytest.approx(found.before)
        assert judged(now, replanner.placement, policy).value == pytest.approx(found.value)
        assert found.value <= found.before
        improved += found.value < found.before
    assert improved or found.value == 0.0  # nothing waits on a device with any number of lanes


def test_a_block_that_a_target_cannot_run_is_told() -> None:
    problem = random_problem(random.Random(2), count=6)
    replanner = Replanner(problem, solve(problem, work_limit=0).placement)
    with pytest.raises(InputError, match="doesn't run 'b99'"):
        replanner.replan({0: {"b99": 1.0}})


@pytest.mark.parametrize(
    ("target", "ms", "says"),
    [(9, 1.0, "no target 9"), (0, math.nan, "no time"), (0, -1.0, "no time")],
)
def test_of_wrong_costs_none_is_taken_over(target: int, ms: float, says: str) -> None:
    problem = random_problem(random.Random(2), count=6)
    replanner = Replanner(problem, solve(problem, work_limit=0).placement)
    names = list(problem.targets[0].blocks)
    before = replanner.replan({}).value
    costs = (
        {0: {names[0]: 77.0, names[1]: ms}} if target == 0 else {0: {names[0]: 77.0}, target: {}}
    )
    with pytest.raises(InputError, match=says):
        replanner.replan(costs)
    assert replanner.problem == problem
    assert replanner.replan({}).before <= before
