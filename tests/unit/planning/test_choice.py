"""The choice among measured targets, and the one without measurements."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import best_single, choose, default_choice
from dioe.types import FidelityError, TargetReport, UnsupportedError

STATES = ("ok", "unsupported", "infidel", "slow", "failed")

reports = st.lists(
    st.builds(
        TargetReport,
        target=st.sampled_from(["cpu/a/fp32", "cpu/b/fp32", "cpu/b/bf16"]),
        state=st.sampled_from(STATES),
        p50_ms=st.none() | st.floats(1e-6, 1e6),
    ),
    max_size=8,
)


@given(reports)
def test_the_fastest_target_that_is_ok_wins(found: list[TargetReport]) -> None:
    times = [r.p50_ms for r in found if r.state == "ok" and r.p50_ms is not None]
    best = best_single(found)
    if not times:
        assert best is None
        with pytest.raises((FidelityError, UnsupportedError)):
            choose(found, limit=1e-4)
        return
    assert best is not None
    assert (best.state, best.p50_ms) == ("ok", min(times))
    assert choose(found, limit=1e-4) is best


def test_a_faster_target_that_is_not_ok_loses() -> None:
    found = [
        TargetReport("cpu/a/fp32", "ok", p50_ms=9.0),
        TargetReport("cpu/b/fp32", "ok", p50_ms=7.0),
        TargetReport("cpu/b/bf16", "infidel", "error 0.05 is above the limit", p50_ms=3.0),
        TargetReport("cpu/c/fp32", "slow", p50_ms=1.0),
        TargetReport("cpu/d/fp32", "ok"),
    ]
    assert choose(found, limit=1e-4).target == "cpu/b/fp32"


def test_nothing_is_close_enough() -> None:
    found = [
        TargetReport("cpu/a/fp32", "unsupported", "op Foo is unknown"),
        TargetReport("cpu/b/bf16", "infidel", "error 0.05", p50_ms=3.0),
    ]
    with pytest.raises(FidelityError, match=r"of 0\.01 ") as caught:
        choose(found, limit=1e-2)
    assert "cpu/a/fp32: op Foo is unknown; cpu/b/bf16: error 0.05" in caught.value.cause
    assert caught.value.fix


def test_nothing_runs() -> None:
    found = [
        TargetReport("cpu/a/fp32", "unsupported", "op Foo is unknown"),
        TargetReport("cpu/b/fp32", "failed"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        choose(found, limit=1e-4)
    assert "(cpu/a/fp32: op Foo is unknown; cpu/b/fp32: failed)" in caught.value.cause
    with pytest.raises(UnsupportedError, match="no target at all"):
        choose([], limit=1e-4)


def test_default_choice() -> None:
    a, b = "cpu/onnxruntime/fp32", "cpu/openvino/fp32"
    resort = "cpu/reference/fp32"
    assert default_choice([a, b]) == a
    assert default_choice([resort, b, a], last_resort=[resort]) == b
    assert default_choice([resort], last_resort=[resort]) == resort
    with pytest.raises(UnsupportedError, match="no target can run this model"):
        default_choice([])


def test_precision_is_not_given_up_for_less_than_a_measurement_can_tell() -> None:
    lowered = TargetReport("cpu/b/bf16", "ok", p50_ms=10.0, relative_l2=4e-3)
    written = TargetReport("cpu/a/fp32", "ok", p50_ms=10.05, relative_l2=2e-7)
    assert choose([lowered, written], limit=1e-2, reluctant=["cpu/b/bf16"]) is written
    assert choose([lowered, replace(written, p50_ms=10.2)], limit=1e-2) is lowered
    # between two as written, or two lowered ones, the faster wins however close
    assert choose([replace(written, p50_ms=10.0), written], limit=1e-2).p50_ms == 10.0
    slower = replace(lowered, target="cpu/c/bf16", p50_ms=10.01)
    assert choose([slower, lowered], limit=1e-2) is lowered


def test_neighbouring_rounds_decide_between_near_equals() -> None:
    # b's median is the least, since it met the machine at its fastest; side by side a was faster
    found = [
        TargetReport("cpu/a/fp32", "ok", p50_ms=10.4),
        TargetReport("cpu/b/fp32", "ok", p50_ms=10.0),
    ]
    ratios = {"cpu/a/fp32": 0.95, "cpu/b/fp32": 1.0}
    assert choose(found, limit=1e-4).target == "cpu/b/fp32"
    assert choose(found, limit=1e-4, ratios=ratios).target == "cpu/a/fp32"
