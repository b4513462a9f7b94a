"""Multilevel placement: coarsen, search among the clusters, and refine on the way back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from dioe.planning.assigned import Assigned
from dioe.planning.budget import Budget
from dioe.planning.coarsening.coarse import CoarseTables
from dioe.planning.coarsening.hierarchy import CLUSTERS, Hierarchy, hierarchy
from dioe.planning.coarsening.refine import Machine, Pass, Refiner
from dioe.planning.fast import Fast
from dioe.planning.tables import Tables

Inner = Callable[[Tables, str, Budget, int], Assigned]
"""The search at the coarsest level: tables, policy, budget and seed."""

SEARCH_SHARE = 0.5
"""Of the budget: what the search among the clusters gets."""

MOST_PASSES = 2
"""Refinements of one level; the first that finds nothing is the last."""

_FAR = 1.3
"""Levels that are left gain less than that."""

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
    found = list(multilevel_answers(tables, policy, budget, seed, inner, count=count))
    if len(found) == 1:
        return found[0]
    budget.spend(len(found))
    return min(found, key=Fast(tables, policy).key)


def multilevel_answers(
    tables: Tables,
    policy: str,
    budget: Budget,
    seed: int,
    inner: Inner,
    *,
    count: int = CLUSTERS,
    known: float = math.inf,
) -> Iterator[Assigned]:
    """The answers among which ``multilevel`` chooses: what ``inner`` found, expanded; and what
    became of it by refinement, in the same order of blocks and in one of its own.

    ``known`` is a value that others have reached: refinement is given up where it is far from it.
    """
    levels = hierarchy(tables, count)
    coarse = CoarseTables(tables, levels.clusters)
    part = budget.part(SEARCH_SHARE)
    found = inner(coarse, policy, part, seed)
    budget.spend(part.work)
    expanded = coarse.expand(found)
    yield expanded
    yield from _refined(tables, policy, budget, levels, found, expanded, known)


def _refined(
    tables: Tables,
    policy: str,
    budget: Budget,
    levels: Hierarchy,
    found: Assigned,
    expanded: Assigned,
    known: float,
) -> Iterator[Assigned]:
    """What becomes of it on the way back."""
    if policy not in ("latency", "throughput") or len(tables.devices) == 1:
        return
    machine = Machine.of(tables)
    best = Pass(math.inf, list(found.targets), [])
    for level in range(len(levels.graphs) - 1, -1, -1):
        targets = best.targets
        if level < len(levels.labels):
            targets = [targets[cluster] for cluster in levels.labels[level].tolist()]
        best = Pass(best.value, targets, [])
        if level and budget.left_s == 0.0:
            continue
        best = _passes(Refiner(levels.graphs[level], machine), policy, best)
        if level and best.value > known * _FAR:
            return
    if not tables.flat:
        yield Assigned(best.targets, expanded.order, expanded.cuts)
    yield Assigned(best.targets, best.order)


def _passes(refiner: Refiner, policy: str, best: Pass) -> Pass:
    """Passes over one level as long as they gain something over the level before; what it was worth
    there is close to what it is worth here."""
    one = refiner.throughput if policy == "throughput" else refiner.latency
    for _ in range(MOST_PASSES):
        found = one(best.targets)
        worth = found.value <= best.value * (1 - _WORTH)
        if found.value < best.value:
            best = found
        if not worth:
            break
    if best.order:
        return best
    if policy == "throughput":
        return Pass(best.value, best.targets, list(range(len(best.targets))))
    return refiner.latency(best.targets, move=False)
