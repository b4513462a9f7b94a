"""Scheduling problems from a seed: the same ones every time, on every machine.

Times in ms. Transfers of one link don't wait for each other, as in the papers of the schedulers
that are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dioe.planning import Problem, task_problem

Rng = np.random.Generator
Pairs = list[tuple[int, int]]
MEAN_MS = 20.0
"""The mean time of a task."""


# --- shapes: who reads from whom; the first task is 0 and edges go up ---------------------------


def layered(rng: Rng, count: int) -> Pairs:
    """Layers of about as many tasks as there are layers, each task with one to three edges from the
    layer before."""
    height = max(2, round(count**0.5 * rng.uniform(0.7, 1.4)))
    layer = np.sort(rng.integers(0, height, count))
    found = set()
    for i in range(count):
        below = np.flatnonzero(layer < layer[i])
        if below.size:
            before = np.flatnonzero(layer == layer[below[-1]])
            chosen = rng.choice(before, min(before.size, int(rng.integers(1, 4))), replace=False)
            found |= {(int(j), i) for j in chosen}
    return sorted(found)


def erdos_renyi(rng: Rng, count: int) -> Pairs:
    """Each pair of tasks with the same probability, four edges a task on average."""
    chance = min(1.0, 4 / max(1, count - 1))
    return [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < chance]


def fork_join(rng: Rng, count: int) -> Pairs:
    """Forks of three to ten tasks that join again, one after the other."""
    found, last, free = [], 0, 1
    while free < count:
        wide = min(int(rng.integers(3, 11)), count - free - 1)
        if wide < 1:
            found.append((last, free))
            break
        found += [(last, free + k) for k in range(wide)]
        found += [(free + k, free + wide) for k in range(wide)]
        last, free = free + wide, free + wide + 1
    return found


def out_tree(rng: Rng, count: int) -> Pairs:
    """Each task is read from a random one of the few before it."""
    return [
        (int(rng.integers(max(0, i // 3 - 2), max(1, (i + 1) // 2))), i) for i in range(1, count)
    ]


def in_tree(rng: Rng, count: int) -> Pairs:
    """An out-tree turned around."""
    return sorted((count - 1 - b, count - 1 - a) for a, b in out_tree(rng, count))


def stencil(rng: Rng, count: int) -> Pairs:
    """Steps of a row, each of whose tasks reads its own place and both neighbours of the step
    before."""
    wide = max(3, round(count**0.5 * rng.uniform(0.7, 1.4)))
    found = []
    for i in range(wide, count):
        step, at = divmod(i, wide)
        found += [((step - 1) * wide + at + k, i) for k in (-1, 0, 1) if 0 <= at + k < wide]
    return found


SHAPES: Mapping[str, Callable[[Rng, int], Pairs]] = {
    "layered": layered,
    "Erdős–Rényi": erdos_renyi,
    "fork-join": fork_join,
    "in-tree": in_tree,
    "out-tree": out_tree,
    "stencil": stencil,
}


# --- problems -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instance:
    """A problem, and what it was made of. ``optimum_ms`` is the least latency where it is known."""

    name: str
    shape: str
    ratio: float
    problem: Problem
    optimum_ms: float | None = None


def heterogeneous_ms(rng: Rng, count: int, devices: int, spread: float) -> npt.NDArray[np.float64]:
    """Times as in Topcuoglu, Hariri, Wu, "Performance-Effective and Low-Complexity Task Scheduling
    for Heterogeneous Computing" (2002), section 5.1: a task's mean is uniform from 0 to twice the
    mean of all, its time on a device within ``spread`` / 2 of it."""
    mean = rng.uniform(0.02, 2 * MEAN_MS, (count, 1))
    return mean * rng.uniform(1 - spread / 2, 1 + spread / 2, (count, devices))


def with_edges(
    rng: Rng, ms: npt.NDArray[np.float64], pairs: Pairs, ratio: float, queue: str | None = None
) -> Problem:
    """Tasks with values whose transfers take ``ratio`` times as long as a task, on average."""
    mean = float(ms.mean()) * ratio
    sizes = rng.integers(0, 2001, len(pairs))  # 1000 on average
    edges = [(a, b, int(size)) for (a, b), size in zip(pairs, sizes, strict=True)]
    return task_problem(ms, edges, ms_per_byte=mean / 1000, queue=queue)


def small(seed: int) -> Instance:
    """8 to 12 tasks on 2 to 4 unrelated machines: each time is drawn by itself, from 1 to 100."""
    rng = np.random.default_rng((1, seed))
    count, devices = int(rng.integers(8, 13)), int(rng.integers(2, 5))
    ms = rng.integers(1, 101, (count, devices)).astype(np.float64)
    ratio = float(rng.choice([0.1, 0.5, 1.0, 2.0, 5.0]))
    chance = rng.uniform(0.1, 0.5)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < chance]
    return Instance(f"small {seed}", "random", ratio, with_edges(rng, ms, pairs, ratio))


RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of communication to computation."""
SPREADS = (0.25, 0.5, 1.0, 1.5)


