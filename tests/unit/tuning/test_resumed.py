"""Tuning again: what is known isn't measured again, however it ended; and budgets are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dioe.profiling import History, blocks, rounds
from dioe.tuning import trial
from dioe.tuning.bench import bench
from dioe.tuning.compile import Job, Settings
from dioe.tuning.tune import Tuning
from dioe.types import BackendError, Precision
from tests.toys import models
from tests.toys.work import Clock, Ops, WorkingBackend
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.test_mixed import MIX, WHOLE, A, B, complementary, pool, rows

__all__ = ["pool"]


class Again:
    """Tunes the model of two kinds on some toys, in another history of one folder each time."""

    def __init__(self, pool: Path, clock: Clock, *toys: WorkingBackend) -> None:
        self.pool, self.clock, self.toys = pool, clock, toys
        self.spent_s = 0.0

    def tune(self, budget_s: float = 10.0, **settings: object) -> Tuning:
        for toy in self.toys:
            toy.forget()
        names = [f"cpu/{toy.name}" for toy in self.toys]
        job = Job(
            models.two_kinds(),
            hardware=self.pool,
            settings=Settings(**{"devices": names, "tuning_budget_s": budget_s} | settings),  # type: ignore[arg-type]
            sample_inputs={"x": rows()},
            history=History(self.pool.parent / "costs"),
        )
        before = self.clock.seconds()
        try:
            (tuning,) = job.tunings()
        finally:
            self.spent_s = self.clock.seconds() - before
        return tuning

    @property
    def runs(self) -> int:
        """Runs of the last tuning."""
        return sum(len(toy.ran) for toy in self.toys)

    @property
    def compiled(self) -> list[Ops]:
        """What the last tuning compiled."""
        return [ops for toy in self.toys for ops in toy.compiled]


@pytest.fixture
def again(clock: Clock, pool: Path, use_backends: UseBackends) -> Again:
    toys = complementary(clock)
    use_backends(*toys)
    return Again(pool, clock, *toys)


# --- known --------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_measured(again: Again) -> None:
    first = again.tune()
    assert again.runs > 0
    second = again.tune()
    assert again.runs == 0
    assert again.compiled == []
    assert second.plan == first.plan
    assert second.seconds["profile_s"] < 0.1 * first.seconds["profile_s"]


def test_a_second_bench_spends_no_time_on_profiling(again: Again) -> None:
    results = [
        bench(
            models.two_kinds(), hardware=again.pool, devices=["cpu/a", "cpu/b"],
            sample_inputs={"x": rows()}, time_s=1.0, tuning_budget_s=10.0,
        )
        for _ in range(2)
    ]  # fmt: skip
    first, second = results
    assert first.timings["profile_s"] > 1.0
    assert second.timings["profile_s"] < 0.1 * first.timings["profile_s"]
    assert second.chosen == first.chosen
    assert second.chosen.targets == (A, B)
    assert second.speedup_over_best_single == pytest.approx(3.0, rel=0.05)


def test_fewer_devices_are_known_too(again: Again) -> None:
    again.tune()
    alone = again.tune(devices="cpu/b")
    assert alone.plan.targets == (B,)
    assert all(ops == WHOLE for ops in again.compiled)
    again.tune(devices="cpu/b")
    assert again.runs == 0


def test_targets_that_never_met_are_timed_beside_each_other(again: Again) -> None:
    """Times taken on different occasions don't tell which is faster."""
    for devices in ("cpu/a", "cpu/b"):
        again.tune(devices=devices)
    again.tune()
    assert again.runs > 0
    assert again.compiled.count(WHOLE) > 1
    again.tune()
    assert again.runs == 0


def test_a_larger_budget_goes_on_where_a_small_one_ended(again: Again) -> None:
    small = again.tune(0.7)
    assert small.plan.targets != (A, B)
    large = again.tune(10.0)
    assert large.plan.targets == (A, B)
    again.tune(0.7)
    assert again.runs == 0


def test_another_limit_looks_at_known_errors(
    clock: Clock, pool: Path, use_backends: UseBackends
) -> None:
    toy = WorkingBackend(
        "a", clock, {"MatMul": 2.0, "Gemm": 2.0}, precisions=[Precision.FP32, Precision.BF16],
        errors={"MatMul": 1e-2, "Gemm": 1e-2},
    )  # fmt: skip
    use_backends(toy)
    again = Again(pool, clock, toy)
    strict = again.tune(precision="auto", max_relative_l2=1e-3)
    assert strict.plan.targets == (A,)
    loose = again.tune(precision="auto", max_relative_l2=0.1)
    assert loose.plan.targets == ("cpu/a/bf16",)
    strict = again.tune(precision="auto", max_relative_l2=1e-3)
    assert strict.plan.targets == (A,)


# --- noise --------------------------------------------------------------------------------------


