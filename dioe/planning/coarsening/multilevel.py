"""Multilevel placement: coarsen, search among the clusters, and refine on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dioe.planning.assigned import Assigned, placed
from dioe.planning.budget import Budget
from dioe.planning.coarsening.coarse import CoarseTables
from dioe.planning.coarsening.hierarchy import CLUSTERS, Hierarchy, hierarchy
from dioe.planning.coarsening.refine import Machine, Refiner
from dioe.planning.objective import judged
from dioe.planning.tables import Tables

Inner = Callable[[Tables, str, Budget, int], Assigned]
"""The search at the coarsest level: tables, policy, budget and seed."""

SEARCH_SHARE = 0.5
"""Of the budget: what the search among the clusters gets."""

MOST_PASSES = 3
"""Refinements of one level; the first that finds nothing is the last."""

_WORTH = 1e-3
"""A pass that gains a smaller share than this has found nothing."""


def multilevel(
    tables: Tables,
    policy: str,
    budget: Budget,
    seed: int,
    inner: Inner,
    *,
    count: int = CLUSTERS,
) -> Assigned:
    """Place about ``count`` clusters of blocks with ``inner``, then the blocks themselves.

    After G. Karypis, V. Kumar: "A fast and high quality multilevel scheme for partitioning
    irregular graphs", SIAM J. Sci. Comput. 20(1), 1998, with clusters that keep the graph acyclic
    (:mod:`dioe.planning.coarsening.clusters`). Never worse than what ``inner`` found, expanded; but
    that it keeps memory limits is only known when it has been judged.

    Raises what ``inner`` does.
    """
    levels = hierarchy(tables, count)
    coarse = CoarseTables(tables, levels.clusters)
    part = budget.part(SEARCH_SHARE)
    found = inner(coarse, policy, part, seed)
    budget.spend(part.work)
    expanded = coarse.expand(found)
    candidates = [expanded, *_refined(tables, policy, budget, levels, found, expanded)]
    if len(candidates) == 1:
        return expanded
    budget.spend(len(candidates))
    keys = [judged(tables.problem, placed(tables, each), policy).key for each in candidates]
    return candidates[keys.index(min(keys))]


def _refined(
    tables: Tables,
    policy: str,
    budget: Budget,
    levels: Hierarchy,
    found: Assigned,
    expanded: Assigned,
) -> Iterator[Assigned]:
    """What becomes of it on the way back, in the order of the clusters and in one of its own."""
    if policy not in ("latency", "throughput") or len(tables.devices) == 1:
        return
    machine = Machine.of(tables)
    targets = list(found.targets)
    refiner = None
    for level in range(len(levels.graphs) - 1, -1, -1):
        if level < len(levels.labels):
            targets = [targets[cluster] for cluster in levels.labels[level].tolist()]
        if budget.left_s == 0.0 and level:
            continue
        refiner = Refiner(levels.graphs[level], machine)
        targets = _passes(refiner, policy, targets)
    assert refiner is not None  # there is at least the level of the blocks
    if not tables.flat:
        yield Assigned(targets, expanded.order, expanded.cuts)
    yield Assigned(targets, refiner.order(refiner.tails(targets)))


def _passes(refiner: Refiner, policy: str, targets: list[int]) -> list[int]:
    """Passes over one level as long as they gain something."""
    if policy == "throughput":
        value = float("inf")
        for _ in range(MOST_PASSES):
            reached, targets = refiner.throughput(targets)
            if reached > value * (1 - _WORTH):
                break
            value = reached
        return targets
    value, _ = refiner.latency(targets, move=False)
    for _ in range(MOST_PASSES):
        _, moved = refiner.latency(targets)
        reached, _ = refiner.latency(moved, move=False)
        if reached > value * (1 - _WORTH):
            break
        value, targets = reached, moved
    return targets
