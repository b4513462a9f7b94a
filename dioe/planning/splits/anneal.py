"""Simulated annealing of one state (Kirkpatrick, Gelatt and Vecchi, Science 220, 1983)."""

from __future__ import annotations

import itertools
import math
import random
import time

from dioe.planning.splits.moves import Moves
from dioe.planning.splits.objectives import Objective
from dioe.planning.splits.starts import Place
from dioe.planning.splits.state import State

_REBUILD_EVERY = 2000
"""Moves after which the rounding errors that they left in the loads are taken out."""

_DECISIVE_EVERY = 100
"""Proposals after which the nodes that the objective depends on are looked up again."""

_COLD = 1e-4
"""The last temperature, as a share of the objective at the start."""

_LEAST = 1e-9
"""Scale of temperatures where everything takes no time."""

_NO_PROPOSAL = 0.125
"""What a proposal without a change counts for, beside a move that was tried."""


class Budget:
    """What may be spent: seconds, moves tried, or whichever is first."""

    def __init__(self, *, seconds: float = math.inf, moves: float = math.inf):
        self._seconds, self._moves = max(seconds, 1e-9), max(moves, 1e-9)
        self._begin = time.monotonic()
        self.used = 0.0
        """Moves so far."""

    def spent(self) -> float:
        """The share that is spent; 1 or more: no more."""
        share = self.used / self._moves
        if self._seconds != math.inf:  # where work limits it, the clock may not change the answer
            share = max(share, (time.monotonic() - self._begin) / self._seconds)
        return share


class Annealing:
    """A search from one place: ``best`` is the least value seen, at ``best_place``."""

    def __init__(
        self, state: State, objective: Objective, rng: random.Random, limit_bytes: float
    ) -> None:
        """``state`` is one that may be written. ``limit_bytes`` is the memory of an accelerator."""
        self.state, self.objective, self.rng = state, objective, rng
        self.limit_bytes = limit_bytes
        self.moves = Moves(state, rng, limit_bytes)
        self.best = self.best_guide = self._guide = math.inf
        self.best_place: Place = state.place.copy()
        self._weigh()

    def restart(self, place: Place) -> None:
        """Go on from another place."""
        self.state.place = list(place)
        self.state.rebuild()
        self._weigh()

    def _weigh(self) -> None:
        found = self.objective.weigh(self.state, math.inf)
        if found is not None:
            self._keep(*found)

    def _keep(self, value: float, guide: float) -> None:
        """The state is one to go on from."""
        self._guide = guide
        if value < self.best or (value == self.best and guide < self.best_guide):
            self.best, self.best_guide = value, guide
            self.best_place = self.state.place.copy()

    def try_all(self) -> None:
        """Try every place, for problems with few."""
        state = self.state
        groups, self._guide = state.instance.groups, math.inf
        devices = range(state.accelerators + state.cpus)
        for places in itertools.product(devices, repeat=len(groups)):
            changes = [
                (node, to)
                for group, to in zip(groups, places, strict=True)
                if state.place[group[0]] != to
                and (to >= state.accelerators or self.moves.supported(group))
                for node in group
            ]
            self._try(changes, math.inf)

    def run(self, budget: Budget, until: float, hot: float, *, enough: float = -math.inf) -> None:
        """Anneal until the budget's share ``until`` is spent, from the temperature ``hot`` (a share
        of the objective) on; earlier once a value of ``enough`` is found."""
        begin = budget.spent()
        scale, cooling = max(self._guide, _LEAST), math.log(_COLD / hot)
        proposed = 0
        while self.best > enough:
            spent = budget.spent()
            if spent >= until:
                break
            temperature = scale * hot * math.exp(cooling * (spent - begin) / (until - begin))
            proposed += 1
            changes = self.moves.propose()
            if not changes:
                budget.used += _NO_PROPOSAL
                continue
            budget.used += 1
            self._try(changes, temperature)
            if proposed % _REBUILD_EVERY == 0:
                self.state.rebuild()
            if proposed % _DECISIVE_EVERY == 1:
                self.moves.decisive = self.objective.decisive(self.state)

    def _try(self, changes: list[tuple[int, int]], temperature: float) -> None:
        """Make the changes, or not."""
        state = self.state
        place = state.place
        undo = [(node, place[node]) for node, _ in changes]
        for node, to in changes:
            state.move(node, to)
        found = None
        if all(size <= self.limit_bytes for size in state.size[: state.accelerators]):
            # Metropolis' rule, its chance drawn first: what is worse by more needn't be weighed
            worse = -math.log(1.0 - self.rng.random()) * temperature
            found = self.objective.weigh(state, self._guide + worse)
        if found is None:
            for node, to in reversed(undo):
                state.move(node, to)
        else:
            self._keep(*found)
