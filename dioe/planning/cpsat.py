"""Exact schedules of small problems, and of windows of larger ones, with OR-Tools' CP-SAT.

OR-Tools is optional (``pip install dioe[cpsat]``): where it isn't installed nothing here is used,
and schedules are proved only where they reach a bound. CP-SAT works on integers. All times are
rounded down, so what it proves is never above the least latency, and what it finds is judged anew
by the simulator; a difference of rounding alone is about 1e-8 of the latency.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from dioe.planning.search.shop import Shop

UNITS = 2**28
"""What the latency to beat is in integers, at the least: one unit is rounded away on each edge."""

WORKERS = 1
"""Threads of the solver; with one, and a deterministic limit, it does the same every time."""


@functools.cache
def available() -> bool:
    """Whether OR-Tools is installed."""
    return importlib.util.find_spec("ortools") is not None


MOST_BLOCKS = 32
"""Up to this number of blocks a problem is solved as a whole."""

_LOADING_S = 0.8
"""What the first import takes, in seconds."""


def worth_loading(left_s: float | None) -> bool:
    """Whether enough time is left to import OR-Tools, or it is there already."""
    return left_s is None or _cp_model.cache_info().currsize > 0 or left_s > _LOADING_S


PER_WORK = 5e-5
"""CP-SAT's own measure of a placement that is judged: about what it does in the same time."""


@functools.cache
def _cp_model() -> Any:
    return importlib.import_module("ortools.sat.python.cp_model")


@dataclass(frozen=True, slots=True)
class Solved:
    """What was found: a device and a start (ms) for each block of a shop, None if nothing within
    the limit; the least latency that there can be; whether nothing better exists; and the work it
    took, in CP-SAT's own measure."""

    device: list[int] | None
    start: list[float]
    bound_ms: float
    proved: bool
    work: float


def solve_shop(
    shop: Shop,
    below_ms: float,
    *,
    hint: tuple[Sequence[int], Sequence[float]] | None = None,
    time_limit_s: float | None = None,
    deterministic_limit: float | None = None,
    seed: int = 0,
) -> Solved:
    """The least latency of a shop, if it is at most ``below_ms``.

    ``hint`` has a device and a start (ms) by block. ``deterministic_limit`` is in CP-SAT's own
    measure of work; with it alone the answer is the same every time.
    """
    cp = _cp_model()
    model = _Model(cp, shop, below_ms)
    if hint is not None:
        model.hint(*hint)
    solver = cp.CpSolver()
    settings = solver.parameters
    settings.num_workers = WORKERS
    settings.catch_sigint_signal = False  # it would leave the process without Python's handler
    settings.random_seed = seed
    if time_limit_s is not None:
        settings.max_time_in_seconds = max(0.01, time_limit_s)
    if deterministic_limit is not None:
        settings.max_deterministic_time = deterministic_limit
    status = solver.solve(model.model)
    work = solver.response_proto.deterministic_time
    if status in (cp.OPTIMAL, cp.FEASIBLE):
        device, start = model.found(solver)
        bound_ms = model.ms(math.ceil(solver.best_objective_bound - 1e-6))
        return Solved(device, start, bound_ms, status == cp.OPTIMAL, work)
    if status == cp.INFEASIBLE:  # nothing is at most below_ms
        return Solved(None, [], below_ms, True, work)
    return Solved(None, [], 0.0, False, work)


class _Machine(NamedTuple):
    """Lanes of a device that are alike, all of them or one; ``capacity`` 0 is any number."""

    device: int
    capacity: int
    free_ms: float
    behind_ms: float


def _machines(shop: Shop) -> list[_Machine]:
    found = []
    for d, lanes in enumerate(shop.lanes_of):
        kinds = {(shop.free[k], shop.behind[k]) for k in lanes}
        if not lanes:
            found.append(_Machine(d, 0, 0.0, 0.0))
        elif len(kinds) == 1:
            found.append(_Machine(d, len(lanes), *kinds.pop()))
        else:
            found += [_Machine(d, 1, shop.free[k], shop.behind[k]) for k in lanes]
    return found


