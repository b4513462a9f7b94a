"""Random planning problems of every kind, and random placements on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import strategies as st

from dioe.planning import (
    Assigned,
    BlockNode,
    ContextKey,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    Placement,
    Problem,
    Schedule,
    Tables,
    TargetCosts,
    judged,
    placed,
    task_problem,
)
from dioe.types import Precision, Resources, Target

# In quarters: sums are exact, so that equal schedules have equal times.
times = st.integers(0, 24).map(lambda quarters: quarters / 4)
lines = st.builds(Line, times, times.map(lambda ms: ms / 8))
sizes = st.integers(0, 8)
FREE = Line()


@st.composite
def blocks_of(draw: st.DrawFn, most: int, *, groups: bool = True) -> tuple[BlockNode, ...]:
    """Blocks with values that several read, or none, and model inputs."""
    nodes: list[BlockNode] = []
    made: dict[str, int] = {}
    inputs = {"x": draw(sizes), "y": draw(sizes)}
    for i in range(draw(st.integers(1, most))):
        known = sorted(made)
        read = draw(st.lists(st.sampled_from(known), max_size=3, unique=True)) if known else []
        if not read or draw(st.integers(0, 5)) == 0:
            read = [*read, draw(st.sampled_from(("x", "y")))]
        gives = {f"v{i}.{k}": draw(sizes) for k in range(draw(st.integers(0, 2)))}
        group = draw(st.sampled_from(("", "", "", "g", "h"))) if groups else ""
        reads = {name: made[name] if name in made else inputs[name] for name in read}
        nodes.append(BlockNode(f"b{i}", "op", (f"o{i}",), reads, gives, draw(sizes), group))
        made |= gives
    return tuple(nodes)


@st.composite
def targets_of(
    draw: st.DrawFn, blocks: tuple[BlockNode, ...], devices: tuple[str, ...], *, staged: bool
) -> tuple[TargetCosts, ...]:
    """One or two targets on each device; the first runs every block."""
    found: list[TargetCosts] = []
    for device in devices:
        mixing = draw(st.booleans())
        for precision in (Precision.FP32, Precision.BF16)[: draw(st.integers(1, 2))]:
            able = [b.id for b in blocks if not found or draw(st.integers(0, 6))]
            room = {name: draw(sizes) for name in able if draw(st.integers(0, 3)) == 0}
            lined = draw(st.tuples(lines, lines, lines, lines)) if staged else (FREE,) * 4
            found.append(
                TargetCosts(
                    Target(device, "a" if mixing else draw(st.sampled_from("ab")), (precision,)),
                    {name: Cost(draw(times)) for name in able},
                    Resources(threads=draw(st.sampled_from((None, 1)))),
                    mixing,
                    draw(times) if staged else 0.0,
                    *lined,
                    weight_bytes={name: draw(sizes) for name in able if draw(st.booleans())},
                    workspace_bytes=room,
                )
            )
    return tuple(found)


@st.composite
def problems(draw: st.DrawFn, most: int = 7, *, devices: int = 3, limited: bool = True) -> Problem:
    """Any problem: with devices and links or on the caller's lane, with stages that cost or don't,
    shared buses, colocation, memory that may be too small, inputs that are at home."""
    lanes = draw(st.integers(0, 4)) > 0
    blocks = draw(blocks_of(most, groups=lanes))
    staged = draw(st.booleans())
    names = tuple(f"d:{i}" for i in range(draw(st.integers(1, devices))))
    targets = draw(targets_of(blocks, names, staged=staged))
    if limited and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(targets) - 1))
        tight = replace(targets[at], memory_bytes=draw(st.integers(1, 60)))
        targets = (*targets[:at], tight, *targets[at + 1 :])
    values = [value for block in blocks for value in block.gives]
    read = {value for block in blocks for value in block.reads}
    outputs = tuple(v for v in values if v not in read or draw(st.integers(0, 4)) == 0)
    handover: dict[tuple[ContextKey, ContextKey], float] = {}
    if staged:
        contexts = list(dict.fromkeys(t.context for t in targets))
        for a in contexts:
            handover |= {(a, b): draw(times) for b in contexts if draw(st.integers(0, 2)) == 0}
    nodes: tuple[DeviceNode, ...] = ()
    links: tuple[LinkCosts, ...] = ()
    edge_ms: Mapping[str, float] = {}
    if lanes:
        nodes = tuple(draw(devices_named(name, limited=limited)) for name in names)
        pairs = [(a, b) for a in names for b in names if a != b and draw(st.integers(0, 4))]
        queues = st.sampled_from(("", None, "bus"))
        links = tuple(LinkCosts(a, b, draw(lines), draw(queues)) for a, b in pairs)
        edge_ms = {v: draw(times) for v in values if draw(st.integers(0, 9)) == 0}
    return Problem(
        blocks,
        targets,
        outputs,
        ("x", "y"),
        handover,
        draw(lines) if staged else FREE,
        nodes,
        links,
        edge_ms,
        draw(st.sampled_from(("", *names))) if lanes else "",
    )


@st.composite
def devices_named(draw: st.DrawFn, name: str, *, limited: bool) -> DeviceNode:
    """A device with some lanes, and perhaps too little memory."""
    return DeviceNode(
        name,
        draw(st.sampled_from((1, 1, 2, 3, None))),
        draw(st.integers(1, 80)) if limited and draw(st.integers(0, 4)) == 0 else None,
        draw(times) + 1,
        draw(st.sampled_from((0.0, 0.5))),
    )


@st.composite
def placements(draw: st.DrawFn, problem: Problem) -> Placement:
    """Any placement, groups apart or not: blocks in a topological order on targets that run
    them."""
    tables = Tables(problem)
    ids = [block.id for block in problem.blocks]
    able = [[t for t, c in enumerate(problem.targets) if name in c.blocks] for name in ids]
    targets = [draw(st.sampled_from(each)) for each in able]
    waits = [len(preds) for preds in tables.preds]
    ready = [i for i, count in enumerate(waits) if not count]
    order = []
    while ready:
        i = ready.pop(draw(st.integers(0, len(ready) - 1)))
        order.append(i)
        for user, _ in tables.succs[i]:
            waits[user] -= 1
            if not waits[user]:
                ready.append(user)
    cuts = draw(st.frozensets(st.integers(0, tables.n - 1)))
    return placed(tables, Assigned(targets, order, cuts))


def scheduled(problem: Problem, placement: Placement, policy: str = "latency") -> Schedule:
    """A schedule of a placement, whatever it keeps."""
    found = judged(problem, placement, policy)
    return Schedule(problem, placement, found.simulation, policy, found.value, 0.0)


@st.composite
def task_problems(draw: st.DrawFn, most: int = 8, machines: int = 3) -> Problem:
    """Tasks on unrelated machines with edges that carry bytes."""
    count, wide = draw(st.integers(1, most)), draw(st.integers(1, machines))
    row = st.lists(times.map(lambda ms: ms + 0.25), min_size=wide, max_size=wide)
    edges: Mapping[tuple[int, int], int] = draw(
        st.dictionaries(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
                lambda pair: pair[0] < pair[1]
            ),
            sizes,
            max_size=2 * count,
        )
        if count > 1
        else st.just({})
    )
    return task_problem(
        draw(st.lists(row, min_size=count, max_size=count)),
        [(a, b, nbytes) for (a, b), nbytes in edges.items()],
        ms_per_byte=draw(times) / 8,
        latency_ms=draw(times) / 4,
        queue=draw(st.sampled_from(("", None, "bus"))),
    )
