"""Mixed plans: found where they win, passed over where they don't, and never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import dioe
from dioe.types import (
    Array,
    BackendError,
    Basis,
    Plan,
    Precision,
    TargetReport,
    UnsupportedError,
)
from tests.toys import models
from tests.toys.values import close, tensor
from tests.toys.work import Clock, Ops, WorkingBackend
from tests.unit.tuning.conftest import UseBackends

WHOLE = ("MatMul", "MatMul", "Gemm", "Gemm")
LEFT, RIGHT = ("MatMul", "MatMul"), ("Gemm", "Gemm")
A, B = "cpu/a/fp32", "cpu/b/fp32"
MIX = f"{A} -> {B}"


def rows(n: int = 4, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def expected(x: Array) -> Array:
    for weight in models.two_kinds().graph.initializer:
        x = x @ numpy_helper.to_array(weight)
    return x


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Two cores, whatever this machine has."""
    path = tmp_path / "pool.yaml"
    path.write_text(
        "format: dioe-pool\nversion: 1\n"
        "devices:\n- {id: cpu, kind: cpu, name: Toy CPU, capacity: 2}\n"
    )
    return path


class Bench:
    """Compiles the model of two kinds on some toys, and counts what they did for it."""

    def __init__(self, pool: Path, *toys: WorkingBackend) -> None:
        self.pool, self.toys = pool, toys

    def compile(self, model: Any = None, **settings: Any) -> dioe.Session:
        defaults: dict[str, Any] = {
            "sample_inputs": {"x": rows()},
            "devices": [f"cpu/{toy.name}" for toy in self.toys],
            "hardware": self.pool,
            "tuning_budget_s": 10,
        }
        for toy in self.toys:
            toy.forget()
        session: dioe.Session = dioe.compile(model or models.two_kinds(), **(defaults | settings))
        return session

    def plan(self, **settings: Any) -> Plan:
        """The plan; its session is right."""
        with self.compile(**settings) as session:
            self.runs = sum(len(toy.ran) for toy in self.toys)
            close(tensor(session.run({"x": rows()})), expected(rows()), 1e-4)
            return session.plan

    @property
    def parts(self) -> set[Ops]:
        """Op types of everything that was compiled and isn't the whole model."""
        return {ops for toy in self.toys for ops in toy.compiled} - {WHOLE}


def complementary(clock: Clock, **settings: Any) -> tuple[WorkingBackend, WorkingBackend]:
    """Each is good at one half: 12 ms alone, 4 and what lies between together."""
    return (
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 5.0}, **settings),
        WorkingBackend("b", clock, {"MatMul": 5.0, "Gemm": 1.0}, **settings),
    )


@pytest.fixture
def pair(clock: Clock, pool: Path, use_backends: UseBackends) -> Bench:
    toys = complementary(clock)
    use_backends(*toys)
    return Bench(pool, *toys)


def report(plan: Plan, target: str) -> TargetReport:
    return next(c for c in plan.candidates if c.target == target)


def hot(ops: Ops) -> bool:
    """Whether it is one of the two halves."""
    return ops in (LEFT, RIGHT)


# --- found and chosen ---------------------------------------------------------------------------


def test_a_mix_that_wins_is_found_chosen_explained_and_loaded(pair: Bench) -> None:
    with pair.compile() as session:
        plan = session.plan
        close(tensor(session.run({"x": rows()})), expected(rows()), 1e-4)
        assert [str(stage.target) for stage, _ in session.executables] == [A, B]
    assert plan.targets == (A, B)
    assert [stage.ops for stage in plan.stages] == [("m0", "m1"), ("g0", "g1")]
    assert [b.value for b in plan.boundaries] == ["m1_out"]
    assert plan.basis is Basis.MEASURED
    assert plan.predicted_ms == pytest.approx(4.0, rel=0.02)
    assert [stage.predicted_ms for stage in plan.stages] == pytest.approx([2.0, 2.0], rel=0.02)
    assert all(not stage.resources.spin for stage in plan.stages)
    assert plan.relative_l2 is not None
    assert plan.relative_l2 <= 1e-4
    for target in (A, B):
        assert report(plan, target).state == "ok"
        assert report(plan, target).p50_ms == pytest.approx(12.0, rel=0.02)
    assert report(plan, MIX).p50_ms == plan.predicted_ms


