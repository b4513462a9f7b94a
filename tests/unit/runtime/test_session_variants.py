"""Shapes nobody tuned, several tuned shapes, and what happens when variants come and go."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dioe.graph import Model
from dioe.runtime import Runtime, Session
from dioe.runtime import variants as variants_module
from dioe.types import Array, Basis, InputError, TargetReport, UnsupportedError
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.plans import plan_for
from tests.toys.values import close, tensor
from tests.unit.runtime.conftest import MakeSession

TARGETS = ["cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32", "cpu/toy/fp32"]


def rows(n: int, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_an_unseen_shape_runs_on_open_shapes(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    for n in (4, 1, 7, 4, 2, 7):
        x = rows(n, seed=n)
        close(tensor(session.run({"x": x})), models.dense_output(model, x))
    assert [plan.shapes["x"] for plan in session.plans] == [(4, 8), ("N", 8)]


def test_the_dynamic_variant_says_what_it_is(make_session: MakeSession) -> None:
    session = make_session(models.dense(), {"x": (4, 8)})
    tuned = session.plan
    session.run({"x": rows(2)})
    plan = session.plan
    assert plan is session.plans[1]
    assert plan.basis is Basis.DEFAULT
    assert plan.predicted_ms is None
    assert plan.targets == tuned.targets
    assert "not tuned" in plan.notes[0]
    assert plan.stages[0].resources.spin is False
    session.run({"x": rows(4)})
    assert session.plan is tuned


def test_several_sample_shapes_have_a_variant_each(
    make_session: MakeSession, toy: ToyBackend
) -> None:
    model = models.dense()
    session = make_session(
        model, {"x": (4, 8)}, {"x": (2, 8)}, {"x": (9, 8)}, target="cpu/toy/fp32"
    )
    assert toy.count("compile") == 3
    for n in (2, 9, 4, 9, 2):
        x = rows(n, seed=n)
        close(tensor(session.run({"x": x})), models.dense_output(model, x))
        assert session.plan.shapes["x"] == (n, 8)
    assert toy.count("compile") == 3
    session.run({"x": rows(5)})
    assert toy.count("compile") == 4
    assert len(session.plans) == 4


def test_a_variant_with_open_shapes_takes_all(make_session: MakeSession, toy: ToyBackend) -> None:
    model = models.dense()
    session = make_session(model, target="cpu/toy/fp32")
    for n in (3, 1, 3):
        x = rows(n, seed=n)
        close(tensor(session.run({"x": x})), models.dense_output(model, x))
    assert len(session.plans) == 1
    assert toy.count("compile") == 1


@pytest.fixture
def static() -> ToyBackend:
    """A backend that takes no open shapes."""
    return ToyBackend("static", dynamic=False)


@pytest.fixture
def static_session(static: ToyBackend) -> Session:
    model = Model.load(models.dense())
    runtime = Runtime(registry_of(static))
    plan = plan_for(model, "cpu/static/fp32", {"x": (4, 8)})
    return Session(model, [plan], runtime=runtime)


def test_without_open_shapes_each_shape_is_compiled_once(
    static: ToyBackend, static_session: Session
) -> None:
    expected = models.dense()
    with static_session as session:
        for n in (1, 2, 4, 1, 2, 4, 2):
            x = rows(n, seed=n)
            close(tensor(session.run({"x": x})), models.dense_output(expected, x))
        assert static.count("compile") == 3
        assert [plan.shapes["x"] for plan in session.plans] == [(4, 8), (1, 8), (2, 8)]
    assert static.count("close executable") == 3


@pytest.mark.parametrize("state", ["ok", "slow", "infidel", "unsupported", "failed"])
def test_without_open_shapes_another_target_that_was_right_steps_in(
    static: ToyBackend, state: str
) -> None:
    other = ToyBackend("other")
    model = Model.load(models.dense())
    reports = (
        TargetReport("cpu/static/fp32 -> cpu/other/fp32", "ok", p50_ms=0.5),
        TargetReport("cpu/other/fp32 on 1 thread", "ok", p50_ms=0.9),
        TargetReport("cpu/static/fp32", "ok", p50_ms=1.0),
        TargetReport("cpu/other/bf16", "ok", p50_ms=1.5),
        TargetReport("cpu/other/fp32", state, p50_ms=2.0),
    )
    plan = plan_for(model, "cpu/static/fp32", {"x": (4, 8)}, candidates=reports)
    with Session(model, [plan], runtime=Runtime(registry_of(static, other))) as session:
        for n in (1, 4, 2):
            x = rows(n)
            close(tensor(session.run({"x": x})), models.dense_output(models.dense(), x))
        untuned = session.plans[1:]
    if state == "ok":
        assert [plan.targets for plan in untuned] == [("cpu/other/fp32",)]
        assert untuned[0].shapes["x"] == ("N", 8)
    else:  # its outputs were not checked, or wrong
        assert [plan.targets for plan in untuned] == [("cpu/static/fp32",)] * 2


def test_the_least_recently_used_untuned_variant_goes(
    static: ToyBackend, static_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants_module, "MAX_UNTUNED_VARIANTS", 2)
    with static_session as session:
        for n in (1, 2, 1, 3):
            session.run({"x": rows(n)})
        assert [plan.shapes["x"][0] for plan in session.plans] == [4, 1, 3]
        session.run({"x": rows(1)})
        assert static.count("compile") == 4
        session.run({"x": rows(2)})
        assert static.count("compile") == 5
        assert [plan.shapes["x"][0] for plan in session.plans] == [4, 1, 2]
        session.run({"x": rows(4)})  # tuned ones stay
        assert static.count("compile") == 5
        assert static.count("close executable") == 2


def test_a_variant_in_use_by_a_bound_request_stays(
    static: ToyBackend, static_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants_module, "MAX_UNTUNED_VARIANTS", 1)
    model = models.dense()
    with static_session as session:
        x = rows(1)
        bound = session.bind({"x": x})
        for n in (2, 3, 5):
            session.run({"x": rows(n)})
        close(tensor(bound.run()), models.dense_output(model, x))
        assert 1 in [plan.shapes["x"][0] for plan in session.plans]
        del bound
        session.run({"x": rows(6)})
        session.run({"x": rows(7)})
        assert 1 not in [plan.shapes["x"][0] for plan in session.plans]


def test_shapes_come_and_go_while_others_run(
    static_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants_module, "MAX_UNTUNED_VARIANTS", 2)
    model = models.dense()

    def work(worker: int) -> None:
        rng = np.random.default_rng(worker)
        for _ in range(25):
            x = rng.standard_normal((int(rng.integers(1, 7)), 8)).astype(np.float32)
            close(tensor(session.run({"x": x})), models.dense_output(model, x))

    with static_session as session, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
        assert len(session.plans) <= 3


def test_two_threads_with_a_new_shape_compile_it_once(
    make_session: MakeSession, toy: ToyBackend
) -> None:
    session = make_session(models.dense(), {"x": (4, 8)}, target="cpu/toy/fp32")
    barrier = threading.Barrier(6)

    def work(_: int) -> None:
        barrier.wait()
        session.run({"x": rows(3)})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert toy.count("compile") == 2


def test_a_shape_the_model_cant_take_is_an_input_error(static_session: Session) -> None:
    with static_session as session:
        with pytest.raises(InputError, match=r"shape \[4, 9\]"):
            session.run({"x": rows(4, 9)})
        assert len(session.plans) == 1


def test_a_target_that_fails_to_load_leaves_nothing_open() -> None:
    backend, other = ToyBackend("static", dynamic=False), ToyBackend("fine")
    runtime = Runtime(registry_of(backend, other))
    model = Model.load(models.dense())
    plans = [
        plan_for(model, "cpu/fine/fp32", {"x": (4, 8)}),
        plan_for(model, "cpu/static/fp32"),  # open shapes, which it refuses
    ]
    with pytest.raises(UnsupportedError, match="no open shapes"):
        Session(model, plans, runtime=runtime)
    assert other.count("open") == other.count("close context") == 1
    assert other.count("close executable") == 1
    assert backend.count("open") == backend.count("close context") == 1


def test_a_plan_for_a_missing_backend_is_told(make_session: MakeSession) -> None:
    with pytest.raises(UnsupportedError, match="'nowhere' is not usable") as caught:
        make_session(models.dense(), {"x": (4, 8)}, target="cpu/nowhere/fp32")
    assert "onnxruntime" in caught.value.fix
    with pytest.raises(UnsupportedError, match="no device 'gpu:0'"):
        make_session(models.dense(), {"x": (4, 8)}, target="gpu:0/onnxruntime/fp32")
