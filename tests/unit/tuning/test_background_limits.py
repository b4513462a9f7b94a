"""Shapes that come after compiling where there is no time, quiet, memory or cost to go by."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

import pytest

from dioe.hardware import host_pool
from dioe.hardware.limits import limits_from
from dioe.profiling import measuring
from dioe.runtime import Stopped
from dioe.tuning import background, shape_options
from dioe.tuning.limited import Limited
from dioe.types import Basis, OutOfMemory
from tests.unit.tuning.timed import Bench, MakeBench, Timed, targets, two


def check_guess(bench: Bench) -> None:
    variant = bench.prepare(100)
    assert targets(variant) == ("cpu/fast/fp32",)
    assert variant is not None
    assert variant.plan.basis is Basis.PREDICTED
    assert variant.plan.notes == (
        "prepared in the background: chosen for x 16x8, the nearest measured",
    )


def test_without_a_quiet_moment_the_nearest_choice_is_taken(make_bench: MakeBench) -> None:
    bench = make_bench(*two())
    bench.is_quiet = False
    check_guess(bench)
    bench.is_quiet = True
    assert targets(bench.prepare(101)) == ("cpu/flat/fp32",)  # now the bucket is measured


def test_all_buckets_together_have_a_budget(make_bench: MakeBench) -> None:
    bench = make_bench(*two(), budget_s=0.2)
    start = time.perf_counter()
    for n in (400, 1600):
        assert bench.prepare(n) is not None
    assert time.perf_counter() - start < 5
    check_guess(make_bench(*two(), budget_s=-1.0))


def test_another_who_measures_is_waited_for(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_LOCK_WAIT_S", 0.3)
    monkeypatch.setattr(background, "_LOCK_STEP_S", 0.05)
    monkeypatch.setattr(background, "measuring", lambda **settings: measuring_elsewhere())
    check_guess(make_bench(*two()))
    assert not caplog.records


def measuring_elsewhere() -> Any:
    """The lock as someone finds it who doesn't get it."""
    return contextlib.nullcontext(False)


def test_the_lock_is_free_afterwards(make_bench: MakeBench) -> None:
    bench = make_bench(*two())
    bench.prepare(100)
    with measuring(timeout_s=0) as locked:
        assert locked


def test_other_runs_meanwhile_make_it_noisy(make_bench: MakeBench) -> None:
    bench = make_bench(Timed("fast", lambda n: n / 16), Timed("slow", lambda n: n / 8))
    bench.paused = [True] * 3
    variant = bench.prepare(25)
    assert variant is not None
    assert "noisy" in variant.plan.notes[-1]
    assert any(r.noisy for r in variant.plan.candidates)
    variant = bench.prepare(20)
    assert variant is not None
    assert variant.plan.basis is Basis.MEASURED  # it is no ground to predict on


def test_to_stop_frees_everything(make_bench: MakeBench) -> None:
    for steps in range(6):
        bench = make_bench(*two())
        left = steps

        def pause() -> bool:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped
            return False

        with pytest.raises(Stopped):
            bench.tuner.prepare(replace(bench.new(100), pause=pause))
        assert bench.left_open() == 0


def test_short_memory_is_an_error(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_options, "MEMORY_RESERVE", 1.0)
    with pytest.raises(OutOfMemory):
        make_bench(*two()).prepare(100)


def test_shapes_to_come_keep_to_memory_limits(make_bench: MakeBench) -> None:
    limited = Limited(limits_from({"memory": {"cpu": "100 kB"}}), host_pool())
    bench = make_bench(*two(), limited=limited)
    (stage,) = bench.plan.stages
    stage = replace(stage, resources=limited.resources("cpu", stage.resources))
    bench.plan = replace(bench.plan, stages=(stage,))
    bench.tuner = bench.make_tuner()
    fitting = bench.prepare(100)
    assert fitting is not None
    assert fitting.plan.stages[0].resources.memory_limit_bytes == 100_000
    assert bench.prepare(4000) is None
    assert bench.tuner.choices  # that it stays on open shapes is known now


def test_a_default_plan_has_no_costs_to_go_by(make_bench: MakeBench) -> None:
    bench = make_bench(*two())
    bench.plan = replace(bench.plan, predicted_ms=None, basis=Basis.DEFAULT)
    bench.tuner = bench.make_tuner()
    bench.is_quiet = False
    variant = bench.prepare(100)
    assert variant is not None
    assert variant.plan.basis is Basis.DEFAULT
    assert variant.plan.predicted_ms is None