def test_every_block_says_what_decided(pair: Bench) -> None:
    plan = pair.plan()
    assert [(b.ops, b.stage, b.target) for b in plan.blocks] == [
        (("m0",), "s0", A), (("m1",), "s0", A), (("g0",), "s1", B), (("g1",), "s1", B)
    ]  # fmt: skip
    for block in plan.blocks:
        assert block.cost_ms == pytest.approx(1.0, rel=0.1)
        assert block.basis is Basis.CORRECTED
        assert block.runs > 0
        assert block.runner_up
        assert block.difference_ms is not None
        assert block.difference_ms > 0
        assert block.reason
    assert f"blocks on {A}: 2 of 4" in plan.explain()


def test_the_plan_is_read_back_and_loaded(pair: Bench, tmp_path: Path) -> None:
    plan = pair.plan()
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert dioe.load_plan(path) == plan
    for toy in pair.toys:
        toy.forget()
    with dioe.compile(models.two_kinds(), plan=path, hardware=pair.pool) as session:
        assert session.plan == plan
        close(tensor(session.run({"x": rows()})), expected(rows()), 1e-4)
    assert pair.parts == {LEFT, RIGHT}


def test_three_stages_where_three_win(clock: Clock, pool: Path, use_backends: UseBackends) -> None:
    toys = (
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 9.0}),
        WorkingBackend("b", clock, {"MatMul": 9.0, "Gemm": 1.0}),
    )
    use_backends(*toys)
    proto = models.dense("4", 8)  # MatMul, Add, Relu; MatMul
    proto.graph.node[3].op_type = "Gemm"
    bench = Bench(pool, *toys)
    with bench.compile(proto) as session:
        assert session.plan.targets == (A, B)
        close(tensor(session.run({"x": rows()})), models.dense_output(proto, rows()), 1e-4)


def test_a_mix_that_cant_win_isnt_tried(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = (
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 1.5}),
        WorkingBackend("b", clock, {"MatMul": 1.2, "Gemm": 2.0}),
    )
    use_backends(*toys)
    bench = Bench(pool, *toys)
    plan = bench.plan()
    assert plan.targets == (A,)
    assert {c.target for c in plan.candidates} == {A, B}
    assert bench.parts == set()
    assert [(b.target, b.ops) for b in plan.blocks] == [(A, (op,)) for op in plan.stages[0].ops]


def test_a_mix_whose_boundary_costs_what_it_gains_isnt_chosen(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = (
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 1.0}, compile_ms=0.5),
        WorkingBackend("b", clock, {"MatMul": 1.5, "Gemm": 0.99}, compile_ms=0.5),
    )
    use_backends(*toys)
    assert Bench(pool, *toys).plan().targets == (A,)


def recurrent_plan(bench: Bench) -> Plan:
    """The plan for a model that works in small steps; its session is right."""
    proto, x = models.recurrent(), rows(3)[:, None]
    with bench.compile(proto, sample_inputs={"x": x}) as session:
        close(tensor(session.run({"x": x})), models.recurrent_output(proto, x), 1e-4)
        return session.plan


