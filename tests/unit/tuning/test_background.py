"""Shapes that come after compiling: what they are run on, what is measured for that, what isn't."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dioe
from dioe.graph import Model
from dioe.hardware import host_pool, resources_for
from dioe.profiling import measuring
from dioe.runtime import NewShape, Runtime, Session, Stopped, Variant, load
from dioe.runtime import background as runtime_background
from dioe.tuning import background, shape_options
from dioe.tuning.background import BackgroundTuner
from dioe.types import (
    Array,
    BackendError,
    Basis,
    Feeds,
    OutOfMemory,
    Precision,
    Precisions,
    StageModel,
    TargetReport,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend, ToyContext, ToyExecutable, registry_of
from tests.toys.plans import plan_for
from tests.toys.stages import staged_plan
from tests.toys.values import close, tensor
from tests.unit.tuning.conftest import UseBackends

WAIT_S = 60.0
ROWS = 16
"""The model is tuned for so many, in 1 ms on ``fast``."""


def rows(n: int, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)


class Timed(ToyBackend):
    """Takes as long as ``cost_ms`` says for a number of rows; ``open_ratio`` times that if it was
    compiled with open shapes. ``wrong_at`` are numbers of rows it gets wrong."""

    def __init__(
        self,
        name: str,
        cost_ms: Callable[[int], float],
        *,
        open_ratio: float = 2.0,
        precisions: Sequence[Precision] = (Precision.FP32,),
    ) -> None:
        super().__init__(name, precisions=precisions)
        self.cost_ms, self.open_ratio = cost_ms, open_ratio
        self.wrong_at: set[int] = set()
        self.refused_at: set[int] = set()

    def open(self, device: str, resources: Any) -> TimedContext:
        return TimedContext(self, device, resources)


class TimedContext(ToyContext):
    backend: Timed

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> ToyExecutable:
        made = super().compile(model, precisions, options, calibration)
        backend, static = self.backend, made.inputs[0].static
        shape = made.inputs[0].shape or ()
        if static and shape[0] in backend.refused_at:
            raise BackendError("not this one")
        evaluate = made.evaluate

        def timed(names: list[str], inputs: dict[str, Value]) -> list[Value]:
            start = time.perf_counter()
            (result,) = evaluate(names, inputs)
            n = np.asarray(result).shape[0]
            if static and n in backend.wrong_at:
                result = np.asarray(result) * np.float32(1.5)
            cost_s = backend.cost_ms(n) * (1.0 if static else backend.open_ratio) / 1e3
            while time.perf_counter() - start < cost_s:
                time.sleep(1e-4)
            return [result]

        made.evaluate = timed  # type: ignore[method-assign]
        return made


class Bench:
    """A tuner on toy backends, and what a session would hand it."""

    def __init__(self, *backends: Timed, **settings: Any) -> None:
        self.backends = {backend.name: backend for backend in backends}
        self.runtime = Runtime(registry_of(*backends, installed=("onnxruntime",)))
        self.proto = models.dense()
        self.model = Model.load(self.proto)
        reports = tuple(
            TargetReport(f"cpu/{b.name}/{p}", "ok", p50_ms=b.cost_ms(ROWS))
            for b in backends
            for p in sorted(b.precisions)
        )
        best = min(reports, key=lambda r: r.p50_ms or 0.0)
        plan = plan_for(self.model, best.target, {"x": (ROWS, 8)}, candidates=reports)
        usual = resources_for(host_pool().device("cpu"))
        stages = tuple(replace(stage, resources=usual) for stage in plan.stages)
        self.plan = replace(plan, stages=stages, predicted_ms=best.p50_ms, basis=Basis.MEASURED)
        self.settings = {"budget_s": 2.0} | settings
        self.tuner = self.make_tuner()
        self.safe = self.load_open()
        self.is_quiet = True
        self.paused: list[bool] = []

    def make_tuner(self) -> BackgroundTuner:
        return BackgroundTuner(
            self.model, [self.plan], pool=host_pool(), runtime=self.runtime, **self.settings
        )

    def load_open(self) -> Variant:
        plan = replace(self.plan, shapes={"x": ("N", 8)})
        return Variant(load(plan, self.model, self.runtime, {"s0": self.model}))

    def new(self, n: int) -> NewShape:
        bound = self.model.with_shapes({"x": (n, 8)})
        return NewShape(
            feeds={"x": rows(n)},
            model=bound,
            load=lambda plan: Variant(load(plan, bound, self.runtime, {"s0": bound})),
            safe=self.safe,
            quiet=lambda: self.is_quiet,
            pause=lambda: self.paused.pop() if self.paused else False,
        )

    def prepare(self, n: int) -> Variant | None:
        """Prepare for so many rows; what comes of it gives the right answer."""
        variant = self.tuner.prepare(self.new(n))
        if variant is not None:
            (y,) = variant.run({"x": rows(n)}, ["y"])
            assert isinstance(y, np.ndarray)
            close(y, models.dense_output(self.proto, rows(n)))
            assert variant.guard is not None
            assert variant.plan.shapes == {"x": (n, 8)}
        return variant

    def compiled(self) -> int:
        return sum(backend.count("compile") for backend in self.backends.values())

    def left_open(self) -> int:
        closed = sum(backend.count("close executable") for backend in self.backends.values())
        return self.compiled() - closed - 1  # without the safe one


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*backends: Timed, **settings: Any) -> Bench:
        made.append(Bench(*backends, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.runtime.close()


MakeBench = Callable[..., Bench]


def two() -> tuple[Timed, Timed]:
    """``fast`` grows with the rows, ``flat`` doesn't: from 32 rows on it is the faster one."""
    return Timed("fast", lambda n: n / 16), Timed("flat", lambda n: 2.0)


