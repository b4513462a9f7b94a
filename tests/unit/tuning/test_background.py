"""Shapes that come after compiling: what is measured for them, and which target they get."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dioe.tuning import background
from dioe.types import BackendError, Basis, Precision, Value
from tests.unit.tuning.timed import MakeBench, Timed, targets, two

# --- measuring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "target"), [(8, "cpu/fast/fp32"), (100, "cpu/flat/fp32")])
def test_the_fastest_is_chosen_for_the_shapes_that_came(
    make_bench: MakeBench, n: int, target: str
) -> None:
    bench = make_bench(*two())
    variant = bench.prepare(n)
    assert targets(variant) == (target,)
    assert bench.left_open() == 1
    assert variant is not None
    plan = variant.plan
    assert plan.basis is Basis.MEASURED
    assert plan.predicted_ms == pytest.approx(min(n / 16, 2.0), rel=0.5)
    assert plan.relative_l2 is not None
    assert plan.relative_l2 < 1e-5
    assert plan.stages[0].resources.spin is False
    assert {r.target for r in plan.candidates} == {"cpu/fast/fp32", "cpu/flat/fp32"}
    assert plan.notes[0] == "measured in the background"
    assert plan.notes[1].startswith("with open shapes ")


def test_a_bucket_is_measured_once(make_bench: MakeBench) -> None:
    bench = make_bench(*two())
    bench.prepare(100)
    before = bench.compiled()
    variant = bench.prepare(110)
    assert bench.compiled() == before + 1
    assert targets(variant) == ("cpu/flat/fp32",)
    assert variant is not None
    assert variant.plan.basis is Basis.PREDICTED
    assert variant.plan.candidates == ()
    assert variant.plan.predicted_ms == pytest.approx(2.0, rel=0.3)
    assert variant.plan.notes == (
        "prepared in the background: chosen for x 100x8, of the same bucket",
    )


def test_between_clear_neighbours_nothing_is_measured(make_bench: MakeBench) -> None:
    bench = make_bench(Timed("fast", lambda n: n / 16), Timed("slow", lambda n: n / 8))
    bench.prepare(25)
    before = bench.compiled()
    variant = bench.prepare(20)
    assert bench.compiled() == before + 1
    assert targets(variant) == ("cpu/fast/fp32",)
    assert variant is not None
    assert variant.plan.basis is Basis.PREDICTED
    assert variant.plan.predicted_ms == pytest.approx(20 / 16, rel=0.3)
    assert "interpolated between x 16x8 and x 25x8" in variant.plan.notes[0]


def test_where_neighbours_disagree_one_measures(make_bench: MakeBench) -> None:
    bench = make_bench(*two())
    bench.prepare(46)  # flat by 2.9 to 2, after fast by 1 to 2 at 16 rows
    variant = bench.prepare(30)
    assert variant is not None
    assert variant.plan.basis is Basis.MEASURED


@pytest.mark.parametrize("open_ratio", [0.9, 0.5])
def test_what_gains_nothing_stays_with_open_shapes(
    make_bench: MakeBench, open_ratio: float
) -> None:
    bench = make_bench(Timed("only", lambda n: n / 8, open_ratio=open_ratio))
    assert bench.prepare(40) is None
    assert bench.left_open() == 0
    before = bench.compiled()
    assert bench.prepare(41) is None  # the same bucket
    assert bench.compiled() == before


def test_without_a_variant_of_open_shapes_the_best_is_taken(make_bench: MakeBench) -> None:
    bench = make_bench(Timed("only", lambda n: n / 8, open_ratio=0.1))
    variant = bench.tuner.prepare(replace(bench.new(40), safe=None))
    assert targets(variant) == ("cpu/only/fp32",)


# --- fidelity ------------------------------------------------------------------------------------


def test_what_is_wrong_is_not_used(make_bench: MakeBench) -> None:
    fast, flat = two()
    flat.wrong_at = {100}
    bench = make_bench(fast, flat)
    variant = bench.prepare(100)
    assert targets(variant) == ("cpu/fast/fp32",)
    assert variant is not None
    states = {r.target: r.state for r in variant.plan.candidates}
    assert states == {"cpu/fast/fp32": "ok", "cpu/flat/fp32": "infidel"}
    assert bench.left_open() == 1


def test_a_choice_that_is_wrong_at_other_shapes_is_passed_over(make_bench: MakeBench) -> None:
    fast, flat = two()
    fast.open_ratio = 10.0
    bench = make_bench(fast, flat)
    bench.prepare(100)
    flat.wrong_at = {110}
    assert targets(bench.prepare(110)) == ("cpu/fast/fp32",)
    fast.wrong_at = {120}
    flat.wrong_at = {120}
    assert bench.prepare(120) is None
    assert bench.left_open() == 2


def test_nothing_right_leaves_the_bucket_alone(make_bench: MakeBench) -> None:
    only = Timed("only", lambda n: 1.0)
    only.wrong_at = {40}
    bench = make_bench(only)
    assert bench.prepare(40) is None
    assert bench.prepare(41) is None
    assert only.count("compile") == 2  # the safe one, and that of 40


def test_what_fails_is_passed_over(make_bench: MakeBench) -> None:
    fast, flat = two()
    flat.refused_at = {100, 110}
    bench = make_bench(fast, flat)
    variant = bench.prepare(100)
    assert targets(variant) == ("cpu/fast/fp32",)
    assert variant is not None
    (failed,) = [r for r in variant.plan.candidates if r.state == "failed"]
    assert failed.reason == "not this one"
    assert bench.left_open() == 1


def test_what_fails_while_it_is_timed_is_passed_over(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, flat = two()
    bench = make_bench(fast, flat)
    take_turn = background._Trial._take_turn

    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise BackendError("tired")

    def time_them(*arguments: Any) -> Any:
        flat.during = fail
        return take_turn(*arguments)

    monkeypatch.setattr(background._Trial, "_take_turn", time_them)
    variant = bench.prepare(100)
    assert targets(variant) == ("cpu/fast/fp32",)
    assert bench.left_open() == 1


def test_lower_precision_is_checked_on_what_came(make_bench: MakeBench) -> None:
    lossy = Timed("lossy", lambda n: 1.0, precisions=(Precision.FP32, Precision.BF16))
    error = 1e-6

    def adjust(precision: Precision, results: list[Value]) -> list[Value]:
        if precision is Precision.FP32:
            time.sleep(1e-3)
            return results
        return [np.asarray(result) * np.float32(1 + error) for result in results]

    lossy.adjust = adjust
    bench = make_bench(lossy)
    assert targets(bench.prepare(40)) == ("cpu/lossy/bf16",)
    error = 1e-2
    assert targets(bench.prepare(41)) == ("cpu/lossy/fp32",)
