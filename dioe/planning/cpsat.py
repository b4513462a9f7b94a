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
from typing import Any

from dioe.planning.exactly import Part
from dioe.planning.tables import Tables

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
    """What was found: a machine and a start (ms) for each block of a part, None if nothing better
    than the limit; and the least latency that there can be."""

    machines: list[int] | None
    start: list[float]
    bound_ms: float
    proved: bool
    work: float
    """In CP-SAT's own measure."""


def solve_part(
    tables: Tables,
    part: Part,
    below_ms: float,
    *,
    hint: tuple[Sequence[int], Sequence[float]] | None = None,
    time_limit_s: float | None = None,
    deterministic_limit: float | None = None,
    seed: int = 0,
    workers: int = WORKERS,
) -> Solved:
    """The least latency of a part, if it is at most ``below_ms``.

    ``hint`` has a machine and a start (ms) by block. ``deterministic_limit`` is in CP-SAT's own
    measure of work.
    """
    cp = _cp_model()
    model = _Model(cp, tables, part, below_ms)
    if hint is not None:
        model.hint(*hint)
    solver = cp.CpSolver()
    settings = solver.parameters
    settings.num_workers = workers
    settings.random_seed = seed
    settings.cp_model_presolve = True
    if time_limit_s is not None:
        settings.max_time_in_seconds = max(0.01, time_limit_s)
    if deterministic_limit is not None:
        settings.max_deterministic_time = deterministic_limit
    status = solver.solve(model.model)
    work = solver.response_proto.deterministic_time
    if status in (cp.OPTIMAL, cp.FEASIBLE):
        machines, start = model.found(solver)
        bound_ms = model.ms(math.ceil(solver.best_objective_bound - 1e-6))
        return Solved(machines, start, bound_ms, status == cp.OPTIMAL, work)
    if status == cp.INFEASIBLE:  # nothing is at most below_ms
        return Solved(None, [], below_ms, True, work)
    return Solved(None, [], 0.0, False, work)


class _Model:
    def __init__(self, cp: Any, tables: Tables, part: Part, below_ms: float) -> None:
        self._tables, self._part = tables, part
        # a power of two: times that are binary fractions stay what they are
        self._scale = 2.0 ** math.ceil(math.log2(UNITS / below_ms)) if below_ms > 0 else 1.0
        self._most = self._units(below_ms)
        self.model = model = cp.CpModel()
        count = range(len(part.blocks))
        machines = range(len(part.device))
        self._on: list[list[Any]] = [
            [model.new_bool_var("") if part.ms[i][k] < math.inf else None for k in machines]
            for i in count
        ]
        self._start = [model.new_int_var(0, self._most, "") for _ in count]
        self._latency = model.new_int_var(self._units(part.rest_ms), self._most, "")
        self._end: list[Any] = []
        for i in count:
            on = self._on[i]
            known = [(k, lit) for k, lit in enumerate(on) if lit is not None]
            model.add_exactly_one([lit for _, lit in known])
            self._end.append(
                self._start[i] + sum(self._units(part.ms[i][k]) * lit for k, lit in known)
            )
            self._outside(i)
        self._machines(count, machines)
        devices = sorted(set(part.device))
        self._at = [self._on_device(i, devices) for i in count]
        self._edges(devices)
        self._groups_and_memory(devices)
        model.minimize(self._latency)

    def _units(self, ms: float) -> int:
        return int(ms * self._scale)

    def ms(self, units: int) -> float:
        """What a whole number of units is at the least."""
        return units / self._scale

    def _outside(self, i: int) -> None:
        """What a block reads from outside, and what follows it there."""
        part, model = self._part, self.model
        model.add(self._latency >= self._end[i])
        rows = zip(part.release[i], part.tail[i], self._on[i], strict=True)
        known = [
            (self._units(come), self._units(go), on) for come, go, on in rows if on is not None
        ]
        if any(come for come, _, _ in known):
            model.add(self._start[i] >= sum(come * on for come, _, on in known))
        if any(go for _, go, _ in known):
            model.add(self._latency >= self._end[i] + sum(go * on for _, go, on in known))

    def _machines(self, count: range, machines: range) -> None:
        part, model = self._part, self.model
        for k in machines:
            if not part.capacity[k]:
                continue
            free, behind = self._units(part.free[k]), self._units(part.behind[k])
            intervals, work = [], []
            for i in count:
                on = self._on[i][k]
                if on is None:
                    continue
                units = self._units(part.ms[i][k])
                intervals.append(
                    model.new_optional_fixed_size_interval_var(self._start[i], units, on, "")
                )
                work.append(units * on)
                if free:
                    model.add(self._start[i] >= free).only_enforce_if(on)
                if behind:
                    model.add(self._latency >= self._end[i] + behind).only_enforce_if(on)
            if part.capacity[k] == 1:
                model.add_no_overlap(intervals)
            elif intervals:
                model.add_cumulative(intervals, [1] * len(intervals), part.capacity[k])
            if work:  # what a lane does all in all is within the latency
                model.add(sum(work) <= part.capacity[k] * self._latency - free - behind)

    def _on_device(self, i: int, devices: Sequence[int]) -> dict[int, Any]:
        """Whether a block is on a device, as a sum of literals."""
        found: dict[int, Any] = {}
        for d in devices:
            own = [
                lit
                for lit, device in zip(self._on[i], self._part.device, strict=True)
                if device == d and lit is not None
            ]
            if own:
                found[d] = own[0] if len(own) == 1 else sum(own)
        return found

    def _edges(self, devices: Sequence[int]) -> None:
        part, model, cross = self._part, self.model, self._tables.cross
        for a, b, value in part.edges:
            table = cross[value]
            model.add(self._start[b] >= self._end[a])
            for k, on in enumerate(self._on[b]):
                if on is None:
                    continue
                d = part.device[k]
                late = [(self._units(table[s][d]), lit) for s, lit in self._at[a].items()]
                if any(ms for ms, _ in late):
                    model.add(
                        self._start[b] >= self._end[a] + sum(ms * lit for ms, lit in late if ms)
                    ).only_enforce_if(on)

    def _groups_and_memory(self, devices: Sequence[int]) -> None:
        part, model = self._part, self.model
        for group in part.groups:
            for d in devices:
                for a, b in pairwise(group):
                    model.add(self._at[a].get(d, 0) == self._at[b].get(d, 0))
        for d in devices:
            if part.room[d] == math.inf:
                continue
            needed = [
                int(weights[k]) * lit
                for weights, on in zip(part.weights, self._on, strict=True)
                for k, lit in enumerate(on)
                if lit is not None and part.device[k] == d
            ]
            model.add(sum(needed) <= math.floor(part.room[d]))

    def hint(self, machines: Sequence[int], start: Sequence[float]) -> None:
        """Start the search at a schedule."""
        for i, (k, ms) in enumerate(zip(machines, start, strict=True)):
            for other, on in enumerate(self._on[i]):
                if on is not None:
                    self.model.add_hint(on, other == k)
            self.model.add_hint(self._start[i], self._units(ms))

    def found(self, solver: Any) -> tuple[list[int], list[float]]:
        """A machine and a start for each block."""
        machines = [
            next(k for k, lit in enumerate(on) if lit is not None and solver.boolean_value(lit))
            for on in self._on
        ]
        return machines, [self.ms(solver.value(var)) for var in self._start]
