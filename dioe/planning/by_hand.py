"""Problems made by hand: tasks with a time on each device, and what goes between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dioe.planning.problem import BlockNode, Cost, DeviceNode, Line, LinkCosts, Problem, TargetCosts
from dioe.types import Basis, InputError, Target

Matrix = Sequence[Sequence[float]] | np.ndarray[tuple[int, int], np.dtype[np.float64]]
Edge = tuple[int, int] | tuple[int, int, int]


def task_problem(
    durations_ms: Matrix,
    edges: Sequence[Edge] = (),
    *,
    edge_ms: Mapping[tuple[int, int], float] | None = None,
    ms_per_byte: float | Matrix = 0.0,
    latency_ms: float | Matrix = 0.0,
    queue: str | None = None,
    lanes: Sequence[int | None] | None = None,
    memory_bytes: Sequence[int | None] | None = None,
    weight_bytes: Sequence[int] | Mapping[int, int] = (),
    groups: Mapping[int, str] | None = None,
) -> Problem:
    """A problem of tasks on unrelated machines.

    Args:
        durations_ms: tasks by devices, in ms; inf where a task can't run.
        edges: source, destination and, if wanted, bytes; each edge carries a value of its own.
        edge_ms: what an edge takes between any two devices, instead of its bytes.
        ms_per_byte: of each link, one number or devices by devices.
        latency_ms: what each transfer takes besides, likewise.
        queue: "" where transfers of a link wait for each other, None where none waits.
        lanes: by device; 1 each where left out, None for any number.
        memory_bytes: by device; None for no limit.
        weight_bytes: by task.
        groups: colocation groups by task.

    Tasks are called ``t0``, ``t1``, …, devices ``machine:0``, ``machine:1``, …. Raises InputError
    for unknown tasks, edges in a circle and lists that aren't one by device, and ValueError for
    numbers that are no times.
    """
    ms = np.asarray(durations_ms, dtype=np.float64)
    if ms.ndim != 2 or 0 in ms.shape:
        raise InputError(
            f"durations of shape {ms.shape}", place="durations_ms", fix="tasks by devices"
        )
    count, devices = ms.shape
    preds: list[dict[str, int]] = [{} for _ in range(count)]
    gives: list[dict[str, int]] = [{} for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    costs = {}
    for edge in edges:
        source, destination = edge[0], edge[1]
        if not (0 <= source < count and 0 <= destination < count):
            raise InputError(f"no such tasks: {edge}", place="edges", fix=f"below {count}")
        value = f"t{source}>t{destination}"
        nbytes = edge[2] if len(edge) == 3 else 0
        preds[destination][value] = gives[source][value] = nbytes
        after[source].append(destination)
        if edge_ms is not None and (source, destination) in edge_ms:
            costs[value] = float(edge_ms[source, destination])
    weights = dict(weight_bytes if isinstance(weight_bytes, Mapping) else enumerate(weight_bytes))
    for what, given in (("weight_bytes", weights), ("groups", groups or {})):
        for task in given:
            if not 0 <= task < count:
                raise InputError(f"no such task: {task}", place=what, fix=f"below {count}")
    for what, by_device in (("lanes", lanes), ("memory_bytes", memory_bytes)):
        if by_device is not None and len(by_device) != devices:
            raise InputError(
                f"{len(by_device)} entries for {devices} devices", place=what, fix="one by device"
            )
    tasks = [f"t{i}" for i in range(count)]
    own_weights = {tasks[i]: size for i, size in weights.items()}
    nodes = tuple(
        BlockNode(
            tasks[i], "task", (tasks[i],), preds[i], gives[i],
            int(weights.get(i, 0)), (groups or {}).get(i, ""),
        )
        for i in _topological(after)
    )  # fmt: skip
    names = [f"machine:{d}" for d in range(devices)]
    targets = tuple(
        TargetCosts(
            Target(name, "task"),
            {
                task: Cost(value, Basis.DEFAULT)
                for task, value in zip(tasks, ms[:, d].tolist(), strict=True)
                if value != math.inf
            },
            weight_bytes=own_weights,
        )
        for d, name in enumerate(names)
    )
    per_byte = np.broadcast_to(np.asarray(ms_per_byte, np.float64), (devices, devices))
    latency = np.broadcast_to(np.asarray(latency_ms, np.float64), (devices, devices))
    return Problem(
        blocks=nodes,
        targets=targets,
        outputs=(),
        devices=tuple(
            DeviceNode(
                name,
                1 if lanes is None else lanes[d],
                None if memory_bytes is None else memory_bytes[d],
            )
            for d, name in enumerate(names)
        ),
        links=tuple(
            LinkCosts(names[a], names[b], Line(float(latency[a, b]), float(per_byte[a, b])), queue)
            for a in range(devices)
            for b in range(devices)
            if a != b
        ),
        edge_ms=costs,
    )


def _topological(after: Sequence[Sequence[int]]) -> list[int]:
    """An order of the tasks, of those that are ready the first one first; raises InputError."""
    missing = [0] * len(after)
    for users in after:
        for user in users:
            missing[user] += 1
    order = [i for i, count in enumerate(missing) if not count]
    for i in order:
        for user in after[i]:
            missing[user] -= 1
            if not missing[user]:
                order.append(user)
    if len(order) < len(after):
        left = next(i for i, count in enumerate(missing) if count)
        raise InputError(
            f"task {left} waits for itself", place="edges", fix="leave out an edge of the circle"
        )
    return order
