"""Random small planning problems, and every placement there is for one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from dioe.planning import (
    BlockNode,
    Cost,
    Line,
    PlacedStage,
    Placement,
    Problem,
    TargetCosts,
    simulate,
)
from dioe.planning.orders import Order
from dioe.types import Basis, Precision, Resources, Target

FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8

TARGETS = (
    ("a", FP32, None),
    ("a", BF16, None),
    ("b", FP32, None),
    ("b", FP32, 1),  # the same backend with other resources
    ("a", INT8, None),
)
# In quarters: sums are exact, so that equal plans have equal costs.
times = st.integers(0, 24).map(lambda quarters: quarters / 4)


def chain(count: int) -> list[list[int]]:
    """For each block those it reads."""
    return [[i - 1] if i else [] for i in range(count)]


SKIP = [[], [0], [1], [0, 2], [1, 3]]
"""A chain with values that skip blocks."""
DIAMOND = [[], [0], [0], [1, 2], [3]]
TWO_BRANCHES = [[], [0], [1], [0], [3], [2, 4]]
APART = [[], [0], [], [2]]
"""Two chains that share nothing."""


@st.composite
def problems(draw: st.DrawFn, shape: Sequence[Sequence[int]], most: int = 3) -> Problem:
    """A problem of this shape: random costs, missing targets, mixes, handovers, model outputs."""
    count = len(shape)
    read = {source for sources in shape for source in sources}
    sizes = draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
    outputs = {i for i in range(count) if i not in read or draw(st.integers(0, 4)) == 0}
    blocks = tuple(
        BlockNode(
            f"b{i}",
            "conv",
            (f"op{i}",),
            {f"v{s}": sizes[s] for s in sources} or {"x": 4},
            {f"v{i}": sizes[i]},
        )
        for i, sources in enumerate(shape)
    )
    chosen = draw(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=most, unique=True))
    lines = st.builds(Line, times, times.map(lambda ms: ms / 4))
    mixing = draw(st.booleans())
    targets = []
    for number, (backend, precision, threads) in enumerate(chosen):
        able = [i for i in range(count) if number == 0 or draw(st.integers(0, 5))]
        targets.append(
            TargetCosts(
                Target("cpu", backend, (precision,)),
                {f"b{i}": Cost(draw(times), draw(st.sampled_from(Basis)), 3) for i in able},
                Resources(threads=threads),
                mixes=mixing and backend == "a",
                dispatch_ms=draw(times),
                entry=draw(lines),
                exit=draw(lines),
            )
        )
    contexts = sorted({t.context for t in targets}, key=repr)
    handover = {
        (a, b): draw(times) for a, b in itertools.product(contexts, contexts) if draw(st.booleans())
    }
    return Problem(
        blocks,
        tuple(targets),
        tuple(f"v{i}" for i in sorted(outputs)),
        ("x",),
        handover,
        draw(lines),
    )


def orders_of(problem: Problem) -> Iterator[Order]:
    """Every topological order, by trying all permutations."""
    for order in itertools.permutations(range(len(problem.blocks))):
        place_of = {block: i for i, block in enumerate(order)}
        if all(
            place_of[problem.producers[value]] < place_of[i]
            for i, block in enumerate(problem.blocks)
            for value in block.reads
            if value in problem.producers
        ):
            yield order


def placements_of(problem: Problem, order: Order) -> Iterator[Placement]:
    """Every placement whose stages are runs of the order."""
    ids = [problem.blocks[i].id for i in order]
    able = [
        [t for t, costs in enumerate(problem.targets) if block in costs.blocks] for block in ids
    ]
    count = len(ids)
    for targets in itertools.product(*able):
        group = [problem.group_of[t] for t in targets]
        must = [i for i in range(1, count) if group[i] != group[i - 1]]
        may = [i for i in range(1, count) if group[i] == group[i - 1]]
        for size in range(len(may) + 1):
            for more in itertools.combinations(may, size):
                cuts = [0, *sorted([*must, *more]), count]
                yield Placement(
                    tuple(
                        PlacedStage(tuple(ids[a:b]), targets[a:b])
                        for a, b in itertools.pairwise(cuts)
                    )
                )


def brute_force(problem: Problem) -> dict[int, float]:
    """The least cost of any placement, by its number of stages."""
    best: dict[int, float] = {}
    for order in orders_of(problem):
        for placement in placements_of(problem, order):
            total = simulate(problem, placement).total_ms
            count = len(placement.stages)
            best[count] = min(best.get(count, total), total)
    return best
