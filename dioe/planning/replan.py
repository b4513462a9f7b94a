"""Planning again, within milliseconds, when costs have changed: what a running session needs.

Everything that doesn't depend on the times of blocks is made once, from the first problem; each
time the last answer is scored anew and improved for a while.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import NamedTuple

from dioe.planning.assigned import Assigned, assigned_of, placed
from dioe.planning.budget import Budget
from dioe.planning.fast import Fast
from dioe.planning.problem import Cost, Problem
from dioe.planning.search import lanes as sequences
from dioe.planning.search.improve import balanced, balances
from dioe.planning.search.late import late_acceptance
from dioe.planning.search.shop import Shop, fastest_targets, whole
from dioe.planning.search.tabu import tabu
from dioe.planning.simulator import Placement
from dioe.planning.tables import Tables
from dioe.types import Basis, InputError

TIME_LIMIT_S = 0.006
"""When a search ends, in seconds from the call on: with what follows it less than 10 ms for 500
blocks."""


class Replanned(NamedTuple):
    """The answer, its value by the policy, and that of the answer before with the same costs."""

    assigned: Assigned
    value: float
    before: float


class Replanner:
    """Keeps the answer for one problem good while the times of its blocks change.

    Args:
        problem: With the costs so far.
        placement: The answer so far.
        policy: As of ``solve``.
        seed: Of the random choices of the search.

    Raises InputError for an unknown policy, ValueError for a placement of another problem.
    """

    def __init__(
        self, problem: Problem, placement: Placement, policy: str = "latency", *, seed: int = 0
    ) -> None:
        self._first = problem
        self._changed: dict[int, dict[str, float]] = {}
        self._tables = Tables(problem)
        self._fast = Fast(self._tables, policy)
        self._shop: Shop | None = whole(self._tables) if self._fast.plain else None
        self._rng = random.Random(seed)
        self.assigned = assigned_of(self._tables, placement)

    @property
    def problem(self) -> Problem:
        """The problem with the costs of now."""
        found = self._first
        for target, costs in self._changed.items():
            found = found.with_costs(
                target, {block: Cost(ms, Basis.MEASURED) for block, ms in costs.items()}
            )
        return found

    @property
    def placement(self) -> Placement:
        """The answer of now as stages."""
        return placed(self._tables, self.assigned)

    def replan(
        self,
        costs: Mapping[int, Mapping[str, float]],
        *,
        time_limit_s: float | None = TIME_LIMIT_S,
        work_limit: int | None = None,
    ) -> Replanned:
        """Take over times in ms, by the index of a target and a block's id, and look for a better
        answer; it is never worse than the one before, with the new costs.

        Raises InputError for a block that the target can't run, and for what is no time; nothing is
        taken over then.
        """
        budget = Budget(time_limit_s, work_limit)
        self._check(costs)
        self._change(costs)
        fast = self._fast
        fast.forget_times()
        before = key = fast.key(self.assigned)
        found = self.assigned
        if self._shop is not None:
            lanes = sequences.lanes_of(self._shop, self._tables, found)
            if tabu(lanes, budget, self._rng):
                found = sequences.assigned_of(lanes)
        elif balances(self._tables, fast.policy):
            found = balanced(self._tables, found, budget, self._rng)
        else:
            found = late_acceptance(fast, found, budget, self._rng)[1]
        if found is not self.assigned:
            new = fast.key(found)
            if new < key:
                self.assigned, key = found, new
        return Replanned(self.assigned, key[1], before[1])

    def _check(self, costs: Mapping[int, Mapping[str, float]]) -> None:
        tables, positions = self._tables, self._first.positions
        for target, own in costs.items():
            if not 0 <= target < tables.m:
                raise InputError(
                    f"there is no target {target}", place="costs", fix=f"give 0 to {tables.m - 1}"
                )
            for block, ms in own.items():
                name = self._first.targets[target].target
                position = positions.get(block, -1)
                if position < 0 or tables.ms[position][target] == math.inf:
                    raise InputError(
                        f"{name} doesn't run {block!r}",
                        place="costs",
                        fix="make a new problem where what runs where has changed",
                    )
                if not 0 <= ms < math.inf:
                    raise InputError(
                        f"{ms} is no time of {block!r} on {name}",
                        place="costs",
                        fix="give ms, 0 or more",
                    )

    def _change(self, costs: Mapping[int, Mapping[str, float]]) -> None:
        tables, positions = self._tables, self._first.positions
        changed = set()
        for target, own in costs.items():
            for block, ms in own.items():
                position = positions[block]
                tables.ms[position][target] = ms
                changed.add(position)
            self._changed.setdefault(target, {}).update(own)
        if self._shop is None:
            return
        devices = len(tables.devices)
        for position in changed:
            row = tables.ms[position]
            fastest = fastest_targets(tables, row, devices)
            self._shop.fastest[position] = fastest
            self._shop.ms[position] = [math.inf if t < 0 else row[t] for t in fastest]
