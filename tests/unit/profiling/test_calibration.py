"""What a backend reaches, found from toys whose ops take known times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from dioe.profiling import calibration, rounds
from dioe.profiling.calibration import (
    Findings,
    Subject,
    measure,
    overhead_probes,
    rounds_of,
    working_sets,
)
from dioe.profiling.calibration_boundaries import LARGE, SMALL, measure_boundaries
from dioe.profiling.rounds import Calls
from dioe.types import Context, OutOfMemory, Precision, Resources, Value
from tests.toys.backend import ToyBackend
from tests.toys.work import Clock, Ops, WorkingBackend

BOTH = (Precision.FP32, Precision.BF16)


@pytest.fixture(autouse=True)
def small_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "others_share", lambda before, after: 0.0)
    monkeypatch.setattr(calibration, "SIZES", (16, 32))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.patch(monkeypatch)
    return made


def subject(backend: ToyBackend) -> Subject:
    @contextlib.contextmanager
    def opened(spin: bool | None) -> Iterator[Context]:
        context = backend.open("cpu", Resources(spin=spin))
        try:
            yield context
        finally:
            context.close()

    return Subject(
        f"cpu/{backend.name}", opened, backend.precisions, memory_bytes=1 << 20, cache_bytes=1 << 10
    )


def in_bf16(precision: Precision, results: list[Value]) -> list[Value]:
    if precision is not Precision.BF16:
        return results
    return [np.asarray(r).astype(ml_dtypes.bfloat16).astype(np.float32) for r in results]


def found(backend: ToyBackend) -> Findings:
    return measure([subject(backend)], seconds=0.0)[f"cpu/{backend.name}"]


def test_figures_are_those_of_the_ops(clock: Clock) -> None:
    toy = WorkingBackend("toy", clock, {"MatMul": 0.5, "Reshape": 0.0}, precisions=BOTH)
    toy.adjust = in_bf16
    findings = found(toy)
    flops = 2 * 32**3
    assert findings.peaks[Precision.FP32].value == pytest.approx(flops / 0.5e-3, rel=0.02)
    assert findings.peaks[Precision.BF16].value == pytest.approx(flops / 0.25e-3, rel=0.02)
    assert findings.peaks[Precision.INT8].note in ("as QDQ", "as QLinearMatMul")
    assert findings.launch is not None
    assert findings.launch.value == pytest.approx(0.5e-3, rel=0.02)
    assert findings.dispatch is not None
    assert findings.dispatch.value < 0.1e-3
    assert findings.copies is None
    assert not findings.bandwidths  # sums of any size take as long: nothing is told of bytes


def test_a_backend_that_computes_in_more_than_it_says(clock: Clock) -> None:
    findings = found(WorkingBackend("toy", clock, {}, precisions=BOTH))
    assert Precision.FP32 in findings.peaks
    assert Precision.BF16 not in findings.peaks
    assert "computed in more than bf16" in findings.problems["bf16 peak"]


def test_a_backend_that_computes_in_less_than_it_says(clock: Clock) -> None:
    toy = WorkingBackend("toy", clock, {})
    toy.wrong = lambda ops: 1e-3
    findings = found(toy)
    assert Precision.FP32 not in findings.peaks
    assert "products in fp32 have an error of 1.0e-03" in findings.problems["fp32 peak"]


def test_what_fails_is_told_and_hurts_nothing_else(clock: Clock) -> None:
    def no_room(what: str, ops: Ops) -> None:
        if "Add" in ops and what == "run":
            raise OutOfMemory("no room for sums")

    broken = WorkingBackend("broken", clock, {}, refuses=["QuantizeLinear"])
    broken.hook = no_room
    fine = WorkingBackend("fine", clock, {})
    both = measure([subject(broken), subject(fine)], seconds=0.0)
    assert "no room for sums" in set(both["cpu/broken"].problems.values())
    assert "broken has no QuantizeLinear" in both["cpu/broken"].problems["int8 peak"]
    assert both["cpu/broken"].launch is not None
    assert both["cpu/fine"].launch is not None
    assert not both["cpu/fine"].problems


def test_a_backend_that_cant_be_opened() -> None:
    class Closed(ToyBackend):
        def open(self, device: str, resources: Resources) -> Context:  # type: ignore[override]
            raise OSError("no driver")

    findings = found(Closed("closed"))
    assert findings.launch is None
    assert not findings.peaks
    assert "OSError: no driver" in findings.problems["fp32 peak"]
    assert "OSError: no driver" in findings.problems["copies"]


def test_ctrl_c_ends_it(clock: Clock) -> None:
    def interrupt(what: str, ops: Ops) -> None:
        raise KeyboardInterrupt

    toy = WorkingBackend("toy", clock, {})
    toy.hook = interrupt
    with pytest.raises(KeyboardInterrupt):
        measure([subject(toy)], seconds=0.0)


class Waiting:
    """A contender of one call."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        yield {"call": lambda: self.clock.work(1.0)}


