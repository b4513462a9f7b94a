"""Costs of stages: planted ones are found, priors held where little is known, bounds never left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.profiling import (
    StageCosts,
    StageFit,
    StageObservation,
    block_corrections,
    fit,
)
from dioe.profiling.stage_fit import DEFAULT_COSTS, DEFAULT_HANDOVER_MS, SCALE_LIMITS
from dioe.types import InputError

TRUTH = StageFit(
    {
        "a": StageCosts(1.2, 0.05, 2e-7, 6e-7),
        "b": StageCosts(0.9, 0.0, 0.0, 1e-7),
    },
    {("a", "b"): 0.3, ("b", "a"): 0.0},
)


def stage(
    target: str = "a",
    context_ms: float = 1.0,
    bytes_in: int = 10_000,
    bytes_out: int = 10_000,
    previous: str | None = None,
    measured_ms: float = 1.0,
) -> StageObservation:
    return StageObservation(
        target, context_ms, 1, bytes_in, 1, bytes_out, previous, measured_ms=measured_ms
    )


def planted(
    count: int, *, noise: float = 0.0, outliers: float = 0.0, seed: int = 0
) -> list[StageObservation]:
    """Stages that cost what TRUTH says, times noise; some take three times as long."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        made = stage(
            target=str(rng.choice(["a", "b"])),
            context_ms=float(np.exp(rng.uniform(-2, 2))),
            bytes_in=int(np.exp(rng.uniform(8, 16))),
            bytes_out=int(np.exp(rng.uniform(8, 16))),
            previous=[None, "a", "b"][rng.integers(3)],
        )
        factor = float(np.exp(noise * rng.standard_normal()))
        if rng.random() < outliers:
            factor *= 3
        found.append(replace(made, measured_ms=TRUTH.predict_ms(made) * factor))
    return found


def assert_like_truth(found: StageFit, tolerance: float) -> None:
    for target, expected in TRUTH.costs.items():
        costs = found.costs[target]
        assert costs.scale == pytest.approx(expected.scale, abs=tolerance)
        assert costs.dispatch_ms == pytest.approx(expected.dispatch_ms, abs=tolerance)
        assert costs.entry_ms_per_byte == pytest.approx(
            expected.entry_ms_per_byte, abs=tolerance * 1e-6
        )
        assert costs.exit_ms_per_byte == pytest.approx(
            expected.exit_ms_per_byte, abs=tolerance * 1e-6
        )
    for pair, ms in TRUTH.handover.items():
        assert found.handover[pair] == pytest.approx(ms, abs=2 * tolerance)


@pytest.mark.parametrize(
    ("noise", "outliers", "tolerance"), [(0.0, 0.0, 0.04), (0.05, 0.0, 0.06), (0.05, 0.1, 0.1)]
)
def test_a_planted_model_is_recovered(noise: float, outliers: float, tolerance: float) -> None:
    assert_like_truth(fit(planted(800, noise=noise, outliers=outliers)), tolerance)


def test_new_stages_are_predicted() -> None:
    found = fit(planted(60, noise=0.05))
    new = planted(100, seed=1)
    errors = [abs(found.predict_ms(s) / s.measured_ms - 1) for s in new]
    before = [abs(StageFit().predict_ms(s) / s.measured_ms - 1) for s in new]
    assert np.median(errors) < 0.08
    assert np.median(errors) < np.median(before) / 2


def test_it_takes_milliseconds() -> None:
    seen = planted(300, noise=0.1)
    start = time.perf_counter()
    fit(seen)
    assert time.perf_counter() - start < 0.5


# --- priors -----------------------------------------------------------------------------------


def test_without_observations_the_prior_holds() -> None:
    assert fit([]) == StageFit()
    assert fit([], TRUTH) == TRUTH
    assert StageFit().costs_of("new") == DEFAULT_COSTS
    assert StageFit().handover_ms("x", "y") == DEFAULT_HANDOVER_MS
    assert StageFit().handover_ms("x", "x") == StageFit().handover_ms(None, "x") == 0.0


def test_what_was_not_observed_keeps_its_prior() -> None:
    found = fit([s for s in planted(50) if s.target == "a"], TRUTH)
    assert found.costs["b"] == TRUTH.costs["b"]
    assert found.handover["a", "b"] == 0.3


def test_observations_as_expected_change_nothing() -> None:
    found = fit(planted(20), TRUTH)
    assert_like_truth(found, 1e-6)


@pytest.mark.parametrize("ratio", [0.5, 1.5, 3.0])
def test_few_observations_move_it_a_little(ratio: float) -> None:
    """Nearer to what was seen with each, and never beyond it."""
    expected = StageFit().predict_ms(stage())
    seen = stage(measured_ms=ratio * expected)
    predictions = [fit([seen] * n).predict_ms(seen) / expected for n in (0, 1, 2, 4)]
    distances = [abs(ratio - p) for p in predictions]
    assert distances == sorted(distances, reverse=True)
    assert distances[1] > 0
    assert all((p - 1) * (ratio - 1) >= 0 for p in predictions)


# --- properties -------------------------------------------------------------------------------