def test_noisy_costs_are_measured_again(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as noise:
        for module in (rounds, blocks):
            noise.setattr(module, "others_share", lambda before, after: 0.5)
        noisy = again.tune()
        assert all(c.noisy for c in noisy.plan.candidates if c.state == "ok")
        again.tune()
        assert again.runs > 0
    quiet = again.tune()
    assert again.runs > 0
    assert not any(c.noisy for c in quiet.plan.candidates)
    again.tune()
    assert again.runs == 0


def test_noise_doesnt_displace_quiet_costs(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    first = again.tune()
    for module in (rounds, blocks):
        monkeypatch.setattr(module, "others_share", lambda before, after: 0.5)
    assert again.tune().plan == first.plan
    assert again.runs == 0


# --- Ctrl-C -------------------------------------------------------------------------------------


def interrupted(again: Again, when: Ops) -> None:
    """A tuning that Ctrl-C ends while an executable of these op types runs."""

    def hook(what: str, ops: Ops) -> None:
        if what == "run" and ops == when:
            raise KeyboardInterrupt

    for toy in again.toys:
        toy.hook = hook
    with pytest.raises(KeyboardInterrupt):
        again.tune()
    for toy in again.toys:
        toy.hook = lambda what, ops: None


def test_ctrl_c_keeps_what_was_measured(again: Again) -> None:
    interrupted(again, ("Gemm", "Gemm"))
    left = set(again.compiled)
    assert {WHOLE, ("MatMul",), ("Gemm",)} <= left
    tuned = again.tune()
    assert tuned.plan.targets == (A, B)
    assert not {("MatMul",), ("Gemm",)} & set(again.compiled)


def test_ctrl_c_in_the_middle_of_blocks_keeps_those_done(again: Again) -> None:
    interrupted(again, ("Gemm",))
    tuned = again.tune()
    assert tuned.plan.targets == (A, B)
    assert ("Gemm",) in again.compiled
    info = History(again.pool.parent / "costs").info()
    assert info.entries["block"] >= 4


def test_ctrl_c_in_first_looks_keeps_those_done(again: Again) -> None:
    compiled: list[str] = []

    def watch(name: str, ends: bool = False) -> Callable[[str, Ops], None]:
        def hook(what: str, ops: Ops) -> None:
            if what == "compile":
                compiled.append(name)
            elif ends:
                raise KeyboardInterrupt

        return hook

    a, b = again.toys
    a.hook, b.hook = watch("a"), watch("b", ends=True)
    with pytest.raises(KeyboardInterrupt):
        again.tune()
    assert compiled == ["a", "b"]
    assert History(again.pool.parent / "costs").info().entries == {"target": 1}
    compiled.clear()
    b.hook = watch("b")
    assert again.tune().plan.targets == (A, B)
    assert compiled[0] == "b"  # the first look at a is known


def test_a_first_look_that_others_disturb_is_made_again(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as noise:
        noise.setattr(trial, "others_share", lambda before, after: 0.5)
        interrupted(again, ("MatMul",))
    assert "target" not in History(again.pool.parent / "costs").info().entries


def test_what_fails_in_the_rounds_isnt_known_by_its_first_look(again: Again) -> None:
    _, b = again.toys
    runs = 0

    def hook(what: str, ops: Ops) -> None:
        nonlocal runs
        runs += what == "run" and ops == WHOLE
        if runs > 40:
            raise BackendError("out of breath")

    b.hook = hook
    failed = next(c for c in again.tune().plan.candidates if c.target == B)
    assert (failed.state, failed.reason) == ("failed", "out of breath")
    b.hook = lambda what, ops: None
    mended = next(c for c in again.tune().plan.candidates if c.target == B)
    assert mended.state == "ok"
    again.tune()
    assert again.runs == 0


def test_ctrl_c_leaves_nothing_open(again: Again) -> None:
    interrupted(again, ("MatMul", "MatMul"))
    for toy in again.toys:
        assert toy.count("open") == toy.count("close context")
        assert toy.count("compile") == toy.count("close executable")


# --- budgets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compile_ms", [1.0, 400.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0], ids="x{}".format)
@pytest.mark.parametrize("budget_s", [1.0, 4.0, 20.0])
def test_a_budget_is_never_overrun(
    clock: Clock,
    pool: Path,
    use_backends: UseBackends,
    budget_s: float,
    scale: float,
    compile_ms: float,
) -> None:
    """By no more than 10 %, or one compilation."""
    costs = {"MatMul": 1.0 * scale, "Gemm": 5.0 * scale}, {"MatMul": 5.0 * scale, "Gemm": scale}
    toys = [
        WorkingBackend(
            name, clock, cost, compile_ms=compile_ms, mixes=True, errors={"Gemm": 0.1},
            precisions=[Precision.FP32, Precision.BF16],
        )
        for name, cost in zip("ab", costs, strict=True)
    ]  # fmt: skip
    use_backends(*toys)
    again = Again(pool, clock, *toys)
    again.tune(budget_s, precision="auto")
    assert again.spent_s <= max(1.1 * budget_s, budget_s + compile_ms / 1e3)
    assert again.tune(budget_s, precision="auto").plan.candidates
    assert again.spent_s <= max(1.1 * budget_s, budget_s + compile_ms / 1e3)


@pytest.mark.parametrize("budget_s", [0.3, 0.5, 0.7])
def test_a_budget_too_small_for_the_rounds_goes_on_the_next_time(
    clock: Clock, pool: Path, use_backends: UseBackends, budget_s: float
) -> None:
    """First looks are known then, so that the next tuning has time for what comes after them."""
    toys = complementary(clock, compile_ms=80.0)
    use_backends(*toys)
    again = Again(pool, clock, *toys)
    first = again.tune(budget_s)
    assert [c.runs < 20 for c in first.plan.candidates if c.target in (A, B)] == [True, True]
    for _ in range(3):
        again.tune(budget_s)
        assert again.spent_s <= 1.1 * budget_s
    assert again.runs == 0
    large = again.tune(10.0)
    assert large.plan.targets == (A, B)


def test_what_fits_into_a_budget_is_done(again: Again) -> None:
    tuned = again.tune(30.0)
    assert MIX in {c.target for c in tuned.plan.candidates}
    assert again.spent_s < 30.0
