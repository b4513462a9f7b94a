"""Placing blocks: exact dynamic programming over the segments of block orders, for one lane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dioe.planning.memory import (
    fits,
    overfull,
    overfull_devices,
    priced,
    sizes,
    value_bytes,
    weight_bytes,
)
from dioe.planning.orders import Order, block_orders
from dioe.planning.problem import Problem
from dioe.planning.segments import Costs, Penalties, Segments
from dioe.planning.simulator import PlacedStage, Placement, simulate
from dioe.types import UnsupportedError

_PRICES = 20
_FIRST_PRICE = 0.05
_PRICE_RISE = 1.6
"""How often memory gets a price, or another; at first what all of it is worth, of what the plan
takes that doesn't fit; and what it rises by."""

_LOOKS = 8
"""Placements that ``cheapest`` looks at where memory is limited."""

MAX_COUNT = 4
"""Up to this number of stages, ``place`` gives the best placement for each number."""


def place(
    problem: Problem,
    *,
    most: int = 8,
    max_stages: int | None = None,
    penalty: Penalties | None = None,
    orders: Sequence[Order] | None = None,
) -> list[Placement]:
    """Good placements, best first: the ``most`` best, and beside them the best for each number of
    stages up to ``MAX_COUNT`` and the best single stage of each group of targets that share one.

    Placements differ in where stages begin and in their groups of targets; each has its best
    precisions within. ``penalty`` adds ms to (block id, index of its target), inf forbids it; it
    counts for the order, not in ``predicted_ms``. ``orders`` are those of ``block_orders`` if left
    out.

    Guaranteed, while no more than 8 blocks with two precisions are live (read later in the stage)
    at once, see ``Segments``: the first is the best of all placements whose stages are runs of one
    of the orders, so never worse than any single stage. Where ``block_orders`` gives every
    topological order (``MAX_ORDERS``; a chain has one) these are all placements on one lane whose
    stages are convex and don't wait for each other in a circle.

    Where a value stays in a device's memory for a later stage there, the copies that this spares
    are taken off only when placements have been found: one that is the best for them may be missed.
    Stages that need more memory than their device has are no stages, and several of one device
    that together do are left out (``dioe.planning.memory``). Where that leaves the best one out, a
    rising price on the memory of such devices leads to others (Lagrangian relaxation), of which one
    that is better may be missed.

    Raises UnsupportedError naming a block that no target runs (or may run), or if no placement
    has at most ``max_stages`` stages and fits.
    """
    penalty = penalty or {}
    check_placeable(problem, penalty)
    orders = orders or block_orders(problem)
    searches = [_Search(problem, order, penalty) for order in orders]
    first = _found(searches, most, max_stages)
    chosen = {each: None for each in first if fits(problem, each)}
    for each in _at_a_price(problem, orders, penalty, first, max_stages):
        chosen.setdefault(each)
    if not chosen:
        fewest = None if max_stages is None else _fewest(searches)
        if fewest is None or max_stages is None or fewest <= max_stages:
            raise too_few_stages(None)  # it is memory then that keeps them out
        raise too_few_stages(max_stages, fewest)

    def cost_ms(placement: Placement) -> float:
        added_ms = sum(penalty.get(key, 0.0) for key in placement.targets.items())
        return round((placement.predicted_ms or 0.0) + added_ms, 6)

    return sorted(chosen, key=cost_ms)


def _found(searches: Iterable[_Search], most: int, max_stages: int | None) -> list[Placement]:
    """What the searches find, the best first, whether it fits into memories or not."""
    found: list[_Found] = []
    for search in searches:
        found += search.best(most, max_stages)
        found += search.by_count(min(max_stages or MAX_COUNT, MAX_COUNT))
        found += search.singles()
    return [each.placed()[0] for each in _select(sorted(found), most)]


