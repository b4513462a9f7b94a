"""Why a plan is no mix: every way that was looked at says what became of it, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dioe.graph import Model
from dioe.tuning.found import Found, Lowering, Mixed, Tried
from dioe.tuning.not_chosen import NotChosen, gain_notes
from dioe.tuning.targets import USED_UP
from dioe.types import Plan, Precision, Precisions, Resources, StageModel, TargetReport
from tests.toys import models
from tests.toys.plans import plan_for
from tests.toys.work import Clock, Ops, WorkingBackend, WorkingContext, WorkingExecutable
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.test_mixed import MIX, A, B, Bench, complementary, lossy, pool, report
from tests.unit.tuning.test_resumed import Again

__all__ = ["pool"]

LOW, BLEND = "cpu/a/bf16", "cpu/a/bf16+fp32"
MAY = Lowering(LOW, 30, 54, tuple(f"block{i} (op{i})" for i in range(24)), 8.3e-3, 8.9, 9.8)
BEST = TargetReport(A, "ok", p50_ms=10.0)
PLAN = plan_for(Model.load(models.two_kinds()), A)


def notes(
    found: Found,
    *singles: TargetReport,
    chosen: TargetReport = BEST,
    ratios: Mapping[str, float] | None = None,
    mixable: bool = True,
) -> tuple[str, ...]:
    return NotChosen(found, chosen, [BEST, *singles], [LOW], ratios or {}, mixable).notes()


def tried(
    state: str = "ok", p50_ms: float | None = 12.0, *, name: str = BLEND, reason: str = "",
    error: float | None = 8e-3, stages: int = 1, lowers: bool = True,
) -> Tried:  # fmt: skip
    made = TargetReport(name, state, reason, p50_ms=p50_ms, relative_l2=error)
    lowering = replace(MAY, error=error, predicted_ms=None, written_ms=None) if lowers else None
    return Tried(made, stages, 9.0, 10.0, lowering)


def timed(each: Tried, p50_ms: float) -> Mixed:
    """The plan in the rounds at last."""
    return Mixed(PLAN, replace(each.report, p50_ms=p50_ms))


STAY = "; block0 (op0) and block1 (op1) and 22 more blocks stay as written"


# --- blocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each", "why"),
    [
        (tried(), "in a first try it took 12 ms (predicted 9 ms), where 10 had to be beaten"),
        (tried(p50_ms=9.5), "in a first try it took 9.5 ms (predicted 9 ms), and others less"),
        (tried(reason="not timed beside the others"), "in a first try it took 12 ms (predicted 9 "
         "ms), and was not timed beside the others"),
        (tried("infidel", reason="error 0.012 is above the limit 0.01"),
         "error 0.012 is above the limit 0.01"),
        (tried("failed", None, reason="out of toys", error=None), "out of toys"),
        (tried("failed", None, reason=USED_UP, error=None),
         f"{USED_UP}, predicted 9 ms where 10 had to be beaten"),
    ],
)  # fmt: skip
def test_blocks_that_may_be_lowered_say_what_became_of_that(each: Tried, why: str) -> None:
    error = "0.008" if each.report.relative_l2 else "0.0083"  # else as it was looked for
    assert notes(Found(tried=[each], lowerings=(MAY,))) == (
        f"lowering 30 of 54 blocks on {LOW} (error {error}) was not chosen: {why}{STAY}",
    )


@pytest.mark.parametrize(
    ("ratio", "told"),
    [(1.04, "1.040 of it"), (0.995, "0.995 of it; below 0.99 is wanted")],
)
def test_what_was_timed_in_the_rounds_is_compared_there(ratio: float, told: str) -> None:
    each = tried()
    found = Found(plans=[timed(each, 10.5)], tried=[each], lowerings=(MAY,))
    (note,) = notes(found, ratios={A: 1.1, BLEND: 1.1 * ratio})
    assert f": it took 10.5 ms where {A} took 10 in the same rounds ({told}); block0" in note
    (note,) = notes(found, ratios={A: 1.1})
    assert f": it took 10.5 ms where {A} took 10; block0" in note


def test_the_best_of_several_choices_is_told() -> None:
    kept = tried(name="kept")
    others = [
        tried("failed", None, reason="out"), tried("infidel", 1.0), tried(p50_ms=11.0, name="first")
    ]  # fmt: skip
    (note,) = notes(Found(tried=[*others, kept], plans=[timed(kept, 13.0)]))
    assert ", the best of 4 choices of blocks, was not chosen: it took 13 ms" in note
    (note,) = notes(Found(tried=others))
    assert "the best of 3" in note
    assert "it took 11 ms" in note
    (note,) = notes(Found(tried=[others[1], replace(others[1]), others[0]]))
    assert note.endswith(f"infidel{STAY}")


def test_a_choice_that_was_never_tried_says_so() -> None:
    assert notes(Found(lowerings=(MAY,))) == (
        f"lowering 30 of 54 blocks on {LOW} (error 0.0083) was not chosen: {USED_UP}, "
        f"predicted 8.9 ms for 9.8 as written{STAY}",
    )


def test_where_none_may_be_lowered_it_says_why() -> None:
    none = Lowering(LOW, of=54, why_not="no choice of blocks to lower saves time")
    assert notes(Found(lowerings=(none,))) == (none.why_not,)


def test_what_is_chosen_needs_no_excuse() -> None:
    each = tried()
    found = Found(plans=[timed(each, 9.0)], tried=[each], lowerings=(MAY,))
    assert notes(found, chosen=replace(each.report, p50_ms=9.0)) == ()
    assert notes(Found(), chosen=TargetReport(LOW, "ok", p50_ms=5.0)) == ()


# --- whole models -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "why"),
    [
        (TargetReport(LOW, "ok", p50_ms=11.0, relative_l2=5e-3),
         f" (error 0.005) was not chosen: it took 11 ms where {A} took 10"),
        (TargetReport(LOW, "slow", "a run takes 40 ms", p50_ms=40.0),
         " was not chosen: a run takes 40 ms"),
        (TargetReport(LOW, "failed", "out of toys"), " was not chosen: out of toys"),
    ],
)  # fmt: skip
def test_a_whole_in_lower_precision_says_why_it_lost(low: TargetReport, why: str) -> None:
    assert notes(Found(), low) == (f"lowering the whole model on {LOW}{why}",)


def test_a_whole_that_errs_or_is_refused_has_its_own_reason() -> None:
    assert notes(Found(), TargetReport(LOW, "infidel"), TargetReport(LOW, "unsupported")) == ()


# --- stages -------------------------------------------------------------------------------------


def test_plans_of_several_stages_say_why_they_lost() -> None:
    first = tried(p50_ms=10.4, name=MIX, stages=2, lowers=False)
    assert notes(Found(tried=[first])) == (
        f"{MIX} was not chosen: in a first try it took 10.4 ms (predicted 9 ms), where 10 had to "
        "be beaten",
    )
    second = tried("infidel", 9.0, name=f"{MIX} (2+2 ops)", stages=2, lowers=False)
    (note,) = notes(Found(tried=[second, first], plans=[timed(first, 10.1)]))
    assert note.startswith(f"{MIX}, the best of 2 plans of several stages, was not chosen: it took")
    chosen = replace(first.report, p50_ms=9.0)
    assert notes(Found(tried=[second, first], plans=[timed(first, 9.0)]), chosen=chosen) == ()


def test_other_threads_of_one_target_need_no_sentence() -> None:
    assert notes(Found(tried=[tried(name=f"{A} on 1 thread", lowers=False)])) == ()


def test_a_search_that_the_budget_ended_says_so() -> None:
    (note,) = notes(Found(cut_at_s=2.0))
    assert "budget ended the search" in note
    assert "blocks to lower" in note
    assert notes(Found(cut_at_s=2.0), mixable=False) == ()


def test_what_made_up_inputs_stood_in_the_way_of_is_told() -> None:
    made_up = TargetReport(LOW, "infidel", "these were made up", p50_ms=5.0, relative_l2=2e-3)
    assert gain_notes(BEST, [BEST, made_up]) == [
        f"{LOW} would be 2.00 times faster at error 0.002 on made-up inputs; "
        "give sample inputs to allow it"
    ]
    assert gain_notes(BEST, [replace(made_up, p50_ms=11.0), replace(made_up, reason="errs")]) == []


# --- tuned --------------------------------------------------------------------------------------


class Blending(WorkingBackend):
    """Executables of several precisions take longer, by a factor."""

    dearer = 1.0

    def open(self, device: str, resources: Resources) -> WorkingContext:
        self.note("open")
        return BlendingContext(self, device, resources)


class BlendingContext(WorkingContext):
    backend: Blending

    def make(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> WorkingExecutable:
        made = super().make(model, precisions, options)
        if len(precisions.used) > 1:
            made.times = {op: self.backend.dearer * ms for op, ms in made.times.items()}
        return made


def blending(clock: Clock, dearer: float) -> Blending:
    """As ``lossy``: 8 ms as written, 6 ms with half of the blocks lowered, but for the factor."""
    plain = lossy(clock)
    toy = Blending(
        "a", clock, plain.costs, precisions=[Precision.FP32, Precision.BF16],
        errors=plain.errors, mixes=True,
    )  # fmt: skip
    toy.dearer = dearer
    return toy


def lowered_note(plan: Plan) -> str:
    """The one note of a plan that was to lower blocks and doesn't."""
    assert plan.targets == (A,)
    (note,) = plan.notes
    return note


