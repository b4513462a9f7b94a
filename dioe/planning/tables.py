"""A problem as integer arrays: what schedulers and searches work on.

Blocks, targets, devices and values are numbers here, in the order the problem has them. Rows are
Python lists where a loop reads single numbers, which is several times faster than numpy there, and
``durations`` is the matrix for whole-array work.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from copy import copy
from dataclasses import replace
from functools import cached_property

import numpy as np

from dioe.planning.memory import sizes, weights_bytes
from dioe.planning.problem import Line, Problem
from dioe.planning.timeline import NO_WAY


class Tables:
    """The arrays of a problem.

    ``ms[i][t]`` is the time of block i on target t, inf where it can't run or its group can't all
    be on the device. ``preds[i]`` and ``succs[i]`` are pairs of a block and the value between them,
    each pair once. By target: ``device_of[t]`` and ``group_of[t]`` (which targets share a stage);
    by device ``lanes[d]`` (0: any number) and ``memory[d]`` (inf: no limit); ``weights[i][t]`` in
    bytes; ``peers[i]`` are the blocks of i's colocation group, itself included, empty where it has
    none. ``home`` is the device of model inputs and outputs, -1 where these cost nothing.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        net = problem.network
        self.n = len(problem.blocks)
        self.m = len(problem.targets)
        self.devices = net.devices
        self.device_of = list(net.device_of)
        self.group_of = list(problem.group_of)
        self.lanes = list(net.lanes)
        limits = sizes(problem)
        self.memory = [float(limits.get(name, math.inf)) for name in net.devices]
        self.home = net.home
        ids = [block.id for block in problem.blocks]
        columns = []
        for costs in problem.targets:
            own = costs.blocks
            found = map(own.get, ids)
            columns.append([math.inf if cost is None else cost.ms for cost in found])
        self.ms: list[list[float]] = list(map(list, zip(*columns, strict=True)))
        self.peers = self._peers()
        held = [weights_bytes(costs, problem.blocks) for costs in problem.targets]
        self.weights: list[list[float]] = list(map(list, zip(*held, strict=True)))
        self.nbytes = list(net.nbytes)
        self.maker = list(net.makers)
        self.preds: list[list[tuple[int, int]]] = [[] for _ in ids]
        self.succs: list[list[tuple[int, int]]] = [[] for _ in ids]
        self.inputs: list[list[int]] = [[] for _ in ids]
        """Model inputs (values) that each block reads."""
        for i, block in enumerate(problem.blocks):
            for name in block.reads:
                value = net.values[name]
                source = net.makers[value]
                if source < 0:
                    self.inputs[i].append(value)
                else:
                    self.preds[i].append((source, value))
                    self.succs[source].append((i, value))
        self.outputs = list(net.lasting)
        """Values that have to get home."""
        self._ways = net.ways
        self.own_transfer_ms = net.fixed
        """Times of transfers that don't depend on the way, by value."""

    def _peers(self) -> list[tuple[int, ...]]:
        """Groups, and in ``ms`` no device that one of a group can't run on."""
        members: dict[str, list[int]] = {}
        for i, block in enumerate(self.problem.blocks):
            if block.group:
                members.setdefault(block.group, []).append(i)
        peers: list[tuple[int, ...]] = [()] * self.n
        for found in members.values():
            able = [
                {self.device_of[t] for t in range(self.m) if self.ms[i][t] < math.inf}
                for i in found
            ]
            common = set.intersection(*able)
            for i in found:
                peers[i] = tuple(found)
                self.ms[i] = [
                    ms if self.device_of[t] in common else math.inf
                    for t, ms in enumerate(self.ms[i])
                ]
        return peers

    def only(self, devices: Collection[str]) -> Tables:
        """The same where blocks may run on these devices alone, which may all be used together."""
        found = copy(self)
        problem = self.problem
        allowed = [costs.target.device in devices for costs in problem.targets]
        found.problem = replace(
            problem,
            allowed=replace(problem.allowed, together=None),
            targets=tuple(
                costs if may else replace(costs, blocks={})
                for costs, may in zip(problem.targets, allowed, strict=True)
            ),
        )
        found.ms = [
            [ms if may else math.inf for ms, may in zip(row, allowed, strict=True)]
            for row in self.ms
        ]
        found.__dict__.pop("durations", None)
        return found

    @cached_property
    def durations(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """``ms`` as a matrix, blocks by targets."""
        return np.array(self.ms, dtype=np.float64).reshape(self.n, self.m)

    def transfer_ms(self, value: int, source: int, destination: int) -> float:
        """What a value takes between two devices; nothing within one."""
        if source == destination:
            return 0.0
        own = self.own_transfer_ms.get(value)
        if own is not None:
            return own
        ms, per_byte = self.way(source, destination)
        return ms + per_byte * self.nbytes[value]

    def way(self, source: int, destination: int) -> tuple[float, float]:
        """The link between two devices as ms and ms per byte; nothing within one or without one."""
        if source == destination:
            return 0.0, 0.0
        way = self._ways.get((source, destination), NO_WAY)
        return way.fixed_ms, way.ms_per_byte

    @cached_property
    def cross(self) -> list[list[list[float]]]:
        """``transfer_ms`` as ``cross[value][source device][destination device]``, for searches:
        values of one size share what they have."""
        count = range(len(self.devices))
        known: dict[tuple[float | None, float], list[list[float]]] = {}
        found = []
        for value, nbytes in enumerate(self.nbytes):
            key = self.own_transfer_ms.get(value), nbytes
            if key not in known:
                known[key] = [[self.transfer_ms(value, a, b) for b in count] for a in count]
            found.append(known[key])
        return found

    @cached_property
    def queue_of(self) -> list[list[int]]:
        """Queues of transfers as ``queue_of[source device][destination device]``, -1 for none."""
        count = range(len(self.devices))
        return [[self._ways.get((a, b), NO_WAY).queue for b in count] for a in count]

    @cached_property
    def queued(self) -> bool:
        """Whether transfers may wait for each other."""
        return any(way.queue >= 0 for way in self._ways.values())

    @cached_property
    def flat(self) -> bool:
        """Whether a block as a stage of its own costs nothing but its time, and no limit counts
        stages: they don't matter then."""
        return stages_are_free(self.problem)


def stages_are_free(problem: Problem) -> bool:
    """``Tables.flat`` of a problem."""
    if problem.allowed.max_stages is not None:
        return False
    free = all(
        not (t.dispatch_ms or any(_line(t.entry + t.copy_in)) or any(_line(t.exit + t.copy_out)))
        for t in problem.targets
    )
    return bool(problem.devices) and free and not any(problem.handover.values())


def _line(line: Line) -> tuple[float, float]:
    return line.fixed_ms, line.ms_per_byte
