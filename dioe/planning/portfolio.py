"""What is tried before anything is searched: a hint, every device by itself, every scheduler.

No answer of ``solve`` is worse than the best of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dioe.planning.assigned import Assigned, assigned_of
from dioe.planning.problem import Problem
from dioe.planning.schedulers import SCHEDULERS, SPECIAL, contiguous
from dioe.planning.search.decode import decode, upward_ranks
from dioe.planning.simulator import PlacedStage, Placement
from dioe.planning.tables import Tables
from dioe.planning.within import place_within
from dioe.types import UnsupportedError

QUICK = ("heft", "contiguous")
"""Schedulers for many thousand blocks."""


def portfolio(
    tables: Tables,
    hint: Placement | None = None,
    policy: str = "latency",
    *,
    few: bool = False,
) -> Iterator[tuple[str, Assigned]]:
    """Assignments by the name of what found them; groups are kept in all of them. ``few`` leaves
    out the schedulers that take long for many thousand blocks."""
    if hint is not None:
        yield "hint", assigned_of(tables, hint)
    yield from single_devices(tables)
    if not (tables.problem.devices or few):
        yield from _on_one_lane(tables)
    schedulers = {**SCHEDULERS, **SPECIAL.get(policy, {})}
    if not (tables.flat or few):  # what few long stages cost, no list scheduler knows
        schedulers["contiguous"] = contiguous
    for name, scheduler in schedulers.items():
        if few and name not in QUICK:
            continue
        found = scheduler(tables)
        if found is not None:
            yield name, found
    ranked = None if few else decode(tables, upward_ranks(tables))
    if ranked is not None:
        yield "list", ranked


def keeps_groups(problem: Problem, placement: Placement) -> bool:
    """Whether each colocation group is on one device."""
    targets = placement.targets
    device: dict[str, str] = {}
    for block in problem.blocks:
        if block.group and block.id in targets:
            own = problem.targets[targets[block.id]].target.device
            if device.setdefault(block.group, own) != own:
                return False
    return True


def single_devices(tables: Tables) -> Iterator[tuple[str, Assigned]]:
    """For each device that runs everything, each block on its fastest target there; and every
    target by itself."""
    order = list(range(tables.n))
    for device, name in enumerate(tables.devices):
        own = [t for t in range(tables.m) if tables.device_of[t] == device]
        targets = [min(own, key=row.__getitem__) if own else -1 for row in tables.ms]
        if own and all(row[t] < math.inf for row, t in zip(tables.ms, targets, strict=True)):
            yield f"all on {name}", Assigned(targets, order)
        for t in own if len(own) > 1 else ():
            if all(row[t] < math.inf for row in tables.ms):
                yield f"all on {tables.problem.targets[t].target}", Assigned([t] * tables.n, order)


def one_stages(tables: Tables, policy: str) -> Iterator[tuple[str, Placement]]:
    """Everything as one stage, on each target that runs it all: one block after the other, where
    blocks as stages of their own may run at the same time, or send values earlier, and so need more
    memory."""
    if not tables.flat:
        return
    if policy != "memory" and all(size == math.inf for size in tables.memory):
        return
    ids = tuple(block.id for block in tables.problem.blocks)
    for t, costs in enumerate(tables.problem.targets):
        if all(row[t] < math.inf for row in tables.ms):
            stage = PlacedStage(ids, (t,) * tables.n)
            yield f"all on {costs.target}, one by one", Placement((stage,))


def _on_one_lane(tables: Tables) -> Iterator[tuple[str, Assigned]]:
    """The exact segmentation of a problem that runs on its caller's lane."""
    problem = tables.problem
    try:
        found = place_within(problem, allowed=problem.allowed)
    except UnsupportedError:
        return  # nothing keeps its limits: what fails by how much is judged on the others
    for placement in found:
        yield "chain", assigned_of(tables, placement)
