"""Blocks to lower: those that save time within the limit, or why there are none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import pytest

from dioe.graph import Block, Model, OpGraph, find_blocks
from dioe.planning import Cost, Problem, TargetCosts, build_problem
from dioe.tuning.clock import Budget
from dioe.tuning.lowering import Lowered, lower_blocks
from dioe.types import Basis, Precision, Precisions, Target
from tests.toys import models

GRAPH = OpGraph.build(Model.load(models.two_kinds()))
BLOCKS: Sequence[Block] = find_blocks(GRAPH)
LOW = "cpu/a/bf16"


def problem(written_ms: float = 2.0, low_ms: float = 1.0) -> Problem:
    """Each block takes that long."""
    targets = [
        TargetCosts(
            target=Target("cpu", "a", (precision,)),
            blocks={block.id: Cost(ms, Basis.MEASURED, 5) for block in BLOCKS},
            mixes=True,
        )
        for precision, ms in ((Precision.FP32, written_ms), (Precision.BF16, low_ms))
    ]
    return build_problem(GRAPH, BLOCKS, targets)


def judge(errors: dict[str, float]) -> Callable[[Precisions], float]:
    """Errors of the ops that are lowered add up in squares."""

    def error(precisions: Precisions) -> float:
        lowered = [e for op, e in errors.items() if precisions.of(op) is Precision.BF16]
        return math.sqrt(sum(e**2 for e in lowered))

    return error


def lowered(
    errors: dict[str, float], *, limit: float = 1e-2, seconds: float = 60.0, low_ms: float = 1.0
) -> Lowered:
    return lower_blocks(
        BLOCKS, problem(low_ms=low_ms), Precision.BF16, judge(errors), limit=limit,
        budget=Budget(seconds),
    )  # fmt: skip


def test_blocks_within_the_limit_are_lowered_with_their_figures() -> None:
    found = lowered({"m0": 1e-3, "m1": 1e-3, "g0": 3e-2, "g1": 3e-2})
    assert found.blocks == {"block0", "block1"}
    told = found.lowering(LOW, BLOCKS, 1e-2)
    assert (told.target, told.blocks, told.of) == (LOW, 2, 4)
    assert told.stay == ("block2 (g0)", "block3 (g1)")
    assert told.error == pytest.approx(1.4e-3, rel=0.02)
    assert (told.predicted_ms, told.written_ms) == (6.0, 8.0)
    assert told.why_not == ""


def why_not(found: Lowered) -> str:
    assert found.blocks == frozenset()
    told = found.lowering(LOW, BLOCKS, 1e-2)
    assert (told.blocks, told.of, told.stay, told.error) == (0, 4, (), None)
    return told.why_not


def test_none_within_the_limit_tells_the_least_error() -> None:
    assert why_not(lowered({"m0": 0.02, "m1": 0.03, "g0": 0.04, "g1": 0.05})) == (
        f"no choice of blocks to lower on {LOW} was found within 0.01 that saves time: "
        "the least error measured is 0.02, with block0 (m0) lowered"
    )


def test_none_that_saves_time_is_told() -> None:
    assert why_not(lowered({"m0": 1e-3, "m1": 0.03, "g0": 0.04, "g1": 0.05}, low_ms=3.0)) == (
        f"lowering blocks on {LOW} within 0.01 saves no time by their costs: "
        "the least error measured is 0.001, with block0 (m0) lowered"
    )


def test_without_a_budget_nothing_was_tried() -> None:
    assert why_not(lowered({}, seconds=0.0)) == (
        f"no block was lowered on {LOW}: the tuning budget ended before one was tried"
    )


def test_a_budget_that_ends_is_told() -> None:
    def error(precisions: Precisions) -> float:
        time.sleep(0.02)
        return judge({"m0": 1e-3, "m1": 0.03, "g0": 0.04, "g1": 0.05})(precisions)

    found = lower_blocks(
        BLOCKS, problem(), Precision.BF16, error, limit=1e-2, budget=Budget(0.02)
    )  # fmt: skip
    assert "was found within 0.01 that saves time before the tuning budget ended" in why_not(found)
