"""How planning grows: time and memory of a whole plan, from one to a hundred thousand blocks."""

from __future__ import annotations

import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.planning.instances import Pairs, heterogeneous_ms, with_edges
from dioe.planning import Problem, solve, task_problem

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
FITTED_FROM = 9_000
"""Blocks from which on growth is told: small plans fit into memory that a process has anyway, and
are searched block by block."""
LIMITS_S = {10_000: 2.0, 100_000: 15.0}
"""What a whole plan may take."""


@dataclass(frozen=True, slots=True)
class Row:
    """One plan: of what, seconds to make the problem and to solve it, and by how much the two
    raised the process's peak of memory, in bytes; and how far the latency is from the bound and
    below that of the best single device."""

    kind: str
    blocks: int
    problem_s: float
    solve_s: float
    nbytes: int
    gap: float
    gain: float


def table(sizes: Sequence[int] = SIZES) -> str:
    """Every row, in Markdown."""
    found = [
        "A whole plan for latency, without a time limit: arrays, schedulers, coarsening, search "
        "among clusters, refinement and simulation, on three devices. Each in a process of its "
        "own; memory is what the problem and the plan add to its peak. At most "
        + ", ".join(f"{limit:g} s for {size:,} blocks" for size, limit in LIMITS_S.items())
        + " are wanted.",
        "",
        "| blocks | of | problem s | plan s | plan µs a block | memory MB | KB a block "
        "| above the bound | below the best device |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows(tuple(sizes)):
        found.append(
            f"| {row.blocks:,} | {row.kind} | {row.problem_s:.2f} | {row.solve_s:.2f} "
            f"| {1e6 * row.solve_s / row.blocks:.0f} | {row.nbytes / 1e6:.0f} "
            f"| {row.nbytes / row.blocks / 1e3:.1f} | {row.gap:.1%} | {row.gain:.1%} |"
        )
    found += ["", "They grow with the power of the number of blocks, from ten thousand on:", ""]
    for kind in KINDS:
        of = [row for row in rows(tuple(sizes)) if row.kind == kind and row.blocks > FITTED_FROM]
        if len(of) > 1:
            blocks = [row.blocks for row in of]
            seconds = _power(blocks, [row.solve_s for row in of])
            memory = _power(blocks, [row.nbytes for row in of])
            found.append(f"- {kind}: time {seconds:.2f}, memory {memory:.2f}")
    return "\n".join(found)


@cache
def rows(sizes: tuple[int, ...] = SIZES) -> tuple[Row, ...]:
    """Measured once a process, each plan in a fresh one."""
    context = multiprocessing.get_context("spawn")
    found = []
    for size in sizes:
        for kind in KINDS:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found.append(pool.submit(measured, kind, size).result())
    return tuple(found)


def measured(kind: str, count: int) -> Row:
    """One plan, in this process."""
    solve(KINDS[kind](200))  # what is loaded at first use isn't counted
    before = _peak_bytes()
    begin = time.perf_counter()
    problem = KINDS[kind](count)
    made = time.perf_counter()
    schedule = solve(problem)
    done = time.perf_counter()
    alone = min(
        sum(cost.ms for cost in costs.blocks.values())
        for costs in problem.targets
        if len(costs.blocks) == len(problem.blocks)
    )
    return Row(
        kind,
        len(problem.blocks),
        made - begin,
        done - made,
        _peak_bytes() - before,
        schedule.value / schedule.bound - 1,
        1 - schedule.value / alone,
    )


def layered(count: int) -> Problem:
    """Layers of about as many tasks as there are layers, with up to three edges a task from the
    layer before; times and transfers of random lengths."""
    rng = np.random.default_rng((7, count))
    wide = max(2, round(count**0.5))
    pairs: set[tuple[int, int]] = set()
    for i in range(wide, count):
        start = (i // wide - 1) * wide
        pairs |= {(int(j), i) for j in rng.integers(start, start + wide, rng.integers(1, 4))}
    return with_edges(rng, heterogeneous_ms(rng, count, 3, 1.0), sorted(pairs), 1.0, "")


OPS_MS = {
    "norm": 0.05, "query": 1.0, "key": 1.0, "value": 1.0, "scores": 0.6, "softmax": 0.2,
    "mix": 0.6, "out": 1.0, "add": 0.05, "norm2": 0.05, "up": 4.0, "act": 0.3, "down": 4.0,
    "add2": 0.05,
}  # fmt: skip
"""Made-up times of a layer's ops on the fastest device: matrices of one size, and the rest."""

READS = (
    ("norm", "query"), ("norm", "key"), ("norm", "value"), ("query", "scores"),
    ("key", "scores"), ("scores", "softmax"), ("softmax", "mix"), ("value", "mix"),
    ("mix", "out"), ("out", "add"), ("add", "norm2"), ("norm2", "up"), ("up", "act"),
    ("act", "down"), ("down", "add2"), ("add", "add2"),
)  # fmt: skip


def transformer(count: int) -> Problem:
    """Layers of attention and feed-forward that are all alike, on devices of unlike speed."""
    names = list(OPS_MS)
    size, layers = len(names), max(1, count // len(names))
    number = {name: i for i, name in enumerate(names)}
    pairs: Pairs = []
    for layer in range(layers):
        first = layer * size
        pairs += [(first + number[a], first + number[b]) for a, b in READS]
        if layer:
            pairs += [(first - 1, first), (first - 1, first + number["add"])]
    ms = np.tile(np.outer(list(OPS_MS.values()), (1.0, 1.5, 3.0)), (layers, 1))
    edges = [(a, b, 1000) for a, b in pairs]
    return task_problem(ms, edges, ms_per_byte=2e-4, latency_ms=0.01, queue="")


KINDS: Mapping[str, Callable[[int], Problem]] = {"layers": layered, "transformer": transformer}


def plot(sizes: Sequence[int] = SIZES) -> str:
    """Seconds and memory over the number of blocks, as SVG; both axes logarithmic, dashed what
    grows with the number. Small plans, whose memory a process has anyway, are left out."""
    found = [row for row in rows(tuple(sizes)) if row.blocks > 2_000]
    body = [
        *_panel(found, "plan, s", [row.solve_s for row in found], 60),
        *_panel(found, "memory, MB", [row.nbytes / 1e6 for row in found], 430),
    ]
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" width="760" height="320" '
            'viewBox="0 0 760 320" font-family="sans-serif" font-size="12">',
            '<rect width="760" height="320" fill="white"/>',
            *body,
            "</svg>",
        ]
    )


_COLOURS = ("#1b6ca8", "#c2571a")
_WIDTH, _HEIGHT, _TOP = 300, 220, 40


def _panel(found: Sequence[Row], title: str, values: Sequence[float], left: int) -> Iterator[str]:
    low_x, high_x = (math.log10(f(row.blocks for row in found)) for f in (min, max))
    low_y = math.floor(math.log10(max(min(values), 1e-3)))
    high_y = max(math.ceil(math.log10(max(values))), low_y + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low_x) / max(high_x - low_x, 1e-9)
        up = (math.log10(max(y, 1e-3)) - low_y) / (high_y - low_y)
        return left + across * _WIDTH, _TOP + (1 - up) * _HEIGHT

    yield f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{title}</text>'
    for power in range(low_y, high_y + 1):
        y = at(found[0].blocks, 10.0**power)[1]
        yield f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
    for blocks in sorted({row.blocks for row in found if row.kind == found[0].kind}):
        x = at(blocks, 1.0)[0]
        yield f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{blocks:,}</text>'
    middle, below = left + _WIDTH / 2, _TOP + _HEIGHT + 36
    yield f'<text x="{middle}" y="{below}" text-anchor="middle">blocks</text>'
    for number, kind in enumerate(KINDS):
        points = [
            (row.blocks, value)
            for row, value in zip(found, values, strict=True)
            if row.kind == kind
        ]
        colour = _COLOURS[number % len(_COLOURS)]
        for (a, b), (c, d) in pairwise(points):
            (x1, y1), (x2, y2) = at(a, b), at(c, d)
            yield (
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                f'stroke="{colour}" stroke-width="2"/>'
            )
        for blocks, value in points:
            x, y = at(blocks, value)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        last, most = points[-1]
        (x1, y1), (x2, y2) = (at(n, most * n / last) for n in (points[0][0], last))
        yield (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            'stroke-dasharray="3 4"/>'
        )
        y = _TOP + 14 + 16 * number
        yield f'<text x="{left + 10}" y="{y}" fill="{colour}">{kind}</text>'


def _power(blocks: Sequence[int], values: Sequence[float]) -> float:
    """The exponent of the power that fits best."""
    fitted: list[float] = np.polyfit(np.log(blocks), np.log(values), 1).tolist()
    return fitted[0]


def _peak_bytes() -> int:
    """The most memory of this process so far: by the kernel's high-water mark, as what getrusage
    tells starts from the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
