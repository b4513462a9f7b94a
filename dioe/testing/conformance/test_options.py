"""Options, profiles, compiled forms and counters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dioe.testing.cases import cases
from dioe.testing.judging import assert_outputs
from dioe.testing.models import floats, relu, small_network
from dioe.testing.subject import Subject, not_covered, run
from dioe.types import (
    Effect,
    InputError,
    Precisions,
    Resolution,
    Sample,
    UnsupportedError,
)


def test_every_option_gets_an_answer(subject: Subject) -> None:
    """One Resolution a key; what isn't taken says why; unknown keys are rejected."""
    asked: dict[str, Any] = {
        "profile": True,
        "optimize": True,
        "kernel_fusion": True,
        "tiling_strategy": "auto",
        "precision": "fp32",
        "threads": 2,
        "nonsense": 1,
    }
    answers = subject.backend.resolve(asked)
    assert set(answers) == set(asked)
    for key, answer in answers.items():
        assert isinstance(answer, Resolution), key
        assert answer.effect is not Effect.REJECTED or answer.note, key
    assert answers["nonsense"].effect is Effect.REJECTED
    assert subject.backend.resolve({}) == {}


def test_wrong_values_are_rejected(subject: Subject) -> None:
    """Of known keys too, with a note."""
    answers = subject.backend.resolve({"threads": 0, "precision": "x", "profile": "yes"})
    for key, answer in answers.items():
        assert answer.effect is Effect.REJECTED, key
        assert answer.note, key


def test_compile_rejects_what_resolve_rejects(subject: Subject) -> None:
    """An unknown option, or a wrong value of a known one, is an InputError that names it."""
    for options, match in (({"nonsense": 1}, "nonsense"), ({"profile": "yes"}, "profile")):
        with pytest.raises(InputError, match=match):
            subject.compile(relu(), options=options)


@pytest.mark.correctness
@pytest.mark.parametrize("optimize", [False, True])
def test_optimisations_change_no_results(subject: Subject, optimize: bool) -> None:
    """``optimize`` is about time only; without it one gets the reference."""
    if subject.backend.resolve({"optimize": optimize})["optimize"].effect is Effect.REJECTED:
        raise not_covered(f"doesn't take optimize={optimize}")
    for case in cases():
        if case.name in ("convolutions", "perceptron", "matmul"):
            request = subject.request(case.model, options={"optimize": optimize})
            assert_outputs(run(request, case.feeds), case.expected, 1e-4)


def test_profile_covers_every_op(subject: Subject) -> None:
    """Times by op over the runs so far, with the ids of the source ops they cover."""
    if subject.backend.resolve({"profile": True})["profile"].effect is Effect.REJECTED:
        raise not_covered("doesn't profile")
    made = small_network()
    executable = subject.compile(made, options={"profile": True})
    request = executable.request()
    request.bind({"x": floats(1, 3, 16, 16)})
    for _ in range(21):
        request.run().wait()
    times = executable.profile()
    assert {op for time in times for op in time.ops} == set(made.op_ids)
    assert all(time.count in (20, 21) for time in times)  # the first run may be left out
    assert all(time.total_ms >= 0 for time in times)
    assert sum(time.total_ms for time in times) > 0


def test_profile_needs_its_option(subject: Subject) -> None:
    """Nobody pays for times that nobody asked for."""
    executable = subject.compile(relu())
    with pytest.raises(UnsupportedError, match="profil"):
        executable.profile()


@pytest.mark.correctness
def test_the_compiled_form_is_the_same_executable(subject: Subject) -> None:
    """What ``serialize`` gives, ``deserialize`` takes, in another context too."""
    case = next(case for case in cases() if case.name == "convolutions")
    executable = subject.compile(case.model)
    blob = executable.serialize()
    if blob is None:
        raise not_covered("has no compiled form")
    loaded = subject.open().deserialize(blob)
    assert [s.name for s in loaded.inputs] == [s.name for s in executable.inputs]
    assert [s.name for s in loaded.outputs] == [s.name for s in executable.outputs]
    wanted = run(executable.request(), case.feeds)["y"]
    np.testing.assert_array_equal(run(loaded.request(), case.feeds)["y"], wanted)


def test_inputs_and_outputs_are_those_of_the_model(subject: Subject) -> None:
    """Names in order, dtypes, shapes with their symbols."""
    made = relu("N")
    executable = subject.compile(made)
    for found, expected in zip(
        (*executable.inputs, *executable.outputs), (*made.inputs, *made.outputs), strict=True
    ):
        assert (found.name, found.dtype, found.kind) == (
            expected.name,
            expected.dtype,
            expected.kind,
        )
        assert found.shape is not None
        assert found.shape[1:] == (4,)
    assert executable.memory_bytes is None or executable.memory_bytes >= 0


def test_counters(subject: Subject) -> None:
    """Bytes are plausible; a counter that isn't there is None, never 0."""
    context = subject.open()
    memory = context.memory_info()
    assert all(isinstance(value, int) and value >= 0 for value in memory.values())
    if {"available_bytes", "total_bytes"} <= set(memory):
        assert 0 < memory["available_bytes"] <= memory["total_bytes"]
    sum(i * i for i in range(200_000))  # let the clock of the counters tick
    for sample in (context.utilization(), context.power()):
        assert sample is None or isinstance(sample, Sample)
    busy, power = context.utilization(), context.power()
    assert busy is None or 0 <= busy.value <= 100
    assert power is None or (power.value > 0 and power.source)


def test_contexts_are_independent(subject: Subject) -> None:
    """Closing one leaves what another compiled alone."""
    subject.take(relu())
    first, second = subject.open(), subject.open()
    gone, kept = (context.compile(relu(), Precisions(), {}) for context in (first, second))
    run(gone.request(), {"x": floats(2, 4)})
    first.close()
    found = run(kept.request(), {"x": floats(2, 4)})["y"]
    assert found.shape == (2, 4)
