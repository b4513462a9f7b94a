"""Random problems of tasks, and one of many layers that are alike."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from dioe.planning import Problem, task_problem

LAYER = (
    ("norm", "query"), ("norm", "key"), ("norm", "value"), ("query", "scores"),
    ("key", "scores"), ("scores", "softmax"), ("softmax", "mix"), ("value", "mix"),
    ("mix", "out"), ("out", "add"), ("add", "norm2"), ("norm2", "up"), ("up", "act"),
    ("act", "down"), ("down", "add2"), ("add", "add2"),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(name for edge in LAYER for name in edge))
FIRST, LAST = NAMES.index("norm"), NAMES.index("add2")
SKIP = NAMES.index("add")


def transformer(layers: int, devices: int = 3) -> Problem:
    """Layers one after the other, each with its norms, attention, feed-forward and residuals."""
    rng = np.random.default_rng(5)
    one = rng.uniform(0.1, 2.0, (len(NAMES), devices))
    size = len(NAMES)
    edges = []
    for layer in range(layers):
        base = layer * size
        edges += [
            (base + NAMES.index(a), base + NAMES.index(b), 100 + 10 * NAMES.index(b))
            for a, b in LAYER
        ]
        if layer:
            edges += [(base - size + LAST, base + at, 500) for at in (FIRST, SKIP)]
    return task_problem(
        np.tile(one, (layers, 1)), edges, ms_per_byte=1e-3, weight_bytes=[100] * size * layers
    )


@st.composite
def dags(draw: st.DrawFn, most: int = 40) -> Problem:
    """Tasks with random edges from smaller to larger numbers, groups, weights and limits."""
    count = draw(st.integers(2, most))
    devices = draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    density = draw(st.sampled_from([0.03, 0.1, 0.3]))
    ms = rng.uniform(0.5, 2.0, (count, devices))
    if draw(st.booleans()):  # some tasks don't run everywhere, but all on the first device
        ms[rng.random((count, devices)) < 0.1] = math.inf
        ms[:, 0] = rng.uniform(0.5, 2.0, count)
    edges = [
        (a, b, int(rng.integers(0, 100)))
        for a in range(count)
        for b in range(a + 1, count)
        if (b == a + 1 and rng.random() < 0.5) or rng.random() < density
    ]
    grouped = rng.integers(0, count, size=draw(st.integers(0, 8)))
    weights = rng.integers(1, 100, count).tolist()
    limit = [int(sum(weights) * 1.2)] * devices if draw(st.booleans()) else None
    return task_problem(
        ms,
        edges,
        ms_per_byte=draw(st.sampled_from([0.0, 1e-2])),
        latency_ms=draw(st.sampled_from([0.0, 0.1])),
        memory_bytes=limit,
        weight_bytes=weights,
        groups={int(i): f"g{i % 3}" for i in grouped},
    )
