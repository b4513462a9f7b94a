"""Random problems with devices, of every kind the simulator knows, and random assignments."""

from __future__ import annotations

import random

from dioe.planning import (
    Allowed,
    Assigned,
    BlockNode,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    Problem,
    Tables,
    TargetCosts,
)
from dioe.types import Precision, Resources, Target

FP32, BF16 = Precision.FP32, Precision.BF16


def random_problem(
    rng: random.Random,
    *,
    count: int = 8,
    devices: int = 3,
    staged: bool = False,
    queues: bool = False,
    limited: bool = False,
) -> Problem:
    """A problem with several lanes, links with and without queues, a home, fixed edges, groups.

    ``staged``: with dispatch, entries, exits, copies, handovers, switches and two precisions a
    device; ``limited``: with memories, a number of stages and a latency."""
    names = [f"npu:{d}" for d in range(devices)]
    made: list[str] = []
    blocks = []
    inputs = ("x", "y")
    group_of = {i: f"g{rng.randrange(2)}" for i in range(count) if rng.random() < 0.2}
    for i in range(count):
        reads = rng.sample(made, min(len(made), rng.randrange(4)))
        reads += [name for name in inputs if rng.random() < 0.2]
        gives = {f"v{i}.{k}": rng.randrange(1, 9) for k in range(rng.choice((1, 1, 2)))}
        blocks.append(
            BlockNode(
                f"b{i}",
                "op",
                (f"op{i}",),
                {name: rng.randrange(1, 9) if name in inputs else 0 for name in reads},
                gives,
                rng.randrange(20),
                group_of.get(i, ""),
            )
        )
        made += gives
    sizes = {name: size for block in blocks for name, size in block.gives.items()}
    blocks = [
        BlockNode(
            b.id, b.kind, b.ops, {n: sizes.get(n, b.reads[n]) for n in b.reads}, b.gives,
            b.weight_bytes, b.group,
        )
        for b in blocks
    ]  # fmt: skip

    def ms() -> float:
        return rng.randrange(1, 24) / 4

    def line() -> Line:
        return Line(rng.randrange(3) / 4, rng.randrange(3) / 16) if staged else Line()

    targets = []
    for name in names:
        for precision in (FP32, BF16) if staged else (FP32,):
            threads = rng.choice((None, 2)) if staged else None
            targets.append(
                TargetCosts(
                    Target(name, "sim", (precision,)),
                    {b.id: Cost(ms()) for b in blocks if name == "npu:0" or rng.random() < 0.9},
                    Resources(threads=threads),
                    mixes=staged and rng.random() < 0.7,
                    dispatch_ms=ms() / 4 if staged else 0.0,
                    entry=line(),
                    exit=line(),
                    copy_in=line(),
                    copy_out=line(),
                    workspace_bytes={b.id: rng.randrange(9) for b in blocks[::3]},
                )
            )
    contexts = sorted({t.context for t in targets}, key=repr)
    handover = {
        (a, b): ms() / 4 for a in contexts for b in contexts if staged and rng.random() < 0.5
    }
    allowed = Allowed()
    if limited:
        together = [frozenset(names[:1]), frozenset(names[1:])]
        allowed = Allowed(
            tuple(together) if rng.random() < 0.3 else None,
            rng.choice((None, 3, count)),
            rng.choice((None, 10.0, 40.0)),
        )
    links = tuple(
        LinkCosts(
            a, b, Line(rng.randrange(4) / 4, rng.randrange(4) / 8),
            rng.choice(("bus", "", None)) if queues else None,
        )
        for a in names
        for b in names
        if a != b and rng.random() < 0.9
    )  # fmt: skip
    return Problem(
        tuple(blocks),
        tuple(targets),
        tuple(name for name in made if rng.random() < 0.2),
        inputs,
        handover,
        line(),
        tuple(
            DeviceNode(
                name,
                rng.choice((1, 1, 2, None)),
                rng.choice((None, 60, 120)) if limited else None,
                rng.randrange(1, 9),
                rng.randrange(2),
            )
            for name in names
        ),
        links,
        {name: ms() for name in made if rng.random() < 0.1},
        rng.choice(("", names[-1])),
        allowed,
    )


def random_order(tables: Tables, rng: random.Random) -> list[int]:
    """A topological order."""
    missing = [len(row) for row in tables.preds]
    ready = [i for i, count in enumerate(missing) if not count]
    order = []
    while ready:
        i = ready.pop(rng.randrange(len(ready)))
        order.append(i)
        for user, _ in tables.succs[i]:
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    return order


def random_assigned(tables: Tables, rng: random.Random) -> Assigned:
    """Any targets that run the blocks, any order, some cuts."""
    able = [[t for t, ms in enumerate(row) if ms < float("inf")] for row in tables.ms]
    targets = [rng.choice(row) for row in able]
    cuts = frozenset(i for i in range(tables.n) if rng.random() < 0.2)
    return Assigned(targets, random_order(tables, rng), cuts)
