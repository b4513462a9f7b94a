"""What parts cost: the cost table of a model of two kinds, learnt from toys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dioe.graph import Model
from dioe.hardware import load_pool
from dioe.planning import place
from dioe.profiling import History, rounds
from dioe.runtime import Runtime
from dioe.tuning.beside import Setting, settings_beside
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.known import Known
from dioe.tuning.parts import Parts
from dioe.tuning.targets import candidates
from dioe.types import (
    BackendError,
    Basis,
    Precision,
    Precisions,
    Resources,
    Stage,
    Target,
    UnsupportedError,
)
from tests.toys import models
from tests.toys.work import Clock, Ops, WorkingBackend
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.test_mixed import WHOLE, complementary, pool, rows

__all__ = ["pool"]

OWN = Resources(spin=False)


# --- measuring ----------------------------------------------------------------------------------


class Table:
    """The parts of the model of two kinds on some toys."""

    def __init__(
        self, runtime: Runtime, pool: Path, history: History, *toys: WorkingBackend
    ) -> None:
        self.runtime, self.pool, self.history, self.toys = runtime, pool, history, toys
        self.model = Model.load(models.two_kinds())
        self.told: list[str] = []
        precision = "auto" if len(toys[0].precisions) > 1 else "fp32"
        found = candidates(
            self.model, load_pool(pool), runtime, precision=precision, quantised=False,
            devices=[f"cpu/{toy.name}" for toy in toys],
        )  # fmt: skip
        self.settings = settings_beside(found, load_pool(pool), small_pieces=False)

    def parts(self) -> Parts:
        """Made anew, as another tuning would."""
        known = Known(
            self.history, self.model.sha256, {"x": (4, 8)}, "samples", "machine",
            {toy.name: "1" for toy in self.toys},
        )  # fmt: skip
        for toy in self.toys:
            toy.forget()
        return Parts(self.model, {"x": rows()}, self.runtime, known, Stopwatch(), self.told.append)

    def measured(self, budget_s: float = 10.0) -> Parts:
        """With wholes."""
        parts = self.parts()
        self.complete = parts.measure_wholes(self.settings, Budget(budget_s), locked=True)
        return parts

    def alone(self, parts: Parts, settings: Sequence[Setting], budget_s: float = 10.0) -> None:
        target = Target("cpu", "onnxruntime")
        with self.runtime.context(target, OWN) as context:
            parts.measure_alone(settings, Budget(budget_s), context, locked=True)


MakeTable = Callable[..., Table]


@pytest.fixture
def make_table(pool: Path, use_backends: UseBackends) -> MakeTable:
    def make(*toys: WorkingBackend) -> Table:
        return Table(use_backends(*toys), pool, History(None), *toys)

    return make


def costs(parts: Parts, setting: Setting) -> list[float]:
    """What each block costs in a setting, in their order."""
    problem = parts.problem([setting])
    return [problem.targets[0].blocks[block.id].ms for block in problem.blocks]


def test_blocks_cost_their_share_of_the_whole(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    parts = table.measured()
    assert table.complete
    a, b = table.settings
    assert parts.wholes == [a, b]
    assert parts.whole_ms(a) == pytest.approx(12.0, rel=0.01)
    problem = parts.problem([a, b])
    for target, expected in zip(problem.targets, ([1, 1, 5, 5], [5, 5, 1, 1]), strict=True):
        found = [target.blocks[block.id] for block in problem.blocks]
        assert [cost.ms for cost in found] == pytest.approx(expected, rel=0.01)
        assert {cost.basis for cost in found} == {Basis.CORRECTED}
        assert all(cost.runs > 0 for cost in found)


def test_without_per_op_times_the_work_decides(clock: Clock, make_table: MakeTable) -> None:
    a, b = complementary(clock)
    a.profiles = False
    table = make_table(a, b)
    parts = table.measured()
    found = costs(parts, table.settings[0])
    assert sum(found) == pytest.approx(12.0, rel=0.01)
    assert found == pytest.approx([3.0] * 4, rel=0.01)  # all do the same work


def test_what_cant_be_timed_or_profiled_is_left_out(clock: Clock, make_table: MakeTable) -> None:
    a, b = complementary(clock)

    def hook(what: str, ops: Ops) -> None:
        if what == "run":
            raise BackendError("out of order")

    a.hook = hook
    table = make_table(a, b)
    parts = table.measured()
    assert [s.target.backend for s in parts.wholes] == ["b"]
    assert parts.left_out == {"cpu/a/fp32": "out of order"}


def test_a_setting_far_slower_than_the_best_is_left_out(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 1.0}),
        WorkingBackend("b", clock, {"MatMul": 9.0, "Gemm": 9.0}),
    )
    assert [s.target.backend for s in table.measured().wholes] == ["a"]
    assert table.complete  # there is nothing more to learn


def hasty(clock: Clock) -> tuple[WorkingBackend, WorkingBackend]:
    """One that is ten times as fast in bf16, and one as slow as the first as written, or nearly."""
    return (
        WorkingBackend(
            "a", clock, {"MatMul": 3.0, "Gemm": 3.0}, lowered=0.1,
            precisions=[Precision.FP32, Precision.BF16],
        ),
        WorkingBackend("b", clock, {"MatMul": 4.0, "Gemm": 4.0}),
    )  # fmt: skip


def test_low_precision_that_may_err_too_much_drops_nothing(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*hasty(clock))
    assert {s.name for s in table.measured().wholes} == {
        "cpu/a/fp32", "cpu/a/bf16", "cpu/b/fp32"
    }  # fmt: skip
    assert table.complete


def test_low_precision_that_is_known_to_be_right_drops_what_is_slow(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*hasty(clock))
    parts = table.parts()
    assert parts.measure_wholes(
        table.settings, Budget(10.0), locked=True, meets=lambda setting: True
    )
    assert [s.name for s in parts.wholes] == ["cpu/a/bf16"]
    assert parts.left_out["cpu/b/fp32"].startswith("as a whole it takes 16 ms, the best 1.2")


def test_nothing_is_dropped_beside_nothing_that_is_right(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*hasty(clock))
    parts = table.parts()
    parts.measure_wholes(table.settings, Budget(10.0), locked=True, meets=lambda setting: False)
    assert len(parts.wholes) == 3
    assert parts.left_out == {}


def test_what_is_known_drops_what_is_new(clock: Clock, make_table: MakeTable) -> None:
    a = WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 1.0})
    b = WorkingBackend("b", clock, {"MatMul": 9.0, "Gemm": 9.0})
    table = make_table(a, b)
    parts = table.parts()
    for setting in table.settings:
        parts.measure_wholes([setting], Budget(10.0), locked=True)
    assert [s.target.backend for s in parts.wholes] == ["a"]


def test_wholes_are_known_the_next_time(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    first = table.measured()
    again = table.measured(budget_s=0.0)
    assert table.complete
    assert all(toy.compiled == [] for toy in table.toys)
    assert costs(again, table.settings[1]) == pytest.approx(costs(first, table.settings[1]))
    assert not again.noisy


def test_noise_is_told(
    clock: Clock, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(*complementary(clock))
    assert not table.measured().noisy
    table.history.clear()
    monkeypatch.setattr(rounds, "others_share", lambda before, after: 0.5)
    assert table.measured().noisy


def test_a_budget_that_is_too_small_leaves_settings_out(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*complementary(clock, compile_ms=300.0))
    start = clock.seconds()
    parts = table.measured(budget_s=0.5)
    assert not table.complete
    assert clock.seconds() - start < 1.0
    assert len(parts.wholes) < 2
    assert "budget" in parts.left_out["cpu/b/fp32"]


# --- alone --------------------------------------------------------------------------------------


def test_blocks_alone_are_measured_once_each(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    parts = table.parts()
    table.alone(parts, table.settings)
    for toy in table.toys:
        assert sorted(toy.compiled) == [("Gemm",), ("MatMul",)]  # of four blocks two are distinct
    assert parts.settings == table.settings
    assert costs(parts, table.settings[0]) == pytest.approx([1, 1, 5, 5], rel=0.01)
    problem = parts.problem(table.settings)
    bases = {cost.basis for target in problem.targets for cost in target.blocks.values()}
    assert bases == {Basis.MEASURED}
    assert table.told[0].startswith("block 1 of 4: matmul")
    again = table.parts()
    table.alone(again, table.settings, budget_s=0.0)
    assert all(toy.compiled == [] for toy in table.toys)
    assert costs(again, table.settings[0]) == costs(parts, table.settings[0])


def test_inputs_are_made_up_where_nothing_can_be_captured(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*complementary(clock))
    parts = table.parts()
    parts.measure_alone(table.settings, Budget(10.0), None, locked=True)
    assert costs(parts, table.settings[0]) == pytest.approx([1, 1, 5, 5], rel=0.01)


def test_blocks_that_a_target_refuses_have_no_cost_there(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(
        WorkingBackend("a", clock, {"MatMul": 1.0}, refuses=["Gemm"]),
        WorkingBackend("b", clock, {"MatMul": 5.0, "Gemm": 1.0}),
    )
    parts = table.measured()
    table.alone(parts, table.settings)
    a, b = parts.problem(table.settings).targets
    assert list(a.blocks) == ["block0", "block1"]
    assert len(b.blocks) == 4
    assert table.toys[0].refused == []
    placement = place(parts.problem(table.settings))[0]
    assert [len(stage.blocks) for stage in placement.stages] == [2, 2]


def test_blocks_without_figures_have_their_reasons(
    clock: Clock, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = complementary(clock)
    c = WorkingBackend("c", clock, {}, refuses=["Gemm"])
    table = make_table(a, b, c)

    def fail(device: str, resources: object) -> None:
        raise BackendError("sulks")

    monkeypatch.setattr(b, "open", fail)
    parts = table.parts()
    found = parts.measure_alone(table.settings, Budget(10.0), None, locked=True)
    matmul, gemm = dict.fromkeys(block.structure_hash for block in parts.blocks)
    assert {key: each for key, each in found.items() if isinstance(each, str)} == {
        (matmul, "cpu/b/fp32"): "sulks",
        (gemm, "cpu/b/fp32"): "sulks",
        (gemm, "cpu/c/fp32"): "c has no Gemm",
    }
    timed = {key for key, each in found.items() if not isinstance(each, str)}
    assert timed == {(matmul, "cpu/a/fp32"), (gemm, "cpu/a/fp32"), (matmul, "cpu/c/fp32")}
    assert {s.name for s in parts.settings} == {"cpu/a/fp32", "cpu/c/fp32"}


def test_progress_is_told_in_figures_too(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    told: list[tuple[int, int]] = []
    table.parts().measure_alone(
        table.settings, Budget(10.0), None, locked=True,
        progress=lambda text, done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(done, 4) for done in range(4)]
    assert table.told == []


def test_nothing_known_is_nothing_to_place(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    with pytest.raises(UnsupportedError):
        place(table.parts().problem(table.settings))


# --- learning -----------------------------------------------------------------------------------


def stages_of(table: Table) -> tuple[Stage, Stage]:
    a, b = table.settings
    return (
        Stage("s0", a.target, ("m0", "m1"), ("x",), ("m1_out",), resources=a.resources),
        Stage("s1", b.target, ("g0", "g1"), ("m1_out",), ("y",), resources=b.resources),
    )


def test_stages_that_take_longer_than_their_blocks_make_stages_dearer(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*complementary(clock))
    parts = table.measured()

    def predicted() -> float:
        problem = parts.problem(table.settings)
        two = next(p for p in place(problem, most=20) if len(p.stages) == 2)
        assert two.predicted_ms is not None
        return two.predicted_ms

    before = predicted()
    first, second = stages_of(table)
    parts.observe([(first, 2.0), (second, 2.0)])
    agreed = predicted()
    assert agreed == pytest.approx(4.0, rel=0.05)
    for _ in range(4):
        parts.observe([(first, 3.0), (second, 3.0)])
    assert before < predicted() < 6.5
    assert predicted() > agreed + 0.5


def test_a_stage_in_a_setting_that_wasnt_measured_teaches_nothing(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*complementary(clock))
    parts = table.measured()
    before = parts.problem(table.settings)
    first, second = stages_of(table)
    strange = replace(first, resources=Resources(threads=7))
    parts.observe([(strange, 9.0)])
    lowered = replace(first, precisions=Precisions(Precision.BF16))
    parts.observe([(lowered, 9.0)])
    parts.observe([(second, 0.0)])
    assert parts.problem(table.settings) == before


def test_two_precisions_of_one_executable_share_its_context(
    clock: Clock, make_table: MakeTable
) -> None:
    toy = WorkingBackend(
        "a", clock, {"MatMul": 2.0, "Gemm": 2.0}, mixes=True,
        precisions=[Precision.FP32, Precision.BF16],
    )  # fmt: skip
    table = make_table(toy)
    parts = table.measured()
    written, low = sorted(table.settings, key=lambda s: s.name, reverse=True)
    problem = parts.problem([written, low])
    assert problem.targets[0].context == problem.targets[1].context
    assert problem.groups == ((0, 1),)
    assert problem.handover_ms(0, 1) == 0.0
    assert costs(parts, low) == pytest.approx([1.0] * 4, rel=0.01)


# --- the machine's speed ------------------------------------------------------------------------


def test_the_anchor_tells_how_the_machine_s_speed_changed(
    clock: Clock, make_table: MakeTable
) -> None:
    table = make_table(*complementary(clock))
    parts = table.measured()
    with parts.anchor() as speed:
        assert speed() == pytest.approx(1.0, rel=0.02)
    for toy in table.toys:
        toy.costs = {op: 1.5 * ms for op, ms in toy.costs.items()}
    with parts.anchor() as speed:
        assert speed() == pytest.approx(1.5, rel=0.02)
    assert all(toy.compiled.count(WHOLE) > 0 for toy in table.toys)


def slowed(table: Table, clock: Clock, extra_ms: float) -> None:
    """What is open already takes so much longer from now on."""

    def hook(what: str, ops: Ops) -> None:
        if what == "run":
            clock.work(extra_ms)

    for toy in table.toys:
        toy.hook = hook


@pytest.mark.parametrize("then", [0.5, 1.5])
def test_at_best_is_what_the_anchor_itself_took(
    clock: Clock, make_table: MakeTable, then: float
) -> None:
    """Not what the whole took when it was timed, opened another time."""
    table = make_table(*complementary(clock))
    parts = table.measured()
    for toy in table.toys:
        toy.costs = {op: then * ms for op, ms in toy.costs.items()}
    with parts.anchor() as speed:
        assert speed() == 1.0
        slowed(table, clock, 6.0)
        assert speed() == pytest.approx(1 + 0.5 / then, rel=0.02)
        slowed(table, clock, 0.0)
        assert speed() == pytest.approx(1.0, rel=0.02)


def test_at_best_follows_a_machine_that_gets_faster(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    with table.measured().anchor() as speed:
        slowed(table, clock, 12.0)
        assert speed() == 1.0
        slowed(table, clock, 0.0)
        assert speed() == 1.0
        slowed(table, clock, 12.0)
        assert speed() == pytest.approx(2.0, rel=0.02)


def test_without_a_whole_there_is_no_anchor(clock: Clock, make_table: MakeTable) -> None:
    table = make_table(*complementary(clock))
    with table.parts().anchor() as speed:
        assert speed() == 1.0
    parts = table.measured()

    def hook(what: str, ops: Ops) -> None:
        if what == "compile":
            raise BackendError("no more")

    for toy in table.toys:
        toy.hook = hook
    with parts.anchor() as speed:
        assert speed() == 1.0
