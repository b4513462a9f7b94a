"""What is left of the memories while blocks are placed: weights, and groups that stay together."""

from __future__ import annotations

import math

from dioe.planning.tables import Tables


class Room:
    """Memory by device, in bytes, for the weights of blocks.

    The first block of a colocation group takes the whole group to its device: what the others need
    there at least is kept for them.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._left = list(tables.memory)
        self._placed: dict[int, int] = {}  # by the first block of a group: how many of it are
        self._device: dict[int, int] = {}  # and where
        self._needs: dict[tuple[int, int], float] = {}
        self._groups: dict[tuple[int, int], float] = {}

    @staticmethod
    def matters(tables: Tables) -> bool:
        """Whether there is a limit or a group."""
        return min(tables.memory) < math.inf or any(tables.peers)

    def leave_out(self, i: int, ends: list[float]) -> None:
        """Put inf where block i finds no room, or may not leave its group."""
        tables = self._tables
        peers = tables.peers[i]
        together = self._device.get(peers[0]) if peers else None
        for t, device in enumerate(tables.device_of):
            if ends[t] == math.inf:
                continue
            if together is None:
                # the others of a group need what they need at least
                more = self._group(peers, device) - self._least(i, device) if peers else 0.0
                fits = tables.weights[i][t] + more <= self._left[device]
            else:
                more = tables.weights[i][t] - self._least(i, device)
                fits = device == together and more <= self._left[device]
            if not fits:
                ends[t] = math.inf

    def take(self, i: int, t: int) -> None:
        """Block i is on target t."""
        tables = self._tables
        device = tables.device_of[t]
        peers = tables.peers[i]
        needed = tables.weights[i][t]
        if peers:
            first = peers[0]
            if not self._placed.get(first):
                self._device[first] = device
                self._placed[first] = 0
                self._left[device] -= self._group(peers, device)
            self._placed[first] += 1
            needed -= self._least(i, device)
        self._left[device] -= needed

    def give_back(self, i: int, t: int) -> None:
        """Undo ``take``."""
        tables = self._tables
        device = tables.device_of[t]
        peers = tables.peers[i]
        needed = tables.weights[i][t]
        if peers:
            first = peers[0]
            self._placed[first] -= 1
            needed -= self._least(i, device)
            if not self._placed[first]:
                del self._device[first]
                self._left[device] += self._group(peers, device)
        self._left[device] += needed

    def _group(self, peers: tuple[int, ...], device: int) -> float:
        """What a group needs at least on a device."""
        key = peers[0], device
        if key not in self._groups:
            self._groups[key] = sum(self._least(j, device) for j in peers)
        return self._groups[key]

    def _least(self, i: int, device: int) -> float:
        """The least that block i takes on a device, on any target where it can run."""
        key = i, device
        if key not in self._needs:
            tables = self._tables
            self._needs[key] = min(
                weight
                for t, weight in enumerate(tables.weights[i])
                if tables.device_of[t] == device and tables.ms[i][t] < math.inf
            )
        return self._needs[key]
