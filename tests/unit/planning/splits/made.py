"""Placement instances made by hand and at random, and every split of a small one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dioe.planning.splits import Instance, Split, judge, parse_instance

PUBLISHED = Path(__file__).parents[1] / "placement"


def content(
    nodes: Sequence[tuple[float, ...]],
    edges: Sequence[tuple[int, int, float]] = (),
    *,
    accelerators: int = 2,
    cpus: int = 1,
    memory: float = 100.0,
) -> dict[str, Any]:
    """What a file holds. A node is (CPU time, accelerator time, size, colour, supported), of which
    the last ones may be left out; ids are 1, 2, …, and edges name them."""
    listed = []
    for number, given in enumerate(nodes, 1):
        cpu, accelerator, size = (*given, 1.0)[:3] if len(given) < 3 else given[:3]
        node: dict[str, Any] = {
            "id": number,
            "supportedOnFpga": bool(given[4]) if len(given) > 4 else True,
            "cpuLatency": cpu,
            "fpgaLatency": accelerator,
            "size": size,
        }
        if len(given) > 3 and given[3] >= 0:
            node["colorClass"] = given[3]
        listed.append(node)
    return {
        "maxSizePerFPGA": memory,
        "maxFPGAs": accelerators,
        "maxCPUs": cpus,
        "nodes": listed,
        "edges": [{"sourceId": a, "destId": b, "cost": cost} for a, b, cost in edges],
    }


def made(
    nodes: Sequence[tuple[float, ...]],
    edges: Sequence[tuple[int, int, float]] = (),
    **limits: Any,
) -> Instance:
    """The instance of such a content."""
    return parse_instance(content(nodes, edges, **limits), "made")


def split_of(
    instance: Instance, accelerators: Sequence[Sequence[int]], *, cpus: int | None = None
) -> Split:
    """A split by ids; what no accelerator has is on the first CPU."""
    index = {node.id: position for position, node in enumerate(instance.nodes)}
    held = tuple(tuple(index[each] for each in ids) for ids in accelerators)
    on_accelerators = {node for nodes in held for node in nodes}
    rest = tuple(each for each in range(len(instance.nodes)) if each not in on_accelerators)
    count = instance.max_cpus if cpus is None else cpus
    return Split(cpus=(rest, *[()] * (count - 1)) if count else (), accelerators=held)


def every_split(instance: Instance) -> Iterator[Split]:
    """All splits that may be written, accelerators and CPUs in every role."""
    devices = instance.max_accelerators + instance.max_cpus
    for places in itertools.product(range(devices), repeat=len(instance.groups)):
        held: list[list[int]] = [[] for _ in range(devices)]
        for group, device in zip(instance.groups, places, strict=True):
            held[device] += group
        split = Split(
            cpus=tuple(map(tuple, held[instance.max_accelerators :])),
            accelerators=tuple(map(tuple, held[: instance.max_accelerators])),
        )
        if not judge(instance, split).faults:
            yield split


def layered(seed: int, nodes: int, *, colors: int = 0, **limits: Any) -> Instance:
    """A random graph with branches, weights that one node reads, and nodes no accelerator runs."""
    rng = random.Random(seed)
    listed: list[tuple[float, ...]] = []
    edges = []
    costs = [rng.uniform(0.1, 5) for _ in range(nodes)]
    for number in range(1, nodes + 1):
        time = rng.choice([0.0, rng.uniform(0.1, 5)])
        color = rng.randrange(colors) if rng.random() < 0.2 and colors else -1
        listed.append((10 * time, time, rng.uniform(0, 10), color, rng.random() > 0.05))
        readers = range(number + 1, min(nodes, number + 8) + 1)
        for reader in rng.sample(readers, min(len(readers), rng.randrange(3))):
            edges.append((number, reader, costs[number - 1]))
    return made(listed, edges, **limits)


@st.composite
def instances(draw: st.DrawFn, *, most_nodes: int = 6) -> Instance:
    """Small ones of every kind: colours, unsupported and zero-cost nodes, tight memory, no CPUs."""
    count = draw(st.integers(1, most_nodes))
    times = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    nodes = [
        (
            draw(times) * 4,
            draw(times),
            draw(st.sampled_from([0.0, 1.0, 2.0])),
            draw(st.sampled_from([-1, -1, 0, 1])),
            draw(st.booleans()) or draw(st.booleans()),
        )
        for _ in range(count)
    ]
    costs = [draw(st.sampled_from([0.0, 0.25, 2.0])) for _ in range(count)]
    pairs = [(a, b) for a in range(1, count + 1) for b in range(a + 1, count + 1)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=8)) if pairs else []
    return made(
        nodes,
        [(a, b, costs[a - 1]) for a, b in chosen],
        accelerators=draw(st.integers(0, 2)),
        cpus=draw(st.integers(1, 2)),
        memory=draw(st.sampled_from([2.0, 4.0, 100.0])),
    )