def targets(variant: Variant | None) -> tuple[str, ...]:
    assert variant is not None
    return variant.plan.targets


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


# --- when there is no time to measure ------------------------------------------------------------


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
    import contextlib

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


def test_a_default_plan_has_no_costs_to_go_by(make_bench: MakeBench) -> None:
    bench = make_bench(*two())
    bench.plan = replace(bench.plan, predicted_ms=None, basis=Basis.DEFAULT)
    bench.tuner = bench.make_tuner()
    bench.is_quiet = False
    variant = bench.prepare(100)
    assert variant is not None
    assert variant.plan.basis is Basis.DEFAULT
    assert variant.plan.predicted_ms is None


def test_a_plan_of_several_stages_goes_on_to_other_shapes() -> None:
    front, back = Timed("front", lambda n: 0.2), Timed("back", lambda n: 0.2)
    proto = models.dense()
    model = Model.load(proto)
    first, *others = model.op_ids
    plan = staged_plan(model, [("front", [first]), ("back", others)], {"x": (ROWS, 8)})
    whole = TargetReport("cpu/front/fp32", "infidel")
    plan = replace(plan, predicted_ms=0.5, basis=Basis.MEASURED, candidates=(whole,))
    runtime = Runtime(registry_of(front, back, installed=("onnxruntime",)))
    tuner = BackgroundTuner(model, [plan], pool=host_pool(), runtime=runtime, budget_s=2.0)
    with Session(model, [plan], runtime=runtime, tuner=tuner) as session:
        check_shapes(session, [40], proto)
        assert session.wait_for_tuning(WAIT_S)
        check_shapes(session, [40], proto)
        assert session.plan.targets == ("cpu/front/fp32", "cpu/back/fp32")
        assert session.plan.shapes == {"x": (40, 8)}
    assert front.count("compile") == front.count("close executable") == 3


# --- dioe.compile --------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_background, "MAX_QUIET_WAIT_S", 0.2)


def compiled(proto: onnx.ModelProto, **settings: Any) -> Session:
    defaults: dict[str, Any] = {"sample_inputs": {"x": rows(ROWS)}, "tuning_budget_s": 1.0}
    return dioe.compile(proto, **(defaults | settings))


def check_shapes(session: Session, numbers: Sequence[int], proto: onnx.ModelProto) -> None:
    for n in numbers:
        x = rows(n, seed=n)
        close(tensor(session.run({"x": x})), models.dense_output(proto, x), 1e-4)


@pytest.mark.usefixtures("impatient")
def test_sessions_tune_later_shapes(use_backends: UseBackends) -> None:
    fast = Timed("fast", lambda n: n / 16)
    use_backends(fast)
    proto = models.dense()
    with compiled(proto, devices="cpu/fast") as session:
        check_shapes(session, [40, 5, 40], proto)
        assert session.wait_for_tuning(WAIT_S)
        check_shapes(session, [40, 5, 16], proto)
        found = {plan.shapes["x"][0]: plan for plan in session.plans}
    assert set(found) == {16, "N", 40, 5}
    assert fast.count("compile") == fast.count("close executable")


@pytest.mark.usefixtures("impatient")
def test_real_backends_tune_later_shapes() -> None:
    proto = models.dense()
    with compiled(proto, tuning_budget_s=1.5) as session:
        check_shapes(session, [40, 5, 7, 40], proto)
        assert session.wait_for_tuning(WAIT_S)
        check_shapes(session, [40, 5, 7, 16, 3], proto)
        assert session.wait_for_tuning(WAIT_S)


@pytest.mark.parametrize("settings", [{"tune_shapes": False}, {"tuning_budget_s": 0}])
def test_tuning_for_shapes_can_be_left_out(settings: dict[str, Any]) -> None:
    proto = models.dense()
    with compiled(proto, **settings) as session:
        check_shapes(session, [40, 5], proto)
        assert session.wait_for_tuning(0)
        assert [plan.shapes["x"][0] for plan in session.plans] == [16, "N"]


def test_a_plan_made_before_measures_nothing(tmp_path: Path) -> None:
    proto = models.dense()
    with compiled(proto, tuning_budget_s=0.5) as session:
        plan = session.plan
    with dioe.compile(proto, plan=plan) as session:
        check_shapes(session, [40], proto)
        assert session.wait_for_tuning(0)
        assert len(session.plans) == 2


def test_models_of_fixed_shapes_have_nothing_to_tune() -> None:
    with dioe.compile(models.relu(), tuning_budget_s=0.5) as session:
        assert session.wait_for_tuning(0)
        session.run({"x": np.ones((1, 4), np.float32)})


def test_models_too_large_for_variants_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_options, "MEMORY_SHARE", 0.0)
    proto = models.dense()
    with compiled(proto, tuning_budget_s=0.5) as session:
        check_shapes(session, [40], proto)
        assert session.wait_for_tuning(0)
        assert len(session.plans) == 2