def _at_a_price(
    problem: Problem,
    orders: Sequence[Order],
    penalty: Penalties,
    placements: Sequence[Placement],
    max_stages: int | None,
) -> Iterator[Placement]:
    """Placements that fit where the best of those given doesn't: the memory of its overfull devices
    has a price, which rises until the best fits."""
    price: dict[str, float] = {}
    for _ in range(_PRICES):
        full = overfull_devices(problem, placements[0].targets) if placements else []
        if not full:
            return
        worth_ms = placements[0].predicted_ms or 1.0
        for device in full:
            least = _FIRST_PRICE * worth_ms / max(sizes(problem)[device], 1)
            price[device] = max(least, _PRICE_RISE * price.get(device, 0.0))
        costly = priced(problem, penalty, price)
        searches = (_Search(problem, order, costly) for order in orders)
        placements = _found(searches, MAX_COUNT, max_stages)
        yield from (each for each in placements if fits(problem, each))


def cheapest(
    problem: Problem, orders: Sequence[Order], penalty: Penalties, max_stages: int | None = None
) -> Placement | None:
    """The first of ``place`` alone, in less time; None if there is none, or where memory is limited
    and the ``_LOOKS`` best of no order fit."""
    limited = any(target.memory_bytes is not None for target in problem.targets)
    most = _LOOKS if limited else 1
    found = [
        each for order in orders for each in _Search(problem, order, penalty).best(most, max_stages)
    ]
    placements = (each.placed()[0] for each in sorted(found))
    return next((placement for placement in placements if fits(problem, placement)), None)


def single_stage(problem: Problem, target: int) -> Placement | None:
    """Everything on one target (by index) in one stage; None if it can't run it all."""
    ids = tuple(block.id for block in problem.blocks)
    if any(block not in problem.targets[target].blocks for block in ids):
        return None
    placement = Placement((PlacedStage(ids, (target,) * len(ids)),))
    return replace(placement, predicted_ms=simulate(problem, placement).total_ms)


def varied(placements: Iterable[Placement]) -> list[Placement]:
    """The first of each sequence of targets: the k best often differ only in where
    a stage ends, which is not worth a compilation."""
    first: dict[object, Placement] = {}
    for placement in placements:
        kinds = tuple(frozenset(stage.targets) for stage in placement.stages)
        first.setdefault(kinds, placement)
    return list(first.values())


def check_placeable(problem: Problem, penalty: Penalties) -> None:
    """Raise UnsupportedError naming the first block that no target runs, or may run."""
    limits = sizes(problem)
    room = [limits.get(target.target.device, math.inf) for target in problem.targets]
    for block in problem.blocks:
        able = [
            i
            for i, target in enumerate(problem.targets)
            if block.id in target.blocks
            and (
                room[i] == math.inf
                or weight_bytes(target, block) + value_bytes(target, block) <= room[i]
            )
        ]
        if all(penalty.get((block.id, i), 0.0) == math.inf for i in able):
            ops = ", ".join(block.ops[:3]) + (", …" if len(block.ops) > 3 else "")
            full = [
                overfull(problem, {block.id: i})
                for i, target in enumerate(problem.targets)
                if block.id in target.blocks
            ]
            if full and not able:
                raise UnsupportedError(
                    f"no target has the memory for it: {'; '.join(dict.fromkeys(full))}",
                    place=f"block {block.id} ({block.kind})",
                    fix="raise the limit, or add a device",
                )
            raise UnsupportedError(
                f"no target {'may run it' if able else 'can run it'} (ops {ops})",
                place=f"block {block.id} ({block.kind})",
                fix="`dioe inspect MODEL` shows which ops each target refuses and why",
            )


def too_few_stages(max_stages: int | None, fewest: int | None = None) -> UnsupportedError:
    """The error of a problem that needs more stages than it may have, ``fewest`` at the least; of
    one that doesn't fit anywhere if there is no such limit."""
    if max_stages is None:
        return UnsupportedError(
            "no plan fits into the memories of its devices",
            place="planning",
            fix="allow more devices, or lower precision",
        )
    need = "" if fewest is None else f": {fewest} are needed at least"
    return UnsupportedError(
        f"no plan has at most {max_stages} stage{'' if max_stages == 1 else 's'}{need}",
        place="planning",
        fix="allow more stages, or more targets",
    )