class _Model:
    def __init__(self, cp: Any, shop: Shop, below_ms: float) -> None:
        self._shop = shop
        # a power of two: times that are binary fractions stay what they are
        self._scale = 2.0 ** math.ceil(math.log2(UNITS / below_ms)) if below_ms > 0 else 1.0
        most = self._units(below_ms)
        self.model = model = cp.CpModel()
        self._machines = _machines(shop)
        count = range(len(shop.blocks))
        self._on: list[list[Any]] = [
            [
                model.new_bool_var("") if shop.ms[i][machine.device] < math.inf else None
                for machine in self._machines
            ]
            for i in count
        ]
        self._start = [model.new_int_var(0, most, "") for _ in count]
        self._latency = model.new_int_var(min(most, self._units(shop.rest_ms)), most, "")
        self._end: list[Any] = []
        self._at: list[dict[int, Any]] = []
        for i in count:
            self._block(i)
        for k, machine in enumerate(self._machines):
            if machine.capacity:
                self._machine(k, machine)
        for i in count:
            for s, cross in shop.sources[i]:
                self._edge(s, i, cross)
        self._groups_and_memory()
        model.minimize(self._latency)

    def _units(self, ms: float) -> int:
        return int(ms * self._scale)

    def ms(self, units: int) -> float:
        """What a whole number of units is at the least."""
        return units / self._scale

    def _block(self, i: int) -> None:
        """Where a block runs, and what lies around it outside."""
        shop, model = self._shop, self.model
        known = [
            (machine.device, lit)
            for machine, lit in zip(self._machines, self._on[i], strict=True)
            if lit is not None
        ]
        model.add_exactly_one([lit for _, lit in known])
        at: dict[int, Any] = {}
        for d, lit in known:
            at[d] = at[d] + lit if d in at else lit
        self._at.append(at)
        end = self._start[i] + sum(self._units(shop.ms[i][d]) * lit for d, lit in known)
        self._end.append(end)
        model.add(self._latency >= end)
        if any(self._units(shop.begin[i][d]) for d, _ in known):
            model.add(
                self._start[i] >= sum(self._units(shop.begin[i][d]) * lit for d, lit in known)
            )
        if any(self._units(shop.leave[i][d]) for d, _ in known):
            model.add(
                self._latency >= end + sum(self._units(shop.leave[i][d]) * lit for d, lit in known)
            )

    def _machine(self, k: int, machine: _Machine) -> None:
        """What runs on a machine runs one after the other, and between what is around it."""
        shop, model = self._shop, self.model
        free, behind = self._units(machine.free_ms), self._units(machine.behind_ms)
        intervals, work = [], []
        for i, row in enumerate(self._on):
            on = row[k]
            if on is None:
                continue
            units = self._units(shop.ms[i][machine.device])
            intervals.append(
                model.new_optional_fixed_size_interval_var(self._start[i], units, on, "")
            )
            work.append(units * on)
            if free:
                model.add(self._start[i] >= free).only_enforce_if(on)
            if behind:
                model.add(self._latency >= self._end[i] + behind).only_enforce_if(on)
        if not intervals:
            return
        if machine.capacity == 1:
            model.add_no_overlap(intervals)
        else:
            model.add_cumulative(intervals, [1] * len(intervals), machine.capacity)
        # what is around an idle machine lies within the latency too: it is in rest_ms
        model.add(sum(work) <= machine.capacity * (self._latency - free - behind))

    def _edge(self, a: int, b: int, cross: Sequence[Sequence[float]]) -> None:
        model = self.model
        model.add(self._start[b] >= self._end[a])
        for machine, on in zip(self._machines, self._on[b], strict=True):
            if on is None:
                continue
            late = [(self._units(cross[s][machine.device]), lit) for s, lit in self._at[a].items()]
            if any(ms for ms, _ in late):
                model.add(
                    self._start[b] >= self._end[a] + sum(ms * lit for ms, lit in late if ms)
                ).only_enforce_if(on)

    def _groups_and_memory(self) -> None:
        shop, model = self._shop, self.model
        devices = range(len(shop.lanes_of))
        for group in shop.groups:
            for d in devices:
                for a, b in pairwise(group):
                    model.add(self._at[a].get(d, 0) == self._at[b].get(d, 0))
        for d in devices:
            if shop.room[d] < math.inf:
                needed = [
                    int(row[d]) * at[d]
                    for row, at in zip(shop.weights, self._at, strict=True)
                    if d in at
                ]
                model.add(sum(needed) <= math.floor(shop.room[d]))

    def hint(self, device: Sequence[int], start: Sequence[float]) -> None:
        """Start the search at a schedule."""
        for i, (d, ms) in enumerate(zip(device, start, strict=True)):
            own = [
                (machine, lit)
                for machine, lit in zip(self._machines, self._on[i], strict=True)
                if lit is not None
            ]
            for machine, lit in own:
                if machine.device != d or sum(m.device == d for m, _ in own) == 1:
                    self.model.add_hint(lit, machine.device == d)
            self.model.add_hint(self._start[i], self._units(ms))

    def found(self, solver: Any) -> tuple[list[int], list[float]]:
        """A device and a start for each block."""
        device = [
            next(
                machine.device
                for machine, lit in zip(self._machines, on, strict=True)
                if lit is not None and solver.boolean_value(lit)
            )
            for on in self._on
        ]
        return device, [self.ms(solver.value(var)) for var in self._start]
