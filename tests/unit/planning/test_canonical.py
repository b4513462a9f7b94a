"""Problems in an order of their own: there and back, and the same for all that are alike."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import Assigned, Problem, Tables, placed, simulate, solve, task_problem
from dioe.planning.canonical import Canonical


def written_twice(seed: int, count: int, wide: int, queue: str | None) -> tuple[Problem, Problem]:
    """A random problem, and the same one with tasks and machines in another order."""
    rng = random.Random(seed)
    ms = [[rng.uniform(1, 9) for _ in range(wide)] for _ in range(count)]
    pairs = {(rng.randrange(b), b) for b in range(1, count) for _ in range(2)}
    edges = {pair: rng.randint(1, 20) for pair in sorted(pairs)}
    tasks, machines = rng.sample(range(count), count), rng.sample(range(wide), wide)
    moved = [[0.0] * wide for _ in range(count)]
    for i, row in enumerate(ms):
        for d, value in enumerate(row):
            moved[tasks[i]][machines[d]] = value
    other = [(tasks[a], tasks[b], n) for (a, b), n in edges.items()]
    rng.shuffle(other)
    return (
        task_problem(ms, [(a, b, n) for (a, b), n in edges.items()], ms_per_byte=0.5, queue=queue),
        task_problem(moved, other, ms_per_byte=0.5, queue=queue),
    )


@given(st.integers(0, 10**6), st.integers(2, 14), st.integers(2, 4), st.sampled_from([None, ""]))
def test_the_same_problem_has_one_order(
    seed: int, count: int, wide: int, queue: str | None
) -> None:
    first, second = (Canonical(each).problem for each in written_twice(seed, count, wide, queue))

    def costs(problem: Problem) -> list[list[float]]:
        return [[t.blocks[block.id].ms for t in problem.targets] for block in problem.blocks]

    assert costs(first) == costs(second)
    at = [[[p for p, _ in row] for row in Tables(each).preds] for each in (first, second)]
    assert at[0] == at[1]


@given(st.integers(0, 10**6), st.sampled_from([None, ""]))
def test_placements_go_there_and_back(seed: int, queue: str | None) -> None:
    problem, _ = written_twice(seed, 9, 3, queue)
    rng = random.Random(seed)
    tables = Tables(problem)
    assigned = Assigned([rng.randrange(3) for _ in range(9)], list(range(9)))
    placement = placed(tables, assigned)
    own = Canonical(problem)
    assert own.back(own.here(placement)) == placement
    here, there = simulate(problem, placement), simulate(own.problem, own.here(placement))
    assert (here.total_ms, here.period_ms) == (there.total_ms, there.period_ms)
    assert here.transfers == there.transfers


def test_the_answer_is_that_of_the_problem_as_it_was_written() -> None:
    for seed in range(6):
        first, second = written_twice(seed, 24, 3, "")
        answers = [solve(each, work_limit=60) for each in (first, second)]
        assert answers[0].value == answers[1].value
        for problem, answer in zip((first, second), answers, strict=True):
            assert answer.problem is problem
            assert simulate(problem, answer.placement) == answer.simulation