def _fewest(searches: Sequence[_Search]) -> int | None:
    """The least number of stages of any placement, device memories taken stage by stage."""
    counts = [count for count in (search.fewest() for search in searches) if count is not None]
    return min(counts, default=None)


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    """A segmentation: its cost to the nanosecond, penalties included; with fewer stages first."""

    cost_ms: float
    segments: tuple[tuple[int, int, int], ...] = field(compare=False)  # start, end, group
    count: int
    search: _Search = field(compare=False)

    @classmethod
    def of(
        cls, cost_ms: float, segments: Iterable[tuple[int, int, int]], search: _Search
    ) -> _Found:
        segments = tuple(segments)
        return cls(round(float(cost_ms), 6), segments, len(segments), search)

    @property
    def cut(self) -> tuple[tuple[frozenset[int], int], ...]:
        """The blocks (by position) and the group of each stage, whatever the order."""
        order = self.search.order
        return tuple((frozenset(order[start:end]), group) for start, end, group in self.segments)

    def placed(self) -> tuple[Placement, float]:
        """As stages, and the copies (in ms) that their common memories spare."""
        return self.search.placed(self.segments)


def _select(found: Sequence[_Found], most: int) -> list[_Found]:
    """The ``most`` first, the first of each number of stages up to ``MAX_COUNT``, and the first
    single stage of each group; none twice."""
    chosen: list[_Found] = []
    seen: set[object] = set()
    kinds: set[object] = set()
    for each in found:
        kind: set[object] = {each.count} if each.count <= MAX_COUNT else set()
        if each.count == 1:
            kind.add(("single", each.segments[0][2]))
        if len(chosen) >= most and kind <= kinds:
            continue
        if each.cut not in seen:
            seen.add(each.cut)
            chosen.append(each)
        kinds |= kind
    return chosen


@dataclass(slots=True)
class _Layer:
    """Least costs of placing the first blocks of an order, the ``keep`` best by (end, group).

    ``came`` is the start of the last segment and the rank there of what lies before; ``entry`` is
    the least cost of coming to a segment of a group at a start, handover paid, and ``left`` the
    group and rank before it.
    """

    cost: Costs
    came: np.ndarray[Any, np.dtype[np.int64]]
    entry: Costs
    left: np.ndarray[Any, np.dtype[np.int64]]