def test_one_thread_is_found_where_it_is_faster(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    one = WorkingBackend("a", clock, {"RNN": 4.0, "Gemm": 2.0}, one_thread={"RNN": 0.5})
    use_backends(one)
    plan = recurrent_plan(Bench(pool, one))
    assert len(plan.stages) == 1
    assert plan.stages[0].resources.threads == 1
    assert plan.predicted_ms == pytest.approx(4.0, rel=0.02)
    assert report(plan, f"{A} on 1 thread").state == "ok"
    assert report(plan, A).p50_ms == pytest.approx(6.0, rel=0.02)


def test_threads_differ_between_stages_where_that_is_fastest(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = (
        WorkingBackend("a", clock, {"RNN": 4.0, "Gemm": 5.0}, one_thread={"RNN": 0.5}),
        WorkingBackend("b", clock, {"RNN": 9.0, "Gemm": 1.0}, one_thread={"Gemm": 1.2}),
    )
    use_backends(*toys)
    plan = recurrent_plan(Bench(pool, *toys))
    assert plan.targets == (A, B)
    assert [stage.resources.threads for stage in plan.stages] == [1, None]
    assert plan.predicted_ms == pytest.approx(3.0, rel=0.02)


# --- a part of the model ------------------------------------------------------------------------


def test_backends_that_take_a_part_each_run_the_model_together(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = (
        WorkingBackend("a", clock, {"MatMul": 1.0}, refuses=["Gemm"]),
        WorkingBackend("b", clock, {"Gemm": 1.0}, refuses=["MatMul"]),
    )
    use_backends(*toys)
    bench = Bench(pool, *toys)
    plan = bench.plan()
    assert plan.targets == (A, B)
    assert plan.predicted_ms == pytest.approx(4.0, rel=0.02)
    for target, op in ((A, "Gemm"), (B, "MatMul")):
        refused = report(plan, target)
        assert refused.state == "unsupported"
        assert f"has no {op}" in refused.reason
    assert all(toy.refused == [] for toy in toys)
    assert not bench.plan().notes
    assert bench.runs == 0


def test_without_a_budget_a_plan_of_them_is_guessed(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = (
        WorkingBackend("a", clock, {}, refuses=["Gemm"]),
        WorkingBackend("b", clock, {}, refuses=["MatMul"]),
    )
    use_backends(*toys)
    plan = Bench(pool, *toys).plan(tuning_budget_s=0)
    assert plan.targets == (A, B)
    assert plan.predicted_ms is None
    assert {stage.basis for stage in plan.stages} == {Basis.DEFAULT}
    assert any("nothing was measured" in note for note in plan.notes)
    assert all("has no" in c.reason for c in plan.candidates)


def test_an_op_that_nobody_takes_is_refused(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = tuple(WorkingBackend(name, clock, {}, refuses=["Gemm"]) for name in ("a", "b"))
    use_backends(*toys)
    with pytest.raises(UnsupportedError, match="has no Gemm") as caught:
        Bench(pool, *toys).compile()
    assert "dioe inspect" in caught.value.fix


@pytest.mark.parametrize("whole_ms", [5.0, 1.0])
def test_a_backend_that_takes_a_part_is_used_where_it_is_faster(
    clock: Clock, pool: Path, use_backends: UseBackends, whole_ms: float
) -> None:
    toys = (
        WorkingBackend("a", clock, {"MatMul": 1.2}, refuses=["Gemm"]),
        WorkingBackend("b", clock, {"MatMul": whole_ms, "Gemm": 1.0}),
    )
    use_backends(*toys)
    plan = Bench(pool, *toys).plan()
    assert plan.targets == ((A, B) if whole_ms > 1.2 else (B,))
    assert report(plan, A).state == "unsupported"


def test_a_plan_of_parts_found_just_as_the_budget_ends_is_used(
    clock: Clock, pool: Path, use_backends: UseBackends, tmp_path: Path
) -> None:
    toys = (
        WorkingBackend("a", clock, {"MatMul": 20.0}, refuses=["Gemm"]),
        WorkingBackend("b", clock, {"Gemm": 20.0}, refuses=["MatMul"]),
    )
    use_backends(*toys)
    bench = Bench(pool, *toys)

    def outcome(tenths: int) -> str:
        try:
            plan = bench.plan(tuning_budget_s=tenths / 10, cache_dir=tmp_path / f"{tenths}")
        except UnsupportedError as error:
            return error.fix
        return " -> ".join(plan.targets)

    outcomes = [outcome(tenths) for tenths in range(1, 21)]
    first = outcomes.index(MIX)
    assert all("a larger tuning budget" in fix for fix in outcomes[:first])
    assert set(outcomes[first:]) == {MIX}


# --- passed over --------------------------------------------------------------------------------


def test_a_mix_that_cant_be_compiled_is_passed_over(pair: Bench) -> None:
    def hook(what: str, ops: Ops) -> None:
        if what == "compile" and ops == RIGHT:
            raise BackendError("out of toys")

    for toy in pair.toys:
        toy.hook = hook
    plan = pair.plan()
    failed = report(plan, f"{MIX} (2+2 ops)")
    assert failed.state == "failed"
    assert "out of toys" in failed.reason
    assert plan.targets == (A, B)  # cut elsewhere
    assert report(plan, MIX).p50_ms == plan.predicted_ms == pytest.approx(8.0, rel=0.02)


@pytest.mark.parametrize("error", [BackendError("out of luck"), ValueError("out of luck")])
def test_a_mix_that_cant_run_is_passed_over(pair: Bench, error: Exception) -> None:
    def hook(what: str, ops: Ops) -> None:
        if what == "run" and hot(ops):
            raise error

    for toy in pair.toys:
        toy.hook = hook
    plan = pair.plan()
    failed = report(plan, f"{MIX} (2+2 ops)")
    assert failed.state == "failed"
    assert "out of luck" in failed.reason
    assert failed.target in plan.explain()
    assert plan.predicted_ms == pytest.approx(8.0, rel=0.02)


def test_a_mix_that_fails_only_in_the_rounds_is_passed_over(pair: Bench) -> None:
    """Its first try worked."""
    runs = 0

    def hook(what: str, ops: Ops) -> None:
        nonlocal runs
        runs += what == "run" and hot(ops)
        if runs > 200 and hot(ops):
            raise BackendError("out of breath")

    for toy in pair.toys:
        toy.hook = hook
    plan = pair.plan()
    assert plan.targets in ((A,), (B,))
    failed = report(plan, MIX)
    assert failed.state == "failed"
    assert "out of breath" in failed.reason


def test_a_mix_that_errs_is_passed_over(pair: Bench) -> None:
    for toy in pair.toys:
        toy.wrong = lambda ops: 1e-2 * hot(ops)
    plan = pair.plan()
    infidel = report(plan, f"{MIX} (2+2 ops)")
    assert infidel.state == "infidel"
    assert "limit 0.0001" in infidel.reason
    assert infidel.relative_l2 == pytest.approx(2e-2, rel=0.05)
    assert plan.relative_l2 is not None
    assert plan.relative_l2 <= 1e-4


def test_a_whole_that_errs_is_no_place_for_a_part(pair: Bench) -> None:
    a, _ = pair.toys
    a.wrong = lambda ops: 1e-2 * (ops == WHOLE)
    plan = pair.plan()
    assert plan.targets == (B,)
    assert report(plan, A).state == "infidel"


def test_a_mix_that_cant_be_loaded_in_the_end_is_passed_over(pair: Bench) -> None:
    """Its targets aren't broken: each runs the whole."""
    tuned = False

    def hook(what: str, ops: Ops) -> None:
        if tuned and what == "compile" and hot(ops):
            raise BackendError("out of memory, now")

    for toy in pair.toys:
        toy.hook = hook
    pair.plan()
    tuned = True
    with pair.compile() as session:
        assert session.plan.targets in ((A,), (B,))
        close(tensor(session.run({"x": rows()})), expected(rows()), 1e-4)


# --- precision ----------------------------------------------------------------------------------


def lossy(clock: Clock, **settings: Any) -> WorkingBackend:
    """Twice as fast in bf16; its ``Gemm`` err there by 3 % each."""
    return WorkingBackend(
        "a", clock, {"MatMul": 2.0, "Gemm": 2.0}, precisions=[Precision.FP32, Precision.BF16],
        errors={"Gemm": 3e-2, "MatMul": 1e-3}, mixes=True, **settings,
    )  # fmt: skip


def test_blocks_that_err_little_are_lowered(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toy = lossy(clock)
    use_backends(toy)
    plan = Bench(pool, toy).compile(precision="auto").plan
    assert plan.targets == ("cpu/a/bf16+fp32",)
    (stage,) = plan.stages
    assert [stage.precisions.of(op) for op in stage.ops] == ["bf16", "bf16", "fp32", "fp32"]
    assert plan.predicted_ms == pytest.approx(6.0, rel=0.02)
    assert plan.relative_l2 == pytest.approx(2e-3, rel=0.05)
    assert plan.tradeoffs
    assert report(plan, "cpu/a/bf16").state == "infidel"


def test_low_precision_that_errs_hides_no_mix_as_written(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    """However fast it is: 0.6 ms here, a third of any other target's time."""
    toys = (
        *complementary(clock),
        WorkingBackend(
            "c", clock, {"MatMul": 3.0, "Gemm": 3.0}, lowered=0.05,
            precisions=[Precision.FP32, Precision.BF16], errors={"Gemm": 1.0},
        ),
    )  # fmt: skip
    use_backends(*toys)
    plan = Bench(pool, *toys).plan(precision="auto")
    assert report(plan, "cpu/c/bf16").state == "infidel"
    assert plan.targets == (A, B)


def test_made_up_inputs_lower_nothing(clock: Clock, pool: Path, use_backends: UseBackends) -> None:
    toy = lossy(clock)
    use_backends(toy)
    bench = Bench(pool, toy)
    plan = bench.compile(precision="auto", sample_inputs=None).plan
    assert plan.targets == ("cpu/a/fp32",)
    assert not any("+" in c.target for c in plan.candidates)
    assert plan.tradeoffs == ()


def test_as_written_lowers_nothing(clock: Clock, pool: Path, use_backends: UseBackends) -> None:
    toy = lossy(clock)
    use_backends(toy)
    plan = Bench(pool, toy).plan()
    assert plan.targets == ("cpu/a/fp32",)
    assert not any("bf16" in c.target for c in plan.candidates)
