"""What lies between two blocks, by their targets: transfers, and boundaries where stages cost.

So list schedulers see what the simulator makes of neighbours. A value crosses the link between two
devices; where two targets can't share a stage it also leaves one and enters the other, which has a
dispatch of its own and may fight with the threads of the one before. All of this is a line in the
bytes of the value, one for each pair of targets. Queues of links and lanes are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from dioe.planning.problem import Line
from dioe.planning.tables import Tables

Pair = tuple[float, float]
"""ms, and ms per byte."""


class EdgeCosts:
    """Costs of values between targets, from the end of the block that makes one to the earliest
    start of the block that reads it.

    ``lines[a][b]`` is the line from target a to target b, ``lines[-1]`` that of a block which isn't
    placed: less than nothing, so that it is no maximum. Values in ``own`` have transfers of their
    own time: for them ``own_lines`` has ms, and ms per ms of that time; None where boundaries cost
    by the byte. ``row`` holds for all values. ``shares[a][b]`` says that a value stays where it is:
    on one device, in one stage. ``first`` is what comes before a block that reads nothing of other
    blocks, by its target.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.own = tables.own_transfer_ms
        count = range(tables.m)
        device, group = tables.device_of, tables.group_of
        self.shares = [
            [device[a] == device[b] and group[a] == group[b] for b in count] for a in count
        ]
        self._boundary = [[_pair(self._boundary_line(a, b)) for b in count] for a in count]
        way = tables.way
        self.lines = [
            [_plus(self._boundary[a][b], way(device[a], device[b])) for b in count] for a in count
        ]
        self.lines.append([(-math.inf, 0.0)] * tables.m)
        self._crosses = [[float(device[a] != device[b]) for b in count] for a in count]
        self.own_lines: list[list[Pair]] | None = None
        if not any(per_byte for row in self._boundary for _, per_byte in row):
            self.own_lines = [
                [(self._boundary[a][b][0], self._crosses[a][b]) for b in count] for a in count
            ]
            self.own_lines.append(self.lines[-1])
        targets = tables.problem.targets
        self.first = [costs.dispatch_ms for costs in targets]
        self._in = [
            _pair(Line(costs.dispatch_ms) + costs.entry + costs.copy_in) for costs in targets
        ]
        self._out = [_pair(costs.exit + costs.copy_out) for costs in targets]

    def _boundary_line(self, a: int, b: int) -> Line:
        problem = self._tables.problem
        source, target = problem.targets[a], problem.targets[b]
        if self.shares[a][b]:
            return problem.switch if a != b else Line()
        line = source.exit + target.entry + Line(target.dispatch_ms)
        if self._tables.device_of[a] == self._tables.device_of[b]:
            line += Line(problem.handover_ms(a, b))
        if source.context != target.context:
            line += source.copy_out + target.copy_in
        return line

    def row(self, value: int, source: int) -> list[float]:
        """What a value of a block on target ``source`` takes to each target, in ms."""
        nbytes = self._tables.nbytes[value]
        own = self.own.get(value)
        if own is None:
            return [ms + per_byte * nbytes for ms, per_byte in self.lines[source]]
        return [
            ms + per_byte * nbytes + own * crosses
            for (ms, per_byte), crosses in zip(
                self._boundary[source], self._crosses[source], strict=True
            )
        ]

    def from_home(self, value: int) -> list[float]:
        """What a model input takes to each target, in ms."""
        home, nbytes = self._tables.home, self._tables.nbytes[value]
        return [
            ms + per_byte * nbytes + self._home_ms(value, home, device)
            for (ms, per_byte), device in zip(self._in, self._tables.device_of, strict=True)
        ]

    def to_home(self, value: int) -> list[float]:
        """What a model output takes from each target, in ms."""
        home, nbytes = self._tables.home, self._tables.nbytes[value]
        return [
            ms + per_byte * nbytes + self._home_ms(value, device, home)
            for (ms, per_byte), device in zip(self._out, self._tables.device_of, strict=True)
        ]

    @cached_property
    def results(self) -> dict[int, list[float]]:
        """Of blocks that make model outputs: what these take home from each target, in ms."""
        found: dict[int, list[float]] = {}
        for value in self._tables.outputs:
            maker = self._tables.maker[value]
            if maker >= 0:
                row = self.to_home(value)
                found[maker] = list(map(max, found.get(maker, row), row))
        return found

    def _home_ms(self, value: int, source: int, destination: int) -> float:
        if self._tables.home < 0:
            return 0.0
        return self._tables.transfer_ms(value, source, destination)

    def mean(self) -> list[float]:
        """What each value takes on average over all pairs of targets that don't share a stage."""
        tables = self._tables
        pairs = [(a, b) for a in range(tables.m) for b in range(tables.m) if not self.shares[a][b]]
        if not pairs:
            return [0.0] * len(tables.nbytes)
        nbytes = np.array(tables.nbytes)
        ms, per_byte = _mean(self.lines[a][b] for a, b in pairs)
        costs: list[float] = (ms + per_byte * nbytes).tolist()
        if self.own:
            ms, per_byte = _mean(self._boundary[a][b] for a, b in pairs)
            crosses = sum(self._crosses[a][b] for a, b in pairs) / len(pairs)
            for value, own in self.own.items():
                costs[value] = ms + per_byte * tables.nbytes[value] + own * crosses
        return costs


def _pair(line: Line) -> Pair:
    return line.fixed_ms, line.ms_per_byte


def _plus(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], a[1] + b[1]


def _mean(pairs: Iterable[Pair]) -> Pair:
    """The line in the middle of several."""
    found = list(pairs)
    return (
        sum(ms for ms, _ in found) / len(found),
        sum(per_byte for _, per_byte in found) / len(found),
    )