@pytest.mark.parametrize("noisy", [[], [0, 2], range(100)])
def test_noisy_rounds_are_taken_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, noisy: Sequence[int]
) -> None:
    taken = iter(range(1000))
    monkeypatch.setattr(rounds, "others_share", lambda b, a: 0.5 if next(taken) in noisy else 0.0)
    timings, failures = rounds_of({"it": Waiting(clock)}, budget_s=100.0, rounds=3)
    assert not failures
    timing = timings["call"]
    assert timing.noisy == (len(noisy) == 100)
    assert len(timing.rounds) == (6 if timing.noisy else 3 + len(noisy))
    assert len(timing.kept) == (6 if timing.noisy else 3)


def test_one_round_whatever_the_budget(clock: Clock) -> None:
    timings, _ = rounds_of({"it": Waiting(clock)}, budget_s=0.0)
    assert len(timings["call"].rounds) == 1


@pytest.mark.parametrize(
    ("cache", "memory", "expected"),
    [
        (None, None, [2**16, 2**18, 2**20, 2**22, 2**24, 2**26, 2**28]),
        (2**25, None, [2**16, 2**18, 2**20, 2**22, 2**24, 2**26, 2**27]),
        (2**16, None, [2**16, 2**18]),
        (None, 2**24, [2**16, 2**18, 2**20, 2**21]),
        (None, 4, [2**16]),
    ],
)
def test_working_sets(cache: int | None, memory: int | None, expected: list[int]) -> None:
    one = replace(subject(ToyBackend()), cache_bytes=cache, memory_bytes=memory)
    assert working_sets(one) == expected


def test_a_boundary_costs_what_both_take_more_in_turn(clock: Clock) -> None:
    class Fighting(WorkingBackend):
        """Its runs take longer where the other one ran last, by their bytes."""

    last = ["none"]

    def hook(name: str, backend: WorkingBackend) -> None:
        def note(what: str, ops: Ops) -> None:
            if what == "run":
                clock.work(0.2 if last[0] not in (name, "none") else 0.0)
                last[0] = name

        backend.hook = note

    a, b = (Fighting(name, clock, {"Add": 0.1, "Reshape": 0.0}) for name in "ab")
    hook("a", a)
    hook("b", b)
    readings, failures = measure_boundaries([subject(a), subject(b)], seconds=0.0)
    assert not failures
    assert [(r.source, r.destination) for r in readings] == [
        ("cpu/a", "cpu/b"),
        ("cpu/b", "cpu/a"),
    ]
    for reading in readings:
        # each run of the pair meets the other's: there and back, 0.2 ms each
        assert reading.fixed.value == pytest.approx(0.4e-3, rel=0.1)
        assert reading.s_per_byte * (LARGE - SMALL) < 0.05e-3


def test_bandwidths_are_of_single_sums_where_a_compiler_would_fuse_them() -> None:
    fusing = replace(subject(ToyBackend()), fuses=True)
    lengths = {p.work.ops for p in overhead_probes(fusing) if "sums" in p.what}
    assert lengths == {1}