def large(seed: int) -> Instance:
    """60 to 200 tasks on 3 to 8 devices; shapes and ratios take turns."""
    rng = np.random.default_rng((2, seed))
    shape = list(SHAPES)[seed % len(SHAPES)]
    ratio = RATIOS[seed % len(RATIOS)]
    count, devices = int(rng.integers(60, 201)), int(rng.integers(3, 9))
    ms = heterogeneous_ms(rng, count, devices, float(rng.choice(SPREADS)))
    problem = with_edges(rng, ms, SHAPES[shape](rng, count), ratio)
    return Instance(f"large {seed}", shape, ratio, problem)


def homogeneous(seed: int, count: int, machines: int, *, in_layers: bool) -> Instance:
    """Machines of equal speed without communication, made from a schedule without a gap: so the
    least latency is known, the work of all tasks divided by the machines.

    Each machine's timeline is cut into tasks, in layers whose ends are common to all machines or
    anywhere; edges go from tasks to others that start no earlier than they end, in layers to the
    next layer.
    """
    rng = np.random.default_rng((3, seed, count, machines, in_layers))
    length = 100 * max(4, -(-count // machines))
    layers = max(2, count // (2 * machines)) if in_layers else 1
    ends = [0, *_cuts(rng, 0, length, layers - 1), length]
    layered_spans = enumerate(pairwise(ends))
    spans = [(m, a, b, k) for k, (a, b) in layered_spans for m in range(machines)]
    more = np.zeros(len(spans), dtype=int)  # cuts within each span
    room = np.array([b - a - 1 for _, a, b, _ in spans])
    for _ in range(count - len(spans)):
        share = np.maximum(room - more, 0) * 1.0
        more[rng.choice(len(spans), p=share / share.sum())] += 1
    tasks = []
    for (_, a, b, k), cuts in zip(spans, more, strict=True):
        marks = [a, *_cuts(rng, a, b, int(cuts)), b]
        tasks += [(start, end, k) for start, end in pairwise(marks)]
    order = rng.permutation(len(tasks))
    tasks = [tasks[i] for i in order]
    pairs = []
    for a, (_, end, layer) in enumerate(tasks):
        after = [
            b
            for b, (start, _, other) in enumerate(tasks)
            if start >= end and (not in_layers or other == layer + 1)
        ]
        chosen = rng.random(len(after)) < min(1.0, 2.5 / max(1, len(after)))
        pairs += [(a, b) for b, take in zip(after, chosen, strict=True) if take]
    ms = np.repeat(np.array([[end - start] for start, end, _ in tasks], np.float64), machines, 1)
    name = f"{'layered' if in_layers else 'random'} {count} on {machines}, {seed}"
    shape = "layered" if in_layers else "random"
    return Instance(name, shape, 0.0, task_problem(ms, pairs, queue=None), float(length))


def _cuts(rng: Rng, start: int, end: int, count: int) -> list[int]:
    """Different whole numbers between two."""
    inside = np.arange(start + 1, end)
    return sorted(int(x) for x in rng.choice(inside, min(count, inside.size), replace=False))