class _Search:
    """The dynamic programme over the segments of one order."""

    def __init__(self, problem: Problem, order: Order, penalty: Penalties) -> None:
        self._problem = problem
        self.order = order
        groups = problem.groups
        self._segments = [Segments(problem, order, group, penalty) for group in groups]
        self._handover = np.array(
            [[problem.handover_ms(a[0], b[0]) for b in groups] for a in groups]
        )
        self._targets: dict[tuple[int, int, int], tuple[int, ...]] = {}

    def best(self, most: int, max_stages: int | None) -> Iterator[_Found]:
        """The ``most`` best segmentations, of at most ``max_stages`` segments."""
        if max_stages is None:
            yield from self._ends([self._layer(most, None, endless=True)], most)
        else:
            layers = self._layers(most, max_stages)
            for count in range(1, len(layers) + 1):
                yield from self._ends(layers[:count], most)

    def by_count(self, most: int) -> Iterator[_Found]:
        """The best segmentation for each number of segments up to ``most``."""
        layers = self._layers(1, most)
        for count in range(1, len(layers) + 1):
            yield from self._ends(layers[:count], 1)

    def fewest(self) -> int | None:
        """The least number of segments; None if there is no segmentation."""
        segments = np.isfinite(np.array([s.ms for s in self._segments])).any(axis=0)
        reached, count = {0}, 0
        seen = set(reached)
        end = len(self.order)
        while reached and end not in reached:
            # the handover of any two contexts is finite
            reached = {int(e) for s in reached for e in np.flatnonzero(segments[s])} - seen
            seen |= reached
            count += 1
        return count if reached else None

    def singles(self) -> Iterator[_Found]:
        """The best single segment of each group."""
        count = len(self.order)
        for group, segments in enumerate(self._segments):
            if math.isfinite(segments.ms[0, count]):
                yield _Found.of(segments.ms[0, count], [(0, count, group)], self)

    def placed(self, segments: Sequence[tuple[int, int, int]]) -> tuple[Placement, float]:
        """The segmentation as stages, with the simulator's figure; and the copies spared in it."""
        placement = Placement(tuple(self._stage(*segment) for segment in segments))
        simulation = simulate(self._problem, placement)
        return replace(placement, predicted_ms=simulation.total_ms), simulation.spared_ms

    def _stage(self, start: int, end: int, group: int) -> PlacedStage:
        key = (start, end, group)
        if key not in self._targets:
            self._targets[key] = self._segments[group].targets(start, end)
        blocks = tuple(self._problem.blocks[i].id for i in self.order[start:end])
        return PlacedStage(blocks, self._targets[key])

    def _layers(self, keep: int, most: int) -> list[_Layer]:
        """Layer by layer one segment more, up to ``most`` or one a block."""
        layers: list[_Layer] = []
        for _ in range(min(most, len(self.order))):
            layers.append(self._layer(keep, layers[-1] if layers else None))
        return layers

    def _layer(self, keep: int, previous: _Layer | None, *, endless: bool = False) -> _Layer:
        """Segmentations with one segment more than ``previous``; ``endless``: with any number."""
        count, groups = len(self.order), len(self._segments)
        layer = _Layer(
            cost=np.full((count + 1, groups, keep), math.inf),
            came=np.zeros((count + 1, groups, keep, 2), np.int64),
            entry=np.full((count + 1, groups, keep), math.inf),
            left=np.zeros((count + 1, groups, keep, 2), np.int64),
        )
        if previous is None:
            layer.entry[0, :, 0] = 0.0
        before = layer if endless else previous
        for end in range(1, count + 1):
            for group, segments in enumerate(self._segments):
                costs = layer.entry[:end, group] + segments.ms[:end, end, None]
                _keep_least(costs, layer.cost[end, group], layer.came[end, group])
            if before is not None:
                arrivals = before.cost[end][:, :, None] + self._handover[:, None, :]
                for group in range(groups):
                    costs = arrivals[:, :, group]
                    _keep_least(costs, layer.entry[end, group], layer.left[end, group])
        return layer

    def _ends(self, layers: Sequence[_Layer], most: int) -> Iterator[_Found]:
        """The ``most`` best segmentations of the whole order that the last layer has."""
        last = layers[-1].cost[-1]
        for flat in np.argsort(last, axis=None, kind="stable")[:most]:
            group, rank = divmod(int(flat), last.shape[1])
            if math.isfinite(last[group, rank]):
                yield _Found.of(last[group, rank], self._trace(layers, group, rank), self)

    def _trace(
        self, layers: Sequence[_Layer], group: int, rank: int
    ) -> Sequence[tuple[int, int, int]]:
        segments = []
        end, depth = len(self.order), len(layers) - 1
        while True:
            layer = layers[max(depth, 0)]
            start, rank = map(int, layer.came[end, group, rank])
            segments.append((start, end, group))
            if start == 0:
                return segments[::-1]
            group, rank = map(int, layer.left[start, group, rank])
            end, depth = start, depth - 1


def _keep_least(costs: Costs, kept: Costs, where: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Write the least of a matrix of costs, ascending, into ``kept``, and where they were found."""
    flat = costs.ravel()
    most = min(len(kept), flat.size)
    chosen = np.argsort(flat, kind="stable")[:most] if most > 1 else np.array([flat.argmin()])
    kept[:most] = flat[chosen]
    where[:most, 0], where[:most, 1] = np.divmod(chosen, costs.shape[1])
