"""Stages as jobs, by number: what they take and what they read, remembered between placements.

A search looks at thousands of placements that have most of their stages in common. What a stage
costs without the copies that other stages spare it depends on nothing but its blocks and targets,
so it is worked out once (:class:`Stages`).
"""

from __future__ import annotations

from typing import NamedTuple

from dioe.planning.assigned import Assigned
from dioe.planning.tables import Tables


class Stage(NamedTuple):
    """A stage by number. ``base_ms`` is all but copies; ``enters`` and ``leaves`` are pairs of a
    value and the target whose entry or exit it pays; ``before_ms`` is the part of ``base_ms`` that
    lies before its first block. Times in ms."""

    blocks: tuple[int, ...]
    targets: tuple[int, ...]
    device: int
    base_ms: float
    before_ms: float
    enters: tuple[tuple[int, int], ...]
    leaves: tuple[tuple[int, int], ...]


class Stages:
    """The stages of assignments, as :func:`dioe.planning.assigned.placed` has them."""

    def __init__(self, tables: Tables, *, most: int = 20_000) -> None:
        problem, net = tables.problem, tables.problem.network
        self._tables = tables
        self._most = most
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], Stage] = {}
        self._values_of = [
            [net.values[name] for name in block.reads] for block in problem.blocks
        ]  # fmt: skip
        self._read_bytes = [
            {net.values[name]: size for name, size in block.reads.items()}
            for block in problem.blocks
        ]
        self._gives = [
            [(net.values[name], size) for name, size in block.gives.items()]
            for block in problem.blocks
        ]
        self._readers: list[list[int]] = [[] for _ in net.makers]
        for i, values in enumerate(self._values_of):
            for value in values:
                self._readers[value].append(i)
        self._lasting = set(net.lasting)
        self.entry = [(t.entry.fixed_ms, t.entry.ms_per_byte) for t in problem.targets]
        self.exit = [(t.exit.fixed_ms, t.exit.ms_per_byte) for t in problem.targets]
        self.copy_in = [(t.copy_in.fixed_ms, t.copy_in.ms_per_byte) for t in problem.targets]
        self.copy_out = [(t.copy_out.fixed_ms, t.copy_out.ms_per_byte) for t in problem.targets]
        self._copies = any(any(line) for line in (*self.copy_in, *self.copy_out))
        self._context = list(net.context_of)
        self._dispatch = [t.dispatch_ms for t in problem.targets]
        self._switch = (problem.switch.fixed_ms, problem.switch.ms_per_byte)
        self._made_bytes = {v: size for gives in self._gives for v, size in gives}

    def of(self, assigned: Assigned) -> list[Stage]:
        """The stages, in the order they run."""
        tables, targets, cuts = self._tables, assigned.targets, assigned.cuts
        device_of, group_of, preds = tables.device_of, tables.group_of, tables.preds
        known = self._known
        if tables.flat:
            found = []
            for i in assigned.order:
                key = (i,), (targets[i],)
                found.append(known.get(key) or self._new(key))
            return found
        runs: list[list[int]] = []
        groups: list[int] = []
        last = [-1] * len(tables.devices)
        stage_of = [-1] * tables.n
        for i in assigned.order:
            target = targets[i]
            device = device_of[target]
            at = last[device]
            if at >= 0 and i not in cuts and groups[at] == group_of[target]:
                for p, _ in preds[i]:
                    if stage_of[p] > at:
                        at = -1
                        break
            else:
                at = -1
            if at < 0:
                at = len(runs)
                runs.append([])
                groups.append(group_of[target])
                last[device] = at
            runs[at].append(i)
            stage_of[i] = at
        stages = []
        for run in runs:
            full = tuple(run), tuple([targets[i] for i in run])
            stages.append(known.get(full) or self._new(full))
        return stages

    def costs(self, stages: list[Stage]) -> tuple[list[float], list[float]]:
        """What each stage takes, copies included, and how much of that lies before its blocks."""
        if not self._copies:
            return [s.base_ms for s in stages], [s.before_ms for s in stages]
        total, before = [], []
        held: set[tuple[int, int]] = set()
        context = self._context
        memory_of = [-1] * self._tables.n
        for stage in stages:
            for i, target in zip(stage.blocks, stage.targets, strict=True):
                memory_of[i] = context[target]
        for stage in stages:
            memory = context[stage.targets[0]]
            coming = leaving = 0.0
            for value, target in stage.enters:
                if (value, context[target]) not in held:
                    fixed, rate = self.copy_in[target]
                    coming += fixed + rate * self._size(value, stage)
            for value, target in stage.leaves:
                out = value in self._lasting
                if out or any(memory_of[i] != memory for i in self._readers[value]):
                    fixed, rate = self.copy_out[target]
                    leaving += fixed + rate * self._made_bytes[value]
            total.append(stage.base_ms + coming + leaving)
            before.append(stage.before_ms + coming)
            for i in stage.blocks:
                held.update((value, memory) for value in self._values_of[i])
                held.update((value, memory) for value, _ in self._gives[i])
        return total, before

    def _size(self, value: int, stage: Stage) -> float:
        """The bytes of a value as the first of the stage's blocks that reads it says."""
        for i in stage.blocks:
            if value in self._read_bytes[i]:
                return self._read_bytes[i][value]
        return 0.0

    def _new(self, key: tuple[tuple[int, ...], tuple[int, ...]]) -> Stage:
        blocks, targets = key
        tables = self._tables
        given: dict[int, int] = {}
        enters: dict[int, int] = {}
        before = self._dispatch[targets[0]]
        work = switches = leaving = 0.0
        for i, target in zip(blocks, targets, strict=True):
            for value, nbytes in self._read_bytes[i].items():
                if value not in given:
                    if value not in enters:
                        enters[value] = target
                        fixed, rate = self.entry[target]
                        before += fixed + rate * nbytes
                elif given[value] != target:
                    switches += self._switch[0] + self._switch[1] * nbytes
            work += tables.ms[i][target]
            for value, _ in self._gives[i]:
                given[value] = target
        inside = set(blocks)
        leaves = []
        for value, target in given.items():
            if value in self._lasting or any(i not in inside for i in self._readers[value]):
                leaves.append((value, target))
                fixed, rate = self.exit[target]
                leaving += fixed + rate * self._made_bytes[value]
        stage = Stage(
            blocks,
            targets,
            tables.device_of[targets[0]],
            before + work + switches + leaving,
            before,
            tuple(enters.items()),
            tuple(leaves),
        )
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[key] = stage
        return stage