observations = st.lists(
    st.builds(
        stage,
        target=st.sampled_from(["a", "b", "c"]),
        context_ms=st.floats(0, 1e3),
        bytes_in=st.integers(0, 10**9),
        bytes_out=st.integers(0, 10**9),
        previous=st.sampled_from([None, "a", "b"]),
        measured_ms=st.floats(1e-4, 1e4),
    ),
    max_size=12,
)


@given(observations)
@settings(max_examples=60, deadline=None)
def test_costs_stay_in_their_bounds(seen: list[StageObservation]) -> None:
    found = fit(seen)
    assert set(found.costs) == {s.target for s in seen}
    assert set(found.handover) == {s.change for s in seen} - {None}
    for costs in found.costs.values():
        assert SCALE_LIMITS[0] - 1e-9 <= costs.scale <= SCALE_LIMITS[1] + 1e-9
        assert costs.dispatch_ms >= 0
        assert costs.entry_ms_per_byte >= 0
        assert costs.exit_ms_per_byte >= 0
    assert all(ms >= 0 for ms in found.handover.values())


@given(observations, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter(seen: list[StageObservation], random: object) -> None:
    shuffled = list(seen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = fit(seen), fit(shuffled)
    for observation in seen:
        assert one.predict_ms(observation) == pytest.approx(
            other.predict_ms(observation), rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize(
    "wrong",
    [
        stage(measured_ms=0.0),
        stage(measured_ms=float("nan")),
        stage(measured_ms=float("inf")),
        stage(context_ms=-1.0),
        stage(bytes_in=-1),
    ],
)
def test_what_no_stage_takes(wrong: StageObservation) -> None:
    with pytest.raises(InputError, match="can't have taken"):
        fit([wrong])


# --- blocks -----------------------------------------------------------------------------------


FREE = StageFit({"a": StageCosts(1.0, 0.0, 0.0, 0.0)})


def of_blocks(measured_ms: float, target: str = "a", **blocks: float) -> StageObservation:
    context_ms = sum(blocks.values())
    return replace(stage(target, context_ms, measured_ms=measured_ms), blocks=blocks)


def test_a_lone_stage_corrects_its_blocks_alike_by_half() -> None:
    factors = block_corrections([of_blocks(1.44, x=0.7, y=0.3)], FREE)
    assert factors == {("a", "x"): pytest.approx(1.2), ("a", "y"): pytest.approx(1.2)}
    more = block_corrections([of_blocks(1.44, x=0.7, y=0.3)] * 5, FREE)
    assert 1.3 < more["a", "x"] < 1.44
    less = block_corrections([of_blocks(0.5, x=1.0)], FREE, share=0.2)
    assert less["a", "x"] == pytest.approx(0.5**0.2)


def test_overlapping_stages_tell_blocks_apart() -> None:
    true = {"x": 1.5, "y": 1.0, "z": 0.8}
    rng = np.random.default_rng(2)
    seen = []
    for _ in range(60):
        names = [n for n in true if rng.random() < 0.6] or ["y"]
        seen.append(of_blocks(sum(true[n] for n in names), "a", **dict.fromkeys(names, 1.0)))
    factors = block_corrections(seen, FREE)
    for name, factor in true.items():
        assert factors["a", name] == pytest.approx(factor, rel=0.08)


def test_stages_as_predicted_correct_nothing() -> None:
    seen: Sequence[StageObservation] = [
        replace(s, blocks={"x": s.context_ms / 2, "y": s.context_ms / 2}) for s in planted(20)
    ]
    assert block_corrections(seen, TRUTH) == {
        (target, name): pytest.approx(1.0) for target in "ab" for name in "xy"
    }


def test_overhead_counts_less_than_blocks() -> None:
    """A stage that is mostly bytes says little about its blocks."""
    costs = StageFit({"a": StageCosts(1.0, 9.0, 0.0, 0.0)})
    found = block_corrections([of_blocks(10.5, x=1.0)], costs)
    assert 1.0 < found["a", "x"] < 1.01


@given(
    st.lists(
        st.builds(
            of_blocks,
            st.floats(1e-4, 1e4),
            st.sampled_from("ab"),
            x=st.floats(0, 10),
            y=st.floats(0, 10),
        ),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_corrections_are_bounded(seen: list[StageObservation]) -> None:
    factors = block_corrections(seen, TRUTH, limit=1.5)
    assert all(1 / 1.5 - 1e-9 <= factor <= 1.5 + 1e-9 for factor in factors.values())
    assert {target for target, _ in factors} == {s.target for s in seen if s.context_ms > 0}


def test_blocks_that_cost_nothing_or_are_not_named() -> None:
    assert block_corrections([], FREE) == {}
    assert block_corrections([stage()], FREE) == {}
    assert block_corrections([of_blocks(1.0, x=0.0)], FREE) == {}
    found = block_corrections([of_blocks(1.44, x=1.0, fused=0.0)], FREE)
    assert found["a", "fused"] == 1.0


@pytest.mark.parametrize(("share", "limit"), [(0.0, 2.0), (1.0, 2.0), (0.5, 0.9)])
def test_corrections_that_are_none(share: float, limit: float) -> None:
    with pytest.raises(InputError, match="make no correction"):
        block_corrections([], FREE, share=share, limit=limit)
