"""First looks: made once for each target, within the budget, and remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dioe.graph import Model
from dioe.hardware import load_pool
from dioe.profiling import History
from dioe.runtime import Runtime
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.first_looks import FirstLooks
from dioe.tuning.known import Known, Ratio
from dioe.tuning.targets import COMPILER_S, LONG, USED_UP, candidates
from dioe.tuning.trial import reference_outputs
from dioe.types import Capabilities
from tests.toys import models
from tests.toys.work import Clock, WorkingBackend
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.test_mixed import A, B, complementary, pool, rows

__all__ = ["pool"]


class Looks:
    """First looks at the model of two kinds on some toys, made anew each time."""

    def __init__(
        self,
        runtime: Runtime,
        pool: Path,
        *toys: WorkingBackend,
        named: bool = True,
        budget_s: float = 10.0,
    ) -> None:
        self.runtime, self.toys = runtime, toys
        self.model = Model.load(models.two_kinds())
        self.samples = [{"x": rows()}]
        self.reference = reference_outputs(self.model, self.samples, runtime)
        self.candidates = candidates(
            self.model, load_pool(pool), runtime, precision="fp32", quantised=False,
            devices=[f"cpu/{toy.name}" for toy in toys] if named else "auto", budget_s=budget_s,
        )  # fmt: skip
        self.known = Known(
            History(None), self.model.sha256, {"x": (4, 8)}, "samples", "machine",
            {toy.name: "1" for toy in toys},
        )  # fmt: skip

    def make(self, *, locked: bool = True) -> FirstLooks:
        self.told: list[str] = []
        return FirstLooks(
            self.candidates, self.model, self.samples, self.reference, self.runtime,
            known=self.known, limit=1e-4, watch=Stopwatch(), progress=self.told.append,
            locked=locked,
        )  # fmt: skip


MakeLooks = Callable[..., Looks]


@pytest.fixture
def make_looks(pool: Path, use_backends: UseBackends) -> MakeLooks:
    def make(*toys: WorkingBackend, **how: Any) -> Looks:
        return Looks(use_backends(*toys), pool, *toys, **how)

    return make


def test_each_target_is_looked_at_once_in_a_lifetime(clock: Clock, make_looks: MakeLooks) -> None:
    looks = make_looks(*complementary(clock))
    first = looks.make()
    assert first.known() is None
    reports = first.all(Budget(10))
    assert [(r.target, r.state) for r in reports] == [(A, "ok"), (B, "ok")]
    assert looks.told == [A, B]
    second = looks.make()
    assert second.known() is None  # single looks don't tell who is faster
    assert second.all(Budget(10)) == reports
    assert looks.told == []
    assert second.took_s == first.took_s
    assert all(0.01 < took_s < 1 for took_s in first.took_s.values())


def test_what_met_in_rounds_is_known(clock: Clock, make_looks: MakeLooks) -> None:
    looks = make_looks(*complementary(clock))
    reports = looks.make().all(Budget(10))
    for candidate, each in zip(looks.candidates, reports, strict=True):
        looks.known.keep_report(candidate, each, Ratio(1.0, "rounds"), took_s=0.25)
    again = looks.make()
    recalled = again.known()
    assert recalled is not None
    assert recalled.reports == reports
    assert recalled.rounds == "rounds"
    assert recalled.ratios == {A: Ratio(1.0, "rounds"), B: Ratio(1.0, "rounds")}
    assert again.took_s == {A: 0.25, B: 0.25}


def test_what_a_failure_made_look_slow_is_looked_at_again(
    clock: Clock, make_looks: MakeLooks
) -> None:
    looks = make_looks(
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 1.0}),
        WorkingBackend("b", clock, {"MatMul": 9.0, "Gemm": 9.0}),
    )
    first = looks.make()
    assert [r.state for r in first.all(Budget(10))] == ["ok", "slow"]
    reports = first.all(Budget(10), {A: "out of toys"})
    assert [(r.state, r.reason) for r in reports] == [("failed", "out of toys"), ("ok", "")]
    assert looks.told == [A, B, B]


def test_a_slow_one_is_taken_as_it_was_when_the_budget_is_used_up(
    clock: Clock, make_looks: MakeLooks
) -> None:
    looks = make_looks(
        WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 1.0}),
        WorkingBackend("b", clock, {"MatMul": 9.0, "Gemm": 9.0}),
    )
    looks.make().all(Budget(10))
    assert [r.state for r in looks.make().all(Budget(0))] == ["ok", "slow"]
    assert looks.told == []


def test_without_a_budget_only_as_many_as_it_takes(clock: Clock, make_looks: MakeLooks) -> None:
    looks = make_looks(*complementary(clock))
    reports = looks.make().all(Budget(0))
    assert [(r.state, r.reason) for r in reports] == [("ok", ""), ("failed", USED_UP)]
    assert [r.state for r in looks.make().all(Budget(10))] == ["ok", "ok"]
    assert looks.told == [B]


def test_what_wasnt_measured_alone_isnt_kept(clock: Clock, make_looks: MakeLooks) -> None:
    looks = make_looks(*complementary(clock))
    looks.make(locked=False).all(Budget(10))
    looks.make().all(Budget(10))
    assert looks.told == [A, B]


COMPILER = "cpu/0/fp32"


class Compiler(WorkingBackend):
    """A backend that compiles for bound shapes only."""

    def capabilities(self, device: str) -> Capabilities:
        return Capabilities(dynamic_shapes=False)


def with_compiler(clock: Clock) -> list[WorkingBackend]:
    a, _ = complementary(clock)
    return [Compiler("0", clock, {}, compile_ms=9000), a]


def test_who_compiles_for_long_comes_last_and_only_with_time(
    clock: Clock, make_looks: MakeLooks
) -> None:
    toys = with_compiler(clock)
    looks = make_looks(*toys, named=False, budget_s=2 * COMPILER_S)
    assert [str(c.target) for c in looks.candidates if c.compiles_long] == [COMPILER]
    first = looks.make()
    assert first.all(Budget(2 * COMPILER_S))[-1].target == COMPILER
    assert 9 < first.took_s[COMPILER] < 10
    again = make_looks(*toys, named=False, budget_s=2 * COMPILER_S).make()
    assert again.all(Budget(12))[-1].reason == USED_UP
    second = looks.make()  # by now it is known what it takes
    assert second.all(Budget(12))[-1].reason != USED_UP


def test_who_compiles_for_long_is_not_even_asked_without_time(
    clock: Clock, make_looks: MakeLooks
) -> None:
    looks = make_looks(*with_compiler(clock), named=False, budget_s=COMPILER_S / 2)
    first = looks.make()
    report = first.all(Budget(COMPILER_S / 2))[-1]
    assert (report.target, report.state, report.reason) == (COMPILER, "failed", LONG)
    assert COMPILER not in first.took_s


def test_who_compiles_for_long_is_tried_where_it_is_named(
    clock: Clock, make_looks: MakeLooks
) -> None:
    looks = make_looks(with_compiler(clock)[0], budget_s=1)
    assert [r.state for r in looks.make().all(Budget(1))] == ["ok"]
