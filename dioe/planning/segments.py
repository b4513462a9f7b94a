"""The cheapest precisions of every segment of a block order, for targets that share a stage.

A segment is a run of consecutive blocks that makes one stage. What a block adds to a stage depends
on the precisions of the blocks whose values it reads, so a dynamic programme over the order keeps,
for each combination of precisions of the blocks that are still read (the live ones), the least
cost; all starts of segments at once, as one numpy array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from dioe.planning.memory import segment_bytes
from dioe.planning.problem import Line, Problem

Costs: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Digits: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Penalties: TypeAlias = Mapping[tuple[str, int], float]

MAX_STATES = 256
"""Combinations of precisions kept apart: 8 live blocks with two precisions, 5 with three."""


@dataclass(slots=True)
class _Step:
    """One block of the order. Vectors are over the targets of the group."""

    own: Costs  # its cost and penalty, and the exits of model outputs
    dispatch: Costs
    entries: list[tuple[int, Costs]] = field(default_factory=list)
    """Values that enter a segment with this block if it starts after the position."""
    switches: dict[int, Costs] = field(default_factory=dict)
    """By position of the block that is read: the cost for (its target, this block's target)."""
    exits: list[tuple[int, Costs]] = field(default_factory=list)
    """What leaves a segment that ends before the position: its last reader's."""
    last: int = -1
    """The last position that reads from the block."""


class Segments:
    """Costs of all segments of one block order on one group of targets.

    ``ms[start, end]`` is the least cost of blocks ``order[start:end]`` as one stage, penalties
    included; inf where it can't run or doesn't fit. It is exact while ``MAX_STATES`` suffices; with
    more live blocks at once neighbours are tied to one precision, so a cost may be above the least
    one, but never is below what ``targets`` then gives.
    """

    def __init__(
        self, problem: Problem, order: Sequence[int], group: Sequence[int], penalty: Penalties
    ) -> None:
        self._group = tuple(group)
        self._steps = _steps(problem, order, group, penalty)
        count = len(order)
        self.ms: Costs = np.full((count + 1, count + 1), math.inf)
        scan = _Scan(self._steps, 0, len(group), traced=False)
        for position in range(count):
            scan.advance(position, starts=True)
            self.ms[: position + 1, position + 1] = scan.closed(position).min(axis=1)
        limit = problem.targets[self._group[0]].memory_bytes
        if limit is not None:
            self.ms[segment_bytes(problem, order, group) > limit] = math.inf

    def targets(self, start: int, end: int) -> tuple[int, ...]:
        """Indices of the targets that ``ms[start, end]`` stands for, one a block."""
        if len(self._group) == 1:
            return self._group * (end - start)
        scan = _Scan(self._steps, start, len(self._group), traced=True)
        for position in range(start, end):
            scan.advance(position, starts=position == start)
        return tuple(self._group[digit] for digit in scan.trace(end - 1))


class _Scan:
    """Costs by start of the segment (axis 0) and by the precisions of live blocks.

    Axis ``i + 1`` is the index of the target of the blocks ``live[i]``: one block, or several that
    are tied. For segments that start after a block only index 0 of its axis is in use.
    """

    def __init__(self, steps: Sequence[_Step], first: int, choices: int, *, traced: bool) -> None:
        self._steps = steps
        self._first = first
        self._choices = choices
        self._most = max(1, int(math.log(MAX_STATES, max(choices, 2))))
        self._cost: Costs = np.zeros((0,))
        self._live: list[list[int]] = []
        self._traced = traced
        self._history: list[tuple[int, Digits | None] | None] = []
        """What became of the axes: None for one that was added behind; else where one went, and
        the best index by the state that was left, None for one tied to the next."""

    def advance(self, position: int, *, starts: bool) -> None:
        """Append the block at ``position``; with ``starts`` segments may begin with it."""
        step = self._steps[position]
        if starts:
            row = np.full((1, *self._cost.shape[1:]), math.inf)
            row[(0,) * row.ndim] = 0.0
            self._cost = np.concatenate([self._cost, row])
        grown = self._cost[..., None] + step.own
        if starts:
            grown[-1] += step.dispatch
        for after, costs in step.entries:
            grown[self._rows(after) :] += costs
        for source, costs in step.switches.items():
            rows = self._rows(source)
            if rows:
                shape = [1] * grown.ndim
                shape[self._axis(source)] = shape[-1] = self._choices
                grown[:rows] += costs.reshape(shape)
        self._cost = grown
        self._live.append([position])
        if self._traced:
            self._history.append(None)
        self._forget(position)
        if len(self._live) > self._most:
            self._tie()

    def _rows(self, position: int) -> int:
        """How many of the segments start at or before ``position``."""
        return min(max(position + 1 - self._first, 0), len(self._cost))

    def _axis(self, position: int) -> int:
        return next(i for i, blocks in enumerate(self._live, 1) if position in blocks)

    def _forget(self, position: int) -> None:
        """Settle the precision of blocks that nothing reads from here on."""
        for index in reversed(range(len(self._live))):
            blocks = self._live[index]
            if all(self._steps[block].last <= position for block in blocks):
                if self._traced:
                    best: Digits = self._cost.argmin(axis=index + 1)
                    self._history.append((index, best[0]))
                self._cost = self._cost.min(axis=index + 1)
                del self._live[index]

    def _tie(self) -> None:
        """Let the newest live block have the precision of the one before it."""
        index = len(self._live) - 2
        before, newest = self._live[index:]
        tied = np.diagonal(self._cost, axis1=index + 1, axis2=index + 2).copy()
        rows = self._rows(max(before))
        tied[rows:] = np.moveaxis(self._cost, index + 1, 0)[0][rows:]
        self._cost = tied
        if self._traced:
            self._history.append((index, None))
        self._live[index:] = [[*before, *newest]]

    def closed(self, position: int) -> Costs:
        """Costs of the segments that end with ``position``, by start and (flat) state."""
        closed = self._cost.copy()
        for index, blocks in enumerate(self._live, 1):
            shape = [1] * closed.ndim
            shape[index] = self._choices
            for block in blocks:
                rows = self._rows(block)
                for last, costs in self._steps[block].exits:
                    if last > position and rows:
                        closed[:rows] += costs.reshape(shape)
        return closed.reshape(len(closed), -1)

    def trace(self, position: int) -> list[int]:
        """The choice for each block of the cheapest segment that ends with ``position``; the scan
        must be traced and have one start."""
        state = int(self.closed(position)[0].argmin())
        digits = [int(d) for d in np.unravel_index(state, self._cost.shape[1:])]
        chosen: list[int] = []
        for event in reversed(self._history):
            if event is None:
                chosen.append(digits.pop())
            else:
                index, best = event
                digits.insert(index, digits[index] if best is None else int(best[tuple(digits)]))
        return chosen[::-1]


def _steps(
    problem: Problem, order: Sequence[int], group: Sequence[int], penalty: Penalties
) -> list[_Step]:
    place_of = {block: position for position, block in enumerate(order)}
    targets = [problem.targets[i] for i in group]
    entry, leave = [t.entry + t.copy_in for t in targets], [t.exit + t.copy_out for t in targets]
    dispatch = np.array([t.dispatch_ms for t in targets])
    other = 1.0 - np.eye(len(targets))
    steps: list[_Step] = []
    last_reads: dict[str, int] = {}
    for position, number in enumerate(order):
        block = problem.blocks[number]
        own = [
            t.blocks[block.id].ms + penalty.get((block.id, i), 0.0)
            if block.id in t.blocks
            else math.inf
            for t, i in zip(targets, group, strict=True)
        ]
        step = _Step(np.array(own), dispatch)
        for value, nbytes in block.reads.items():
            source = place_of[problem.producers[value]] if value in problem.producers else -1
            step.entries.append((last_reads.get(value, source), _line(entry, nbytes)))
            last_reads[value] = position
            if source >= 0:
                so_far = step.switches.get(source, 0.0)
                step.switches[source] = so_far + other * problem.switch.ms(nbytes)
        for value, nbytes in block.gives.items():
            last = max((place_of[user] for user in problem.readers.get(value, ())), default=-1)
            step.last = max(step.last, last)
            if value in problem.outputs:
                step.own += _line(leave, nbytes)
            elif last >= 0:
                step.exits.append((last, _line(leave, nbytes)))
        steps.append(step)
    return steps


def _line(lines: Sequence[Line], nbytes: int) -> Costs:
    return np.array([line.ms(nbytes) for line in lines])
