"""A broken third-party backend has a state and a reason, and hurts nobody else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dioe
from dioe.tuning import bench
from dioe.types import (
    Array,
    BackendError,
    Capabilities,
    OutOfMemory,
    Precision,
    Resources,
    StageModel,
    Support,
    TargetReport,
    UnsupportedError,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend, ToyContext
from tests.toys.values import close, tensor
from tests.unit.tuning.conftest import UseBackends

GOOD = "cpu/good/fp32"
BAD = "cpu/acme/fp32"
DEVICES = ("cpu/acme", "cpu/good")


def rows(n: int = 4, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def changed(change: Callable[[Array], Any]) -> ToyBackend:
    """A backend whose outputs are what ``change`` makes of the right ones."""

    def during(outputs: dict[str, Value]) -> dict[str, Value]:
        return {name: change(np.asarray(value)) for name, value in outputs.items()}

    return ToyBackend("acme", during=during)


class Raising(ToyBackend):
    """Raises ``error`` in one of its methods, or in one of what it makes."""

    def __init__(self, error: BaseException, method: str) -> None:
        super().__init__("acme")
        self.error, self.method = error, method

    def fail_in(self, method: str) -> None:
        if method == self.method:
            raise self.error

    def capabilities(self, device: str) -> Capabilities:
        self.fail_in("capabilities")
        return super().capabilities(device)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        self.fail_in("query")
        return super().query(model, device, precision)

    def note(self, text: str) -> None:
        super().note(text)
        self.fail_in(text)


def good_backend() -> ToyBackend:
    """Right, and slower than a broken one: who is accepted beside it is chosen."""

    def during(outputs: dict[str, Value]) -> dict[str, Value]:
        time.sleep(1e-3)
        return outputs

    return ToyBackend("good", during=during)


def tuned_beside(backend: ToyBackend, use_backends: UseBackends) -> Mapping[str, TargetReport]:
    """Reports by target, after checking that the good backend was chosen and works."""
    use_backends(backend, good_backend())
    proto = models.dense()
    with dioe.compile(
        proto, sample_inputs={"x": rows()}, devices=DEVICES, tuning_budget_s=0.2
    ) as session:
        assert session.plan.targets == (GOOD,)
        close(tensor(session.run({"x": rows()})), models.dense_output(proto, rows()))
        return {c.target: c for c in session.plan.candidates}


@pytest.mark.parametrize(
    "method", ["open", "compile", "request", "run", "close executable", "close context"]
)
@pytest.mark.parametrize(
    "error",
    [BackendError("sulks"), OutOfMemory("sulks"), RuntimeError("sulks"), SystemExit("sulks")],
    ids=lambda error: type(error).__name__,
)
def test_raising_is_failed_with_the_reason(
    use_backends: UseBackends, method: str, error: BaseException
) -> None:
    report = tuned_beside(Raising(error, method), use_backends)[BAD]
    assert report.state == "failed"
    assert "sulks" in report.reason


@pytest.mark.parametrize("method", ["open", "compile", "run"])
def test_unsupported_is_unsupported_with_the_reason(use_backends: UseBackends, method: str) -> None:
    report = tuned_beside(Raising(UnsupportedError("too odd"), method), use_backends)[BAD]
    assert report.state == "unsupported"
    assert "too odd" in report.reason


@pytest.mark.parametrize("error", [BackendError("sulks"), RuntimeError("sulks")])
def test_raising_when_asked_is_unsupported_with_the_reason(
    use_backends: UseBackends, error: Exception
) -> None:
    report = tuned_beside(Raising(error, "query"), use_backends)[BAD]
    assert report.state == "unsupported"
    assert "sulks" in report.reason


@pytest.mark.parametrize("error", [BackendError("sulks"), RuntimeError("sulks")])
def test_raising_for_capabilities_hurts_nobody(use_backends: UseBackends, error: Exception) -> None:
    report = tuned_beside(Raising(error, "capabilities"), use_backends)[BAD]
    assert report.state == "unsupported"
    assert "sulks" in report.reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y: np.full_like(y, np.nan), "NaN or Inf"),
        (lambda y: np.where(y > 0, np.float32(np.inf), y), "NaN or Inf"),
        (lambda y: y * np.float32(1.01), "above the limit"),
        (np.zeros_like, "above the limit"),
        (lambda y: y[::-1].copy(), "above the limit"),
    ],
)
def test_wrong_outputs_are_infidel(
    use_backends: UseBackends, change: Callable[[Array], Any], says: str
) -> None:
    report = tuned_beside(changed(change), use_backends)[BAD]
    assert report.state == "infidel"
    assert "'y'" in report.reason
    assert says in report.reason


@pytest.mark.parametrize(
    "change",
    [lambda y: y[:1], lambda y: y.T.copy(), lambda y: None, lambda y: "text", lambda y: [y]],
)
def test_outputs_of_another_kind_are_infidel_or_failed(
    use_backends: UseBackends, change: Callable[[Array], Any]
) -> None:
    report = tuned_beside(changed(change), use_backends)[BAD]
    assert report.state in ("infidel", "failed")
    assert report.reason


def test_missing_outputs_are_infidel_or_failed(use_backends: UseBackends) -> None:
    backend = ToyBackend("acme", during=lambda outputs: {})
    report = tuned_beside(backend, use_backends)[BAD]
    assert report.state in ("infidel", "failed")
    assert "y" in report.reason


@pytest.mark.parametrize("calls", [3, 40, 400])
def test_a_backend_that_fails_later_is_failed(use_backends: UseBackends, calls: int) -> None:
    """Whenever it stops working: while it is tried, or in the rounds."""
    count = itertools.count()

    def during(outputs: dict[str, Value]) -> dict[str, Value]:
        if next(count) >= calls:
            raise BackendError("worn out")
        return outputs

    report = tuned_beside(ToyBackend("acme", during=during), use_backends)[BAD]
    assert report.state == "failed"
    assert report.reason == "worn out"


class OpensOnce(ToyBackend):
    """Passes the first look, and is gone in the rounds."""

    times = 1

    def open(self, device: str, resources: Resources) -> ToyContext:
        if self.count("open") >= self.times:
            raise OutOfMemory("no memory for another one")
        return super().open(device, resources)


def test_a_backend_that_opens_only_once_is_failed(use_backends: UseBackends) -> None:
    report = tuned_beside(OpensOnce("acme"), use_backends)[BAD]
    assert report.state in ("failed", "unsupported")
    assert "another one" in report.reason


def test_a_winner_that_fails_to_load_is_passed_over(
    use_backends: UseBackends, tmp_path: Path
) -> None:
    """It was the fastest when it was tuned, and its plan is in the cache."""
    backend = OpensOnce("acme")
    backend.times = 1000
    use_backends(backend, good_backend())
    settings: dict[str, Any] = {
        "sample_inputs": {"x": rows()}, "devices": DEVICES, "tuning_budget_s": 0.3
    }  # fmt: skip
    with dioe.compile(models.dense(), **settings) as session:
        assert session.plan.targets == (BAD,)
    backend.times = 0
    with dioe.compile(models.dense(), **settings) as session:
        assert session.plan.targets == (GOOD,)
        session.run({"x": rows()})


def test_bench_survives_a_backend_that_goes_away(use_backends: UseBackends) -> None:
    """In the final timing, after it was tuned well."""
    backend = OpensOnce("acme")
    backend.times = 1000
    slower = good_backend().during

    def during(outputs: dict[str, Value]) -> dict[str, Value]:
        time.sleep(5e-4)
        return slower(outputs)

    backend.during = during
    use_backends(backend, good_backend())

    def progress(text: str) -> None:
        if text.startswith("final timing"):
            backend.times = 0

    result = bench(
        models.dense(), sample_inputs={"x": rows()}, tuning_budget_s=0.5, time_s=0.3,
        devices=DEVICES, progress=progress,
    )  # fmt: skip
    assert result.chosen.targets == (GOOD,)
    assert result.best_single["target"] == GOOD
    states = {target.target: target.state for target in result.targets}
    assert states == {GOOD: "ok", BAD: "failed"}


def test_without_a_budget_a_default_that_fails_to_load_is_passed_over(
    use_backends: UseBackends,
) -> None:
    """``acme`` comes before ``good``, and claims to take the model."""
    use_backends(Raising(RuntimeError("sulks"), "compile"), ToyBackend("good"), installed=())
    proto = models.dense()
    with dioe.compile(proto, sample_inputs={"x": rows()}, tuning_budget_s=0) as session:
        assert session.plan.targets == (GOOD,)
        close(tensor(session.run({"x": rows()})), models.dense_output(proto, rows()))
        report = next(c for c in session.plan.candidates if c.target == BAD)
        assert "sulks" in report.reason


def test_if_only_the_broken_backend_is_allowed_the_error_tells_why(
    use_backends: UseBackends,
) -> None:
    use_backends(Raising(BackendError("sulks"), "compile"))
    for budget in (0, 0.5):
        with pytest.raises((UnsupportedError, BackendError), match="sulks"):
            dioe.compile(models.dense(), devices="cpu/acme", tuning_budget_s=budget)


def test_the_last_resort_steps_in_where_the_others_fail(use_backends: UseBackends) -> None:
    use_backends(Raising(RuntimeError("sulks"), "compile"), installed=("reference",))
    proto = models.dense()
    for budget in (0, 0.5):
        with dioe.compile(proto, sample_inputs={"x": rows()}, tuning_budget_s=budget) as session:
            assert session.plan.targets == ("cpu/reference/fp32",)


def test_a_backend_that_writes_into_its_inputs_spoils_nothing(use_backends: UseBackends) -> None:
    backend = ToyBackend("acme")
    x = rows()
    before = x.copy()

    def during(outputs: dict[str, Value]) -> dict[str, Value]:
        for value in backend.received[-1].values():
            np.asarray(value)[...] = 7
        return outputs

    backend.during = during
    use_backends(backend, good_backend())
    with dioe.compile(
        models.dense(), sample_inputs={"x": x}, devices=DEVICES, tuning_budget_s=0.5
    ) as session:
        assert session.plan.targets == (GOOD,)
        reports = {c.target: c for c in session.plan.candidates}
        assert reports[GOOD].state == "ok"
        assert reports[BAD].state == "failed"
        assert "inputs" in reports[BAD].reason
    np.testing.assert_array_equal(x, before)


class Picky(ToyBackend):
    """Refuses one op, with a reason."""

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        refused = {model.op_ids[0]: "not this one"}
        return Support(frozenset(model.op_ids[1:]), refused)

    def capabilities(self, device: str) -> Capabilities:
        return Capabilities()


def test_refused_ops_are_named_with_the_reason(use_backends: UseBackends) -> None:
    report = tuned_beside(Picky("acme"), use_backends)[BAD]
    assert report.state == "unsupported"
    assert "not this one (1 op, such as " in report.reason
