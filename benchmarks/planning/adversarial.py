"""Instances made to hurt: simulated annealing over problems, towards the worst ratio of planners.

After Coleman and Krishnamachari, "PISA: An Adversarial Approach to Comparing Task Graph Scheduling
Algorithms" (2024): an instance is changed at one place at a time (the time of a task on a device or
on all, a device's speed, an edge or its bytes, the links), and the change is kept if the ratio of
the two latencies grows, or else with a probability that falls as the search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.planning.instances import Rng
from dioe.planning import Problem, Schedule, solve, task_problem

WORK = 50
"""Evaluations that the planner under attack may make."""
LEAST_MS, MOST_MS = 0.1, 10.0
MOST_BYTES = 1000
START, COOLING = 0.3, 0.98
"""The first temperature, in units of the ratio, and what is left of it after each step."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that can be changed; links take ``ms_per_byte`` and nothing else."""

    ms: npt.NDArray[np.float64]
    edges: Mapping[tuple[int, int], int]
    ms_per_byte: float

    def problem(self) -> Problem:
        """The problem that it is."""
        edges = [(a, b, size) for (a, b), size in self.edges.items()]
        return task_problem(self.ms, edges, ms_per_byte=self.ms_per_byte, queue=None)


def start(rng: Rng) -> Candidate:
    """Six to twelve tasks on two to four devices with random edges."""
    count, devices = int(rng.integers(6, 13)), int(rng.integers(2, 5))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < 0.3]
    return Candidate(
        rng.uniform(LEAST_MS, MOST_MS, (count, devices)),
        {pair: int(rng.integers(0, MOST_BYTES)) for pair in pairs},
        float(rng.uniform(0.0, 0.02)),
    )


def mutated(rng: Rng, candidate: Candidate) -> Candidate:
    """The same with one change."""
    ms, edges, rate = candidate.ms.copy(), dict(candidate.edges), candidate.ms_per_byte
    count, devices = ms.shape
    kind = int(rng.integers(6))
    if kind == 0:
        ms[rng.integers(count), rng.integers(devices)] = rng.uniform(LEAST_MS, MOST_MS)
    elif kind == 1:
        ms[rng.integers(count)] *= rng.uniform(0.5, 2.0)
    elif kind == 2:
        ms[:, rng.integers(devices)] *= rng.uniform(0.7, 1.4)
    elif kind == 3:
        a, b = sorted(int(i) for i in rng.choice(count, 2, replace=False))
        if edges.pop((a, b), None) is None:
            edges[a, b] = int(rng.integers(0, MOST_BYTES))
    elif kind == 4 and edges:
        pair = list(edges)[int(rng.integers(len(edges)))]
        edges[pair] = int(rng.integers(0, MOST_BYTES))
    else:
        rate = float(np.clip(rate * rng.uniform(0.5, 2.0), 1e-4, 0.1))
    return Candidate(np.clip(ms, LEAST_MS, MOST_MS), edges, rate)


Ratio = Callable[[Problem], float]


def worst(ratio: Ratio, seed: int, steps: int) -> float:
    """The largest ratio found in ``steps`` changes of one instance."""
    rng = np.random.default_rng((4, seed))
    at = start(rng)
    value = most = ratio(at.problem())
    heat = START
    for _ in range(steps):
        other = mutated(rng, at)
        found = ratio(other.problem())
        if found >= value or rng.random() < math.exp((found - value) / heat):
            at, value = other, found
            most = max(most, value)
        heat *= COOLING
    return most


def _planned(problem: Problem) -> Schedule:
    return solve(problem, work_limit=WORK)


def over_single(problem: Problem) -> float:
    """The planner's latency over that of the best single device."""
    return _planned(problem).value / _single(problem)


def over_heft(problem: Problem) -> float:
    """The planner's latency over HEFT's."""
    schedule = _planned(problem)
    return schedule.value / schedule.tried["heft"]


def heft_over(problem: Problem) -> float:
    """HEFT's latency over the planner's."""
    return 1 / over_heft(problem)


def over_longer(problem: Problem) -> float:
    """The planner's latency over that of a search twenty times as long."""
    return _planned(problem).value / solve(problem, work_limit=20 * WORK, seed=1).value


def _single(problem: Problem) -> float:
    """The least time of all tasks on one device: nothing has to cross."""
    totals = [
        sum(cost.ms for cost in costs.blocks.values())
        for costs in problem.targets
        if len(costs.blocks) == len(problem.blocks)
    ]
    return min(totals)


PAIRS: Mapping[str, Ratio] = {
    "the planner over the best single device": over_single,
    "the planner over HEFT": over_heft,
    "the planner over a search 20 times as long": over_longer,
    "HEFT over the planner": heft_over,
}


def table(count: int = 5, steps: int = 120) -> str:
    """The worst ratios of latencies that ``count`` searches of ``steps`` changes found for each
    pair of planners."""
    rows = [
        f"Worst ratios of latencies that {count} adversarial searches of {steps} changes each "
        f"found (6 to 12 tasks on 2 to 4 devices; the planner may make {WORK} evaluations):",
        "",
        "| | worst ratio | of each search |",
        "|---|---|---|",
    ]
    for name, ratio in PAIRS.items():
        found = sorted((worst(ratio, seed, steps) for seed in range(count)), reverse=True)
        rows.append(f"| {name} | {found[0]:.3f} | {', '.join(f'{each:.3f}' for each in found)} |")
    return "\n".join(rows)
