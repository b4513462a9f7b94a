"""Small changes of an assignment: blocks, runs of blocks and groups, order, cut points.

For every policy and every kind of problem: whatever a change makes of stages is left to the score.
Groups stay together, and the order stays topological.
"""

from __future__ import annotations

import math
import random

from dioe.planning.assigned import Assigned
from dioe.planning.tables import Tables


class Moves:
    """Random changes of assignments of one problem."""

    def __init__(self, tables: Tables, rng: random.Random) -> None:
        self._tables = tables
        self._rng = rng
        self._able = [[t for t, ms in enumerate(row) if ms < math.inf] for row in tables.ms]
        self._free = [i for i, row in enumerate(self._able) if len(row) > 1]
        self._near = [
            [p for p, _ in before] + [s for s, _ in after]
            for before, after in zip(tables.preds, tables.succs, strict=True)
        ]
        kinds = [self._order]
        weights = [2.0]
        if self._free:
            kinds += [self._retarget, self._join, self._segment, self._swap, self._order_too]
            weights += [3.0, 2.0, 2.0, 2.0, 2.0]
        if not tables.flat:
            kinds += [self._cut, self._order_next]
            weights += [1.0, 2.0]
        self._kinds = kinds
        self._weights = weights

    def any(self, assigned: Assigned) -> Assigned | None:
        """One change; None where the one that was drawn changes nothing."""
        return self._rng.choices(self._kinds, self._weights)[0](assigned)

    def _put(self, targets: list[int], block: int, target: int) -> bool:
        """A block, and what has to be with it, on a target; False if nothing changed."""
        if targets[block] == target or target not in self._able[block]:
            return False
        device_of = self._tables.device_of
        device = device_of[target]
        targets[block] = target
        for i in self._tables.peers[block]:
            if device_of[targets[i]] != device:
                able = [t for t in self._able[i] if device_of[t] == device]
                targets[i] = min(able, key=self._tables.ms[i].__getitem__)
        return True

    def _retarget(self, assigned: Assigned) -> Assigned | None:
        block = self._rng.choice(self._free)
        targets = list(assigned.targets)
        if not self._put(targets, block, self._rng.choice(self._able[block])):
            return None
        return assigned._replace(targets=targets)

    def _join(self, assigned: Assigned) -> Assigned | None:
        """A block to where one that it reads or that reads it is."""
        block = self._rng.choice(self._free)
        if not self._near[block]:
            return None
        targets = list(assigned.targets)
        if not self._put(targets, block, targets[self._rng.choice(self._near[block])]):
            return None
        return assigned._replace(targets=targets)

    def _segment(self, assigned: Assigned) -> Assigned | None:
        """A run of the order, often one that is on one target so far, to one target."""
        rng, order = self._rng, assigned.order
        targets = list(assigned.targets)
        a = rng.randrange(len(order))
        if rng.random() < 0.5:
            b = a
            while b < len(order) and targets[order[b]] == targets[order[a]]:
                b += 1
            while a and targets[order[a - 1]] == targets[order[b - 1]]:
                a -= 1
            if rng.random() < 0.5:  # a part of it: the cut point moves
                middle = rng.randrange(a, b)
                a, b = (a, middle + 1) if rng.random() < 0.5 else (middle, b)
        else:
            b = min(len(order), a + 1 + int(rng.expovariate(4.0 / (len(order) ** 0.5 + 4))))
        pool = self._able[order[a]]
        if rng.random() < 0.5:
            beside = [targets[order[k]] for k in (a - 1, b) if 0 <= k < len(order)]
            pool = beside or pool
        target = rng.choice(pool)
        changed = [self._put(targets, i, target) for i in order[a:b]]
        return assigned._replace(targets=targets) if any(changed) else None

    def _swap(self, assigned: Assigned) -> Assigned | None:
        """Two blocks change places."""
        a, b = self._rng.choice(self._free), self._rng.choice(self._free)
        targets = list(assigned.targets)
        old, new = targets[a], targets[b]
        if old == new or new not in self._able[a] or old not in self._able[b]:
            return None
        self._put(targets, a, new)
        self._put(targets, b, old)
        return assigned._replace(targets=targets)

    def _order(self, assigned: Assigned) -> Assigned | None:
        """A block earlier or later in the order, between what it reads and what reads it."""
        return self._shift(assigned, self._rng.randrange(self._tables.n))

    def _shift(self, assigned: Assigned, block: int) -> Assigned | None:
        tables, order = self._tables, assigned.order
        old = order.index(block)
        before = {p for p, _ in tables.preds[block]}
        behind = {s for s, _ in tables.succs[block]}
        low, high = old, old
        while low and order[low - 1] not in before:
            low -= 1
        while high + 1 < len(order) and order[high + 1] not in behind:
            high += 1
        new = self._rng.randint(low, high)
        if new == old:
            return None
        changed = order[:old] + order[old + 1 :]
        changed.insert(new, block)
        return assigned._replace(order=changed)

    def _order_too(self, assigned: Assigned) -> Assigned | None:
        """A block to another target and another place."""
        block = self._rng.choice(self._free)
        targets = list(assigned.targets)
        if not self._put(targets, block, self._rng.choice(self._able[block])):
            return None
        moved = assigned._replace(targets=targets)
        return self._shift(moved, block) or moved

    def _order_next(self, assigned: Assigned) -> Assigned | None:
        """A block right behind the last one before it on its target: stages grow together."""
        tables, order, targets = self._tables, assigned.order, assigned.targets
        old = self._rng.randrange(len(order))
        block = order[old]
        before = {p for p, _ in tables.preds[block]}
        new = old
        while new and order[new - 1] not in before:
            new -= 1
            if targets[order[new]] == targets[block] and new + 1 < old:
                new += 1
                break
        if new == old or (new and targets[order[new - 1]] != targets[block]):
            return None
        changed = order[:old] + order[old + 1 :]
        changed.insert(new, block)
        return assigned._replace(order=changed)

    def _cut(self, assigned: Assigned) -> Assigned | None:
        """A cut more or less, or one that moves to the next block."""
        rng = self._rng
        if not assigned.cuts or rng.random() < 0.3:
            return assigned._replace(cuts=assigned.cuts ^ {rng.randrange(self._tables.n)})
        cut = rng.choice(sorted(assigned.cuts))
        if rng.random() < 0.5:
            return assigned._replace(cuts=assigned.cuts - {cut})
        order = assigned.order
        at = order.index(cut) + rng.choice((-1, 1))
        if not 0 <= at < len(order):
            return None
        return assigned._replace(cuts=(assigned.cuts - {cut}) | {order[at]})
