"""How much memory devices need, by number: ``dioe.planning.lifetimes`` for searches."""

# ruff: noqa: PLR1730 - these loops are what a search spends its time in, and max() costs a call

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dioe.planning.memory import PRECISION_SHARE
from dioe.planning.tables import Tables


class Memories:
    """The sizes of a problem's values, weights and workspaces, and what each device holds."""

    def __init__(self, tables: Tables) -> None:
        problem, net = tables.problem, tables.problem.network
        self._tables = tables
        self._share = [PRECISION_SHARE[t.precision] for t in problem.targets]
        self._work = [
            [t.workspace_bytes.get(block.id, 0) for t in problem.targets]
            for block in problem.blocks
        ]
        self._any_work = any(any(row) for row in self._work)
        self._readers: list[list[int]] = [[] for _ in net.makers]
        for i, block in enumerate(problem.blocks):
            for name in block.reads:
                self._readers[net.values[name]].append(i)
        self._lasting = set(net.lasting)

    def weights(self, targets: Sequence[int]) -> list[float]:
        """The bytes of weights by device."""
        tables = self._tables
        held = [0.0] * len(tables.devices)
        for row, target in zip(tables.weights, targets, strict=True):
            held[tables.device_of[target]] += row[target]
        return held

    def most(self, targets: Sequence[int]) -> list[float]:
        """What no peak can be above, by device: everything that ever comes there at once."""
        tables, share, device_of = self._tables, self._share, self._tables.device_of
        held = self.weights(targets)
        for value, maker in enumerate(tables.maker):
            where = {device_of[targets[i]] for i in self._readers[value]}
            size = tables.nbytes[value]
            if maker >= 0:
                size *= share[targets[maker]]
                where.add(device_of[targets[maker]])
            if tables.home >= 0 and (maker < 0 or value in self._lasting):
                where.add(tables.home)
            for device in where:
                held[device] += size
        if self._any_work:
            for row, target in zip(self._work, targets, strict=True):
                held[device_of[target]] += row[target]
        return held

    def peaks(
        self,
        targets: Sequence[int],
        start: Sequence[float],
        end: Sequence[float],
        stage_start: Sequence[float],
        crossings: Mapping[tuple[int, int], tuple[float, float]],
        total_ms: float,
    ) -> list[float]:
        """The most that each device holds at an instant.

        ``start``, ``end`` and ``stage_start`` (that of its stage) are by block, ``crossings`` the
        starts and ends of transfers by value and destination.
        """
        tables, device_of, readers = self._tables, self._tables.device_of, self._readers
        changes: list[list[tuple[float, bool, float]]] = [[] for _ in tables.devices]

        def hold(device: int, nbytes: float, since: float, until: float) -> None:
            changes[device].append((since, True, -nbytes))
            changes[device].append((until, until <= since, nbytes))

        left: dict[int, float] = {}
        for (value, _), (_, until) in crossings.items():
            if until > left.get(value, 0.0):
                left[value] = until
        for value, maker in enumerate(tables.maker):
            size = tables.nbytes[value]
            spans: dict[int, list[float]] = {}
            for i in readers[value]:
                device = device_of[targets[i]]
                crossing = crossings.get((value, device))
                since = stage_start[i] if crossing is None else crossing[0]
                _widen(spans, device, since, end[i])
            if maker >= 0:
                target = targets[maker]
                device = device_of[target]
                size *= self._share[target]
                until = max(end[maker], left.get(value, 0.0))
                _widen(spans, device, start[maker], until)
                if value in self._lasting:
                    last = tables.home if tables.home >= 0 else device
                    crossing = crossings.get((value, last))
                    since = end[maker] if crossing is None else crossing[0]
                    _widen(spans, last, since, total_ms)
            elif tables.home >= 0:
                _widen(spans, tables.home, 0.0, left.get(value, 0.0))
            if size:
                for device, (since, until) in spans.items():
                    hold(device, size, since, until)
        if self._any_work:
            for i, target in enumerate(targets):
                if self._work[i][target]:
                    hold(device_of[target], self._work[i][target], start[i], end[i])
        peaks = self.weights(targets)
        for device, row in enumerate(changes):
            row.sort()  # the larger first of what starts at one instant: sizes are negative there
            now = most = peaks[device]
            for _, _, nbytes in row:
                now -= nbytes
                if now > most:
                    most = now
            peaks[device] = most
        return peaks


def _widen(spans: dict[int, list[float]], device: int, since: float, until: float) -> None:
    known = spans.get(device)
    if known is None:
        spans[device] = [since, until]
        return
    if since < known[0]:
        known[0] = since
    if until > known[1]:
        known[1] = until
