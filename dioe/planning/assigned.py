"""What a scheduler decides: a target for each block and an order; and the stages that follow."""

from __future__ import annotations

from typing import NamedTuple

from dioe.planning.simulator import PlacedStage, Placement
from dioe.planning.tables import Tables


class Assigned(NamedTuple):
    """``targets`` by block, and ``order``, a topological order in which lanes take blocks; both by
    the numbers of ``Tables``. Blocks in ``cuts`` start a stage of their own."""

    targets: list[int]
    order: list[int]
    cuts: frozenset[int] = frozenset()


def placed(tables: Tables, assigned: Assigned) -> Placement:
    """The stages of what was assigned.

    Where stages cost nothing each block is one. Else a block joins the last stage on its device if
    the two may share one, nothing it reads was made in a later stage, and no cut says otherwise: so
    the stages stay in a topological order.
    """
    ids = [block.id for block in tables.problem.blocks]
    if tables.flat:
        return Placement(
            tuple(PlacedStage((ids[i],), (assigned.targets[i],)) for i in assigned.order)
        )
    stages: list[list[int]] = []
    last: dict[int, int] = {}  # by device
    stage_of = [-1] * tables.n
    for i in assigned.order:
        target = assigned.targets[i]
        device = tables.device_of[target]
        at = last.get(device, -1)
        joins = (
            at >= 0
            and i not in assigned.cuts
            and tables.group_of[assigned.targets[stages[at][0]]] == tables.group_of[target]
            and all(stage_of[p] <= at for p, _ in tables.preds[i])
        )
        if not joins:
            at = len(stages)
            stages.append([])
            last[device] = at
        stages[at].append(i)
        stage_of[i] = at
    return Placement(
        tuple(
            PlacedStage(tuple(ids[i] for i in stage), tuple(assigned.targets[i] for i in stage))
            for stage in stages
        )
    )


def assigned_of(tables: Tables, placement: Placement) -> Assigned:
    """The same decision, taken from a placement: its stages start with cuts."""
    positions = tables.problem.positions
    targets = [-1] * tables.n
    order: list[int] = []
    cuts = set()
    for stage in placement.stages:
        members = [positions[name] for name in stage.blocks]
        cuts.add(members[0])
        for i, target in zip(members, stage.targets, strict=True):
            targets[i] = target
        order += members
    return Assigned(targets, order, frozenset() if tables.flat else frozenset(cuts))