@pytest.mark.parametrize(
    ("dearer", "words"),
    [
        (2.0, "in a first try it took 12 ms (predicted 6.0"),
        (1.4, "in the same rounds (1.05"),
        (1.33, "below 0.99 is wanted"),
    ],
)
def test_blocks_lowered_for_nothing_are_told(
    clock: Clock, pool: Path, use_backends: UseBackends, dearer: float, words: str
) -> None:
    toy = blending(clock, dearer)
    use_backends(toy)
    plan = Bench(pool, toy).compile(precision="auto").plan
    note = lowered_note(plan)
    assert note.startswith(f"lowering 2 of 4 blocks on {LOW} (error 0.002) was not chosen: ")
    assert words in note
    assert note.endswith("; block2 (g0) and block3 (g1) stay as written")
    assert report(plan, BLEND).state == "ok"
    assert note in plan.explain()


def test_the_reason_is_known_the_next_time(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    for dearer in (2.0, 1.4):
        toy = blending(clock, dearer)
        use_backends(toy)
        again = Again(pool, clock, toy)
        again.pool = pool.parent / f"{dearer}" / pool.name
        again.pool.parent.mkdir()
        again.pool.write_text(pool.read_text())
        first = again.tune(precision="auto")
        assert "lowering 2 of 4" in lowered_note(first.plan)
        assert again.tune(precision="auto").plan == first.plan
        assert again.runs == 0


def test_no_block_that_may_be_lowered_is_told_with_the_least_error(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toy = blending(clock, 1.0)
    toy.errors = {"MatMul": 0.02, "Gemm": 0.03}
    use_backends(toy)
    note = lowered_note(Bench(pool, toy).compile(precision="auto").plan)
    assert "no choice of blocks to lower on cpu/a/bf16 was found within 0.01" in note
    assert "the least error measured is 0.02, with block0 (m0) lowered" in note


def test_a_backend_that_mixes_no_precisions_is_told(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toy = blending(clock, 1.0)
    toy.mixes = False
    use_backends(toy)
    assert lowered_note(Bench(pool, toy).compile(precision="auto").plan) == (
        "no block is lowered on cpu/a/bf16, which errs by 0.062 as a whole: "
        "a doesn't mix precisions in one executable"
    )


def test_lower_precision_that_is_slower_is_told(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toy = WorkingBackend(
        "a", clock, {"MatMul": 2.0, "Gemm": 2.0}, precisions=[Precision.FP32, Precision.BF16],
        lowered=1.2, errors={"Gemm": 1e-3},
    )  # fmt: skip
    use_backends(toy)
    note = lowered_note(Bench(pool, toy).compile(precision="auto").plan)
    assert note.startswith(f"lowering the whole model on {LOW} (error 0.002) was not chosen: it ")
    assert "in the same rounds (1.2" in note


def test_a_mix_of_backends_that_loses_is_told(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toys = complementary(clock)
    use_backends(*toys)

    def hook(what: str, ops: Ops) -> None:
        if what == "run" and len(ops) < 4:
            clock.work(4.0)  # whatever is not the whole

    for toy in toys:
        toy.hook = hook
    plan = Bench(pool, *toys).plan(tuning_budget_s=60)
    assert plan.targets in ((A,), (B,))
    (note,) = plan.notes
    assert note.startswith(f"{MIX}, the best of ")
    assert "plans of several stages, was not chosen: it took 12 ms where" in note


def test_whatever_the_budget_it_is_told(
    clock: Clock, pool: Path, use_backends: UseBackends, tmp_path: Path
) -> None:
    toy = blending(clock, 1.0)
    toy.compile_ms = 20.0
    use_backends(toy)
    bench = Bench(pool, toy)
    told = []
    for tenths in (*range(1, 20), 30, 60):
        plan = bench.compile(
            precision="auto", tuning_budget_s=tenths / 10, cache_dir=tmp_path / f"{tenths}"
        ).plan
        if plan.targets != (BLEND,):
            told.append(" ".join(plan.notes))
    assert told
    assert all("lower" in each and "budget" in each for each in told)
    assert len(told) < 21


def test_as_written_nothing_is_told_of_precision(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toy = blending(clock, 1.4)
    use_backends(toy)
    assert Bench(pool, toy).plan().notes == ()
    made_up = Bench(pool, toy).compile(precision="auto", sample_inputs=None).plan
    assert not any("not chosen" in note for note in made_up.notes)
