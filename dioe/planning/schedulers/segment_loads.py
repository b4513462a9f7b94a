"""What every run of blocks of one order would load a device with: tables by start and end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from dioe.planning.tables import Tables
from dioe.planning.timeline import NO_WAY

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class SegmentLoads:
    """Loads of the segments ``order[cuts[i]:cuts[j]]``, by i and j, in ms.

    Cuts are ``most`` at the most: where every piece between two has about the same work, and few
    bytes cross; never within a colocation group.
    """

    def __init__(self, tables: Tables, order: Sequence[int], most: int) -> None:
        self._tables = tables
        self._order = np.array(order, dtype=np.int64)
        place = np.empty(tables.n, dtype=np.int64)
        place[self._order] = np.arange(tables.n)
        self._values(place)
        self.cuts = self._chosen(place, most)
        grid = len(self.cuts)
        # a value made at p with readers r, s, …: it enters segments that start after p up to r
        # and end after r, those that start after r up to s and end after s, …
        self._row = (
            np.searchsorted(self.cuts, self._from, "right"),
            np.searchsorted(self.cuts, self._reader, "right"),
        )
        self._grid = grid

    def _values(self, place: Ints) -> None:
        """Every value once for each place that reads it, with the place before, and once with
        where it is made and last read."""
        tables = self._tables
        rows: list[tuple[int, int, int]] = []  # value, where it is known before, reader
        made: list[tuple[int, int, int]] = []  # value, maker, last reader
        readers: dict[int, set[int]] = {}
        for i, pairs in enumerate(tables.preds):
            at = int(place[i])
            for _, value in pairs:
                readers.setdefault(value, set()).add(at)
            for value in tables.inputs[i]:
                readers.setdefault(value, set()).add(at)
        outputs = set(tables.outputs)
        for value in readers.keys() | outputs:
            maker = tables.maker[value]
            before = int(place[maker]) if maker >= 0 else -1
            last = tables.n if value in outputs else max(readers[value])
            if maker >= 0:
                made.append((value, before, last))
            for reader in sorted(readers.get(value, ())):
                rows.append((value, before, reader))
                before = reader
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        self._value, self._from, self._reader = table.T
        made_table = np.array(made, dtype=np.int64).reshape(-1, 3)
        self._made, self._maker, self._last = made_table.T
        self._nbytes = np.array(tables.nbytes, dtype=np.float64)

    def _chosen(self, place: Ints, most: int) -> Ints:
        """Places to cut at, 0 and the end among them."""
        tables, n = self._tables, self._tables.n
        crossing = np.zeros(n + 2)
        np.add.at(crossing, self._maker + 1, self._nbytes[self._made] + 1.0)
        np.add.at(crossing, np.minimum(self._last, n - 1) + 1, -self._nbytes[self._made] - 1.0)
        crossing = np.cumsum(crossing)[: n + 1]
        allowed = np.ones(n + 1, dtype=bool)
        for peers in set(tables.peers) - {()}:
            places = place[list(peers)]
            allowed[places.min() + 1 : places.max() + 1] = False
        least = np.cumsum(np.nan_to_num(tables.durations.min(axis=1), posinf=0.0)[self._order])
        found = np.flatnonzero(allowed[1:n]) + 1
        if len(found) > most:
            share = least[found - 1] / max(least[-1], 1e-30)
            piece = np.minimum((share * most).astype(np.int64), most - 1)
            by_piece = np.lexsort((crossing[found], piece))
            first = np.unique(piece[by_piece], return_index=True)[1]
            found = np.sort(found[by_piece][first])
        return np.concatenate([[0], found, [n]]).astype(np.int64)

    def compute(self, target: Sequence[int]) -> Floats:
        """Each block on the target of ``target``, by block; inf where one can't run there."""
        tables = self._tables
        ms = tables.durations[np.arange(tables.n), np.array(target)][self._order]
        return self._between(ms)

    def weights(self, target: Sequence[int]) -> Floats:
        """Bytes of weights, likewise."""
        tables = self._tables
        rows = np.array(tables.weights, dtype=np.float64).reshape(tables.n, tables.m)
        return self._between(rows[np.arange(tables.n), np.array(target)][self._order])

    def _between(self, each: Floats) -> Floats:
        """Sums from cut to cut; inf for segments that end before they start."""
        never = np.concatenate([[0], np.cumsum(np.isinf(each))])[self.cuts]
        total = np.concatenate([[0.0], np.cumsum(np.where(np.isinf(each), 0.0, each))])[self.cuts]
        found: Floats = total[None, :] - total[:, None]
        found[never[None, :] > never[:, None]] = math.inf
        found[np.tril_indices(self._grid, -1)] = math.inf
        return found

    def stage(self, target: int) -> Floats:
        """What a stage pays on a target beside its blocks: dispatch, entries and exits."""
        tables = self._tables
        costs = tables.problem.targets[target]
        entry, leave = costs.entry + costs.copy_in, costs.exit + costs.copy_out
        found = np.full((self._grid, self._grid), costs.dispatch_ms)
        if entry.fixed_ms or entry.ms_per_byte:
            found += self._entering(entry.fixed_ms + entry.ms_per_byte * self._nbytes)
        if leave.fixed_ms or leave.ms_per_byte:
            found += self._leaving(leave.fixed_ms + leave.ms_per_byte * self._nbytes)
        return found

    def transfers(self, device: int) -> Floats:
        """What comes in over links that have a queue, from any other device on average."""
        tables = self._tables
        net = tables.problem.network
        others = [d for d in range(len(tables.devices)) if d != device]
        ms = np.zeros(len(self._nbytes))
        for other in others:
            way = net.ways.get((other, device), NO_WAY)
            if way.queue < 0:
                continue
            one = way.fixed_ms + way.ms_per_byte * self._nbytes
            for value, own in tables.own_transfer_ms.items():
                one[value] = own
            ms += one / len(others)
        if tables.home < 0 or tables.home == device:
            ms[np.array(tables.maker) < 0] = 0.0
        if not ms.any():
            return np.zeros((self._grid, self._grid))
        return self._entering(ms)

    def _entering(self, ms: Floats) -> Floats:
        """By segment the sum over values that come into it."""
        diff = np.zeros((self._grid + 1, self._grid + 1))
        low, high = self._row
        cost = ms[self._value]
        np.add.at(diff, (low, high), cost)
        np.add.at(diff, (high, high), -cost)
        found: Floats = np.cumsum(np.cumsum(diff, axis=0), axis=1)[: self._grid, : self._grid]
        return found

    def _leaving(self, ms: Floats) -> Floats:
        """By segment the sum over values that are made in it and needed behind it."""
        diff = np.zeros((self._grid + 1, self._grid + 1))
        start = np.searchsorted(self.cuts, self._maker, "right")
        end = np.searchsorted(self.cuts, self._last, "right")
        cost = ms[self._made]
        zero = np.zeros_like(start)
        np.add.at(diff, (zero, start), cost)
        np.add.at(diff, (zero, end), -cost)
        np.add.at(diff, (start, start), -cost)
        np.add.at(diff, (start, end), cost)
        found: Floats = np.cumsum(np.cumsum(diff, axis=0), axis=1)[: self._grid, : self._grid]
        return found
