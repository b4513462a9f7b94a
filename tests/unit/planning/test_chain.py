"""Placing blocks: as good as trying everything, on problems small enough for that."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.planning import (
    BlockNode,
    Cost,
    Line,
    PlacedStage,
    Placement,
    Problem,
    TargetCosts,
    place,
    simulate,
    single_stage,
    varied,
)
from dioe.planning.chain import MAX_COUNT, cheapest
from dioe.planning.orders import block_orders
from dioe.types import Precision, Target, UnsupportedError
from tests.unit.planning import problems as small

quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SHAPES = (
    small.chain(1),
    small.chain(4),
    small.SKIP[:4],
    small.DIAMOND[:4],
    small.APART,
)
any_problem = st.sampled_from(SHAPES).flatmap(small.problems)


def total(problem: Problem, placement: Placement) -> float:
    return simulate(problem, placement).total_ms


@pytest.mark.parametrize("shape", SHAPES)
@quick
@given(st.data())
def test_the_best_is_the_best_of_all(shape: list[list[int]], data: st.DataObject) -> None:
    problem = data.draw(small.problems(shape))
    best = small.brute_force(problem)
    found = place(problem, most=3)
    assert total(problem, found[0]) == pytest.approx(min(best.values()), abs=1e-9)
    for count in range(1, MAX_COUNT + 1):
        of_count = [total(problem, p) for p in found if len(p.stages) == count]
        if count in best:
            assert min(of_count) == pytest.approx(best[count], abs=1e-9)
        few = {c: ms for c, ms in best.items() if c <= count}
        if few:
            first = place(problem, most=1, max_stages=count)[0]
            assert len(first.stages) <= count
            assert total(problem, first) == pytest.approx(min(few.values()), abs=1e-9)


@quick
@given(small.problems(small.SKIP) | small.problems(small.TWO_BRANCHES, most=2))
def test_larger_ones(problem: Problem) -> None:
    found = place(problem, most=1)
    assert total(problem, found[0]) == pytest.approx(min(small.brute_force(problem).values()))


@quick
@given(any_problem, st.integers(1, 12))
def test_the_best_few(problem: Problem, most: int) -> None:
    """As many as asked for, and of every way to cut and to choose groups the best precisions."""
    by_cut: dict[object, float] = {}
    for order in small.orders_of(problem):
        for placement in small.placements_of(problem, order):
            cut = tuple(
                (frozenset(stage.blocks), problem.group_of[stage.targets[0]])
                for stage in placement.stages
            )
            by_cut[cut] = min(by_cut.get(cut, math.inf), total(problem, placement))
    expected = sorted(by_cut.values())[:most]
    found = place(problem, most=most)
    assert len(set(found)) == len(found) >= len(expected)
    figures = [total(problem, placement) for placement in found]
    assert figures[: len(expected)] == pytest.approx(expected, abs=1e-6)
    assert figures == pytest.approx(sorted(figures), abs=1e-6)
    assert [p.predicted_ms for p in found] == figures


@quick
@given(any_problem)
def test_single_stages_are_among_them_and_none_is_better(problem: Problem) -> None:
    found = place(problem, most=1)
    singles = [p for i in range(len(problem.targets)) if (p := single_stage(problem, i))]
    groups = [p.stages[0].targets for p in found if len(p.stages) == 1]
    for single in singles:
        assert total(problem, found[0]) <= total(problem, single) + 1e-9
        assert single.predicted_ms == total(problem, single)
        group = problem.group_of[single.stages[0].targets[0]]
        assert any(problem.group_of[targets[0]] == group for targets in groups)
    assert (single_stage(problem, 0) is None) == (
        len(problem.targets[0].blocks) < len(problem.blocks)
    )


@quick
@given(any_problem, st.data())
def test_penalties(problem: Problem, data: st.DataObject) -> None:
    """They count for the choice and not for the figures, and the more the less one is taken."""
    keys = [(b, i) for i, t in enumerate(problem.targets) for b in t.blocks]
    penalty = data.draw(st.dictionaries(st.sampled_from(keys), small.times))

    def paid(placement: Placement) -> float:
        return sum(penalty.get(key, 0.0) for key in placement.targets.items())

    least = min(
        total(problem, placement) + paid(placement)
        for order in small.orders_of(problem)
        for placement in small.placements_of(problem, order)
    )
    before = place(problem, most=1)[0]
    after = place(problem, most=1, penalty=penalty)[0]
    assert after.predicted_ms == total(problem, after)
    assert total(problem, after) + paid(after) == pytest.approx(least, abs=1e-9)
    assert total(problem, before) <= total(problem, after) + 1e-9
    assert paid(after) <= paid(before) + 1e-9


@quick
@given(any_problem, st.data())
def test_a_forbidden_target_is_not_taken(problem: Problem, data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(problem.blocks)).id
    able = [i for i, t in enumerate(problem.targets) if block in t.blocks]
    allowed = data.draw(st.sampled_from(able))
    penalty = {(block, i): math.inf for i in able if i != allowed}
    for placement in place(problem, penalty=penalty):
        assert placement.targets[block] == allowed
    with pytest.raises(UnsupportedError, match=f"block {block} .*may run it"):
        place(problem, penalty={(block, i): math.inf for i in able})


def test_a_block_that_no_target_runs_is_named() -> None:
    problem = network(3)
    targets = tuple(
        replace(t, blocks={b: c for b, c in t.blocks.items() if b != "b1"}) for t in problem.targets
    )
    with pytest.raises(
        UnsupportedError, match=r"block b1 \(conv\): no target can run it"
    ) as caught:
        place(replace(problem, targets=targets))
    assert "op1" in str(caught.value)
    assert "dioe inspect" in caught.value.fix


def test_too_few_stages_allowed() -> None:
    problem = network(2)
    halves = tuple(
        replace(t, blocks={f"b{i}": Cost(1.0)}, mixes=False) for i, t in enumerate(problem.targets)
    )
    problem = replace(problem, targets=halves[:2])
    assert [len(p.stages) for p in place(problem)] == [2]
    with pytest.raises(UnsupportedError, match="at most 1 stage"):
        place(problem, max_stages=1)


def network(count: int, *, seed: int = 0, reach: int = 1, targets: int = 3) -> Problem:
    """Blocks that read one another from at most ``reach`` before; two precisions that mix."""
    rng = random.Random(seed)
    size = [rng.randint(1, 10**5) for _ in range(count)]
    blocks = []
    for i in range(count):
        sources = {max(i - rng.randint(1, reach), 0) for _ in range(2)} if i else set()
        reads = {f"v{s}": size[s] for s in sorted(sources)} or {"x": 1000}
        blocks.append(BlockNode(f"b{i}", "conv", (f"op{i}",), reads, {f"v{i}": size[i]}))
    read = {value for block in blocks for value in block.reads}
    outputs = tuple(f"v{i}" for i in range(count) if f"v{i}" not in read)
    kinds = [("a", "bf16", 0.6), ("a", "fp32", 1.0), ("b", "fp32", 1.0), ("c", "fp32", 1.1)]
    made = [
        TargetCosts(
            Target("cpu", backend, (Precision(precision),)),
            {f"b{i}": Cost(rng.random() * factor) for i in range(count)},
            mixes=backend == "a",
            dispatch_ms=0.1,
            entry=Line(0.02, 1e-6),
            exit=Line(0.01, 1e-6),
        )
        for backend, precision, factor in kinds[:targets]
    ]
    return Problem(tuple(blocks), tuple(made), outputs, ("x",), switch=Line(0.01, 1e-6))


@pytest.mark.parametrize("reach", [1, 3, 12, 40])
def test_wide_graphs_get_figures_that_hold(reach: int) -> None:
    """Where more blocks are live than states are kept for it need not be the best, but is not
    worse than what ties all precisions, and costs what the simulator says."""
    problem = network(50, seed=reach, reach=reach)
    orders = block_orders(problem)
    best = cheapest(problem, orders, {})
    assert best is not None
    assert best.predicted_ms == total(problem, best)
    apart = replace(problem, targets=tuple(replace(t, mixes=False) for t in problem.targets))
    unmixed = cheapest(apart, orders, {})
    assert unmixed is not None
    assert total(problem, best) <= total(problem, unmixed) + 1e-9
    for i in range(len(problem.targets)):
        single = single_stage(problem, i)
        assert single is not None
        assert total(problem, best) <= total(problem, single) + 1e-9


@quick
@given(st.integers(0, 10**6), st.data())
def test_no_segmentation_of_an_order_that_was_tried_is_better(
    seed: int, data: st.DataObject
) -> None:
    problem = network(14, seed=seed, reach=4)
    order = data.draw(st.sampled_from(block_orders(problem)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 13))))
    stages = []
    for start, end in zip([0, *cuts], [*cuts, 14], strict=True):
        group = data.draw(st.sampled_from(problem.groups))
        targets = [data.draw(st.sampled_from(group)) for _ in range(start, end)]
        ids = tuple(problem.blocks[i].id for i in order[start:end])
        stages.append(PlacedStage(ids, tuple(targets)))
    best = place(problem, most=1)[0]
    assert total(problem, best) <= total(problem, Placement(tuple(stages))) + 1e-9


@pytest.mark.parametrize(("count", "targets", "limit_s"), [(64, 3, 0.5), (300, 4, 8.0)])
@pytest.mark.parametrize("reach", [1, 3, 12])
def test_it_is_fast(count: int, targets: int, limit_s: float, reach: int) -> None:
    problem = network(count, reach=reach, targets=targets)
    start = time.process_time()
    place(problem)
    assert time.process_time() - start < limit_s


def test_varied_leaves_out_what_differs_only_in_the_cut() -> None:
    problem = network(12)
    found = place(problem, most=20)
    kinds = [tuple(frozenset(stage.targets) for stage in p.stages) for p in varied(found)]
    assert len(set(kinds)) == len(kinds) < len(found)
    assert varied(found)[0] == found[0]
    assert varied([]) == []
