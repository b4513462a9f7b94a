"""The benchmark of predictions: random plans, rescaling by the machine's speed, and the verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import prediction
from benchmarks.prediction import (
    Row,
    compared,
    problems,
    random_cuts,
    random_placement,
    speed_by_round,
    summary,
    table,
    weights,
)
from dioe.planning import BlockNode, Cost, Line, Problem, TargetCosts, simulate
from dioe.profiling import Round, Timing
from dioe.types import Target


def timing(*medians_ms: float, noisy: tuple[bool, ...] = ()) -> Timing:
    flags = noisy or (False,) * len(medians_ms)
    return Timing([Round(np.array([ms]), flag) for ms, flag in zip(medians_ms, flags, strict=True)])


def row(predicted_ms: float, measured_ms: float, speed: float = 1.0, model: str = "m") -> Row:
    targets = ("cpu/onnxruntime/fp32", "cpu/openvino/bf16")
    return Row(model, targets, (3,), 8, predicted_ms, measured_ms, speed, noisy=False)


def chain(blocks: int) -> Problem:
    """A row of blocks that take 1 ms on one target and 2 on the other."""
    nodes = [
        BlockNode(f"b{i}", "conv", (f"o{i}",), {f"v{i}": 100}, {f"v{i + 1}": 100})
        for i in range(blocks)
    ]
    targets = [
        TargetCosts(
            Target("cpu", backend),
            {node.id: Cost(ms) for node in nodes},
            dispatch_ms=0.5,
            entry=Line(0.1),
        )
        for backend, ms in (("one", 1.0), ("two", 2.0))
    ]
    return Problem(tuple(nodes), tuple(targets), (f"v{blocks}",), ("v0",))


@given(st.integers(2, 40), st.integers(0, 1000))
def test_cuts_leave_no_stage_empty(blocks: int, seed: int) -> None:
    cuts = random_cuts(blocks, np.random.default_rng(seed))
    assert 1 <= len(cuts) < min(prediction.MOST_STAGES, blocks) + 1
    assert list(cuts) == sorted(set(cuts))
    assert all(0 < cut < blocks for cut in cuts)


@given(st.integers(2, 12), st.integers(0, 1000))
def test_random_placements_are_possible_and_weights_are_shares(blocks: int, seed: int) -> None:
    problem = chain(blocks)
    placement, cuts = random_placement(problem, np.random.default_rng(seed))
    assert simulate(problem, placement).total_ms > 0
    assert len(placement.stages) == len(cuts) + 1
    share = weights(problem, placement)
    assert sum(share.values()) == pytest.approx(1.0)
    assert set(share) == set(placement.targets.values())


def test_a_seed_makes_the_same_plan_again() -> None:
    first, again = (random_placement(chain(9), np.random.default_rng(4)) for _ in range(2))
    assert first == again


def test_the_speed_is_that_of_the_wholes_by_their_weight() -> None:
    timings = {"a": timing(10.0, 20.0), "b": timing(6.0, 6.0)}
    speeds = speed_by_round({"a": (0.5, 10.0), "b": (0.5, 4.0)}, timings)
    assert speeds == pytest.approx([1.25, 1.75])


def test_a_slow_machine_is_no_error() -> None:
    measured_ms, speed = compared(timing(10.0, 20.0, 11.0), [1.0, 2.0, 1.1])
    assert row(10.0, measured_ms, speed).error == pytest.approx(0.0)


def test_noisy_rounds_count_only_where_all_are() -> None:
    assert compared(timing(10.0, 90.0, noisy=(False, True)), [1.0, 1.0]) == (10.0, 1.0)
    assert compared(timing(90.0, noisy=(True,)), [1.0]) == (90.0, 1.0)


def test_errors_are_of_what_was_measured() -> None:
    one = row(8.0, 10.0, speed=1.5)
    assert one.raw_error == pytest.approx(-0.2)
    assert one.error == pytest.approx(0.2)


def test_the_verdict() -> None:
    good = [row(10.0, 10.0), row(10.5, 10.0), row(7.0, 10.0)]
    assert problems(good) == []
    (worst,) = problems([*good, row(14.0, 10.0), row(10.0, 10.0)])
    assert "worst" in worst
    assert "40.0%" in worst
    (median,) = problems([row(12.0, 10.0)])
    assert "median" in median


def test_the_report() -> None:
    rows = [row(9.0, 10.0), row(12.0, 10.0, speed=0.5, model="n")]
    _, _, first, second = table(rows).splitlines()
    assert "onnxruntime fp32 → openvino bf16" in first
    assert "3 of 8" in first
    assert second.endswith("| +20% | ×0.50 | -40% |")
    lines = summary(rows).splitlines()
    assert lines[2].startswith("| m | 1 | 10.0% |")
    assert lines[-1] == "| **all** | 2 | 25.0% | 40.0% | 15.0% | 20.0% |"


def test_unknown_models_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        prediction.main(["nothing"])
    assert "nothing" in capsys.readouterr().err
