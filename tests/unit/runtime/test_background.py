"""Variants that are prepared in the background, and what a session promises meanwhile."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dioe.graph import Model
from dioe.runtime import NewShape, Runtime, Session, background
from dioe.runtime.background import Background, Popularity
from dioe.types import Array, BackendError, DioeError
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.plans import plan_for
from tests.toys.tuners import ToyTuner
from tests.toys.values import close, tensor

WAIT_S = 30.0


def rows(n: int, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dioe-tuning"]


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits for the machine to be quiet; and every thread has ended with its session."""
    monkeypatch.setattr(background, "MAX_QUIET_WAIT_S", 0.0)
    yield
    assert not threads()


@pytest.fixture
def tuner() -> ToyTuner:
    return ToyTuner()


@pytest.fixture
def backend() -> ToyBackend:
    return ToyBackend()


@pytest.fixture
def session(backend: ToyBackend, tuner: ToyTuner) -> Iterator[Session]:
    """The dense model for four rows, with a tuner for all others."""
    model = Model.load(models.dense())
    plan = plan_for(model, "cpu/toy/fp32", {"x": (4, 8)})
    with Session(model, [plan], runtime=Runtime(registry_of(backend)), tuner=tuner) as made:
        yield made


def check_run(session: Session, n: int, seed: int = 0) -> None:
    x = rows(n, seed=seed)
    close(tensor(session.run({"x": x})), models.dense_output(models.dense(), x))


def shapes_of(session: Session) -> list[object]:
    return [plan.shapes["x"][0] for plan in session.plans]


def test_an_unseen_shape_runs_at_once_and_has_a_variant_later(
    session: Session, tuner: ToyTuner
) -> None:
    tuner.allowed.clear()
    for seed in range(3):
        check_run(session, 7, seed)
    assert shapes_of(session) == [4, "N"]
    assert not session.wait_for_tuning(0.02)
    tuner.allowed.set()
    assert session.wait_for_tuning(WAIT_S)
    assert shapes_of(session) == [4, "N", 7]
    check_run(session, 7)
    assert session.plan.shapes["x"] == (7, 8)
    assert tuner.asked == [(7, 8)]


def test_tuned_shapes_are_not_prepared(session: Session, tuner: ToyTuner) -> None:
    check_run(session, 4)
    assert session.wait_for_tuning(WAIT_S)
    assert not tuner.asked


def test_without_a_tuner_there_is_nothing_to_wait_for(backend: ToyBackend) -> None:
    model = Model.load(models.dense())
    plan = plan_for(model, "cpu/toy/fp32", {"x": (4, 8)})
    with Session(model, [plan], runtime=Runtime(registry_of(backend))) as session:
        check_run(session, 7)
        assert session.wait_for_tuning(0)
        assert shapes_of(session) == [4, "N"]


def test_the_tuner_gets_a_copy_of_the_inputs(session: Session, tuner: ToyTuner) -> None:
    tuner.allowed.clear()
    x = rows(3)
    session.run({"x": x})
    kept = x.copy()
    x[:] = 0
    tuner.allowed.set()
    assert session.wait_for_tuning(WAIT_S)
    (new,) = tuner.news
    np.testing.assert_array_equal(np.asarray(new.feeds["x"]), kept)
    assert new.model.inputs[0].shape == (3, 8)
    assert new.safe is not None
    assert new.safe.guard is None


def raise_(error: BaseException) -> Callable[[NewShape], object]:
    def during(new: NewShape) -> object:
        raise error

    return during


@pytest.mark.parametrize("error", [BackendError("no"), ZeroDivisionError("no"), SystemExit("no")])
def test_failures_stay_in_the_background(
    session: Session,
    tuner: ToyTuner,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    monkeypatch.setattr(background, "MAX_FAILURES", 2)
    tuner.during = raise_(error)
    for n in (2, 2, 3, 2, 5, 6):
        check_run(session, n)
        assert session.wait_for_tuning(WAIT_S)
    assert tuner.asked == [(2, 8), (3, 8)]  # none again, and after two of them nothing more
    assert shapes_of(session) == [4, "N"]
    assert "no more are tuned" in caplog.text
    assert "(2, 8)" in caplog.text


def test_what_is_left_as_it_is_is_not_asked_again(session: Session, tuner: ToyTuner) -> None:
    tuner.nothing = True
    for n in (2, 3, 2, 3):
        check_run(session, n)
        assert session.wait_for_tuning(WAIT_S)
    assert tuner.asked == [(2, 8), (3, 8)]


def test_binding_offers_nothing(session: Session, tuner: ToyTuner) -> None:
    bound = session.bind({"x": np.zeros((3, 8), np.float32)})
    bound.run()
    assert session.wait_for_tuning(WAIT_S)
    assert not tuner.asked


def test_a_prepared_variant_replaces_the_untuned_one() -> None:
    backend, tuner = ToyBackend("static", dynamic=False), ToyTuner()
    model = Model.load(models.dense())
    plan = plan_for(model, "cpu/static/fp32", {"x": (4, 8)})
    with Session(model, [plan], runtime=Runtime(registry_of(backend)), tuner=tuner) as session:
        check_run(session, 3)
        assert session.wait_for_tuning(WAIT_S)
        assert [plan.notes for plan in session.plans] == [(), ("toy",)]
        assert backend.count("close executable") == 1
        check_run(session, 3)
        bound = session.bind({"x": np.zeros((4, 8), np.float32)})
        bound.run()
    assert backend.count("close executable") == backend.count("compile") == 3


def test_state_goes_on_through_a_change_of_variants() -> None:
    backend, tuner = ToyBackend(), ToyTuner()
    model = Model.load(models.accumulator("N, 3"))
    plan = plan_for(model, "cpu/toy/fp32", {"x": (2, 3), "s": (2, 3)})
    runtime = Runtime(registry_of(backend))
    with Session(model, [plan], runtime=runtime, state={"s2": "s"}, tuner=tuner) as session:
        x = rows(5, 3)
        session.run({"x": x, "s": np.zeros_like(x)})
        for i in range(2, 5):
            close(tensor(session.run({"x": x})), i * x)
            assert session.wait_for_tuning(WAIT_S)
        assert tuner.asked == [(5, 3)]
        assert session.plan.shapes["x"] == (5, 3)


# --- how many ------------------------------------------------------------------------------------


def small_session(backend: ToyBackend, tuner: ToyTuner) -> Session:
    model = Model.load(models.dense())
    plan = plan_for(model, "cpu/toy/fp32", {"x": (4, 8)})
    return Session(model, [plan], runtime=Runtime(registry_of(backend)), tuner=tuner)


def test_shapes_that_take_turns_do_not_push_each_other_out(backend: ToyBackend) -> None:
    tuner = ToyTuner(most_variants=2)
    with small_session(backend, tuner) as session:
        for _ in range(5):
            for n in (1, 2, 3):
                check_run(session, n)
                assert session.wait_for_tuning(WAIT_S)
        assert tuner.asked == [(1, 8), (2, 8)]
        assert shapes_of(session) == [4, "N", 1, 2]


def test_a_shape_that_comes_more_often_takes_the_place_of_the_eldest(backend: ToyBackend) -> None:
    tuner = ToyTuner(most_variants=2)
    with small_session(backend, tuner) as session:
        for n in (1, 2, 3, 4, 3, 4, 3):
            check_run(session, n)
            assert session.wait_for_tuning(WAIT_S)
        assert shapes_of(session) == [4, "N", 2, 3]
        assert backend.count("close executable") == 1
        check_run(session, 1)
        assert session.plan.shapes["x"] == ("N", 8)


def test_a_bound_variant_stays(backend: ToyBackend) -> None:
    tuner = ToyTuner(most_variants=1)
    with small_session(backend, tuner) as session:
        check_run(session, 1)
        assert session.wait_for_tuning(WAIT_S)
        x = rows(1)
        bound = session.bind({"x": x})
        for n in (3, 4, 3, 4, 3, 4):
            check_run(session, n)
            assert session.wait_for_tuning(WAIT_S)
        close(tensor(bound.run()), models.dense_output(models.dense(), x))
        assert shapes_of(session) == [4, "N", 1]
        assert tuner.asked == [(1, 8), (3, 8)]  # compiled, found no room, and left alone


def test_inputs_that_wait_are_bounded(
    session: Session, tuner: ToyTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_WAITING_BYTES", 6 * 8 * 4)
    tuner.allowed.clear()
    check_run(session, 3)
    check_run(session, 5)  # no room beside it
    check_run(session, 7)  # never any room
    tuner.allowed.set()
    assert session.wait_for_tuning(WAIT_S)
    assert tuner.asked == [(3, 8)]
    for n in (5, 7):
        check_run(session, n)
    assert session.wait_for_tuning(WAIT_S)
    assert tuner.asked == [(3, 8), (5, 8)]


def test_no_memory_for_the_copy_is_no_error_of_the_run(
    session: Session, tuner: ToyTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(feeds: object) -> object:
        raise MemoryError

    monkeypatch.setattr(background, "_copied", fail)
    check_run(session, 3)
    monkeypatch.undo()
    assert not tuner.asked
    check_run(session, 3)
    assert session.wait_for_tuning(WAIT_S)
    assert tuner.asked == [(3, 8)]


def test_popularity_counts_switches_and_forgets() -> None:
    counted = Popularity(horizon=8)
    a, b, c = (((n, 8),) for n in (1, 2, 3))
    for key in (a, a, a, b, a):
        counted.note(key)
    assert (counted.of(a), counted.of(b), counted.of(c)) == (2, 1, 0)
    for key in (c, a, c, a, c):
        counted.note(key)
    assert (counted.of(a), counted.of(b), counted.of(c)) == (2, 0, 1)


# --- threads -------------------------------------------------------------------------------------


def test_many_threads_and_shapes_get_the_answers_of_their_own_inputs(backend: ToyBackend) -> None:
    tuner = ToyTuner(most_variants=3)

    def work(shared: Session, worker: int) -> None:
        rng = np.random.default_rng(worker)
        for _ in range(40):
            check_run(shared, int(rng.integers(1, 9)), seed=worker)

    with small_session(backend, tuner) as session, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [session] * 8, range(8)))
        assert session.wait_for_tuning(WAIT_S)
        assert len(session.plans) <= 5
    assert backend.count("close executable") == backend.count("compile")


def test_threads_with_the_same_new_shape_have_it_prepared_once(
    session: Session, tuner: ToyTuner
) -> None:
    barrier = threading.Barrier(6)

    def work(_: int) -> None:
        barrier.wait()
        check_run(session, 3)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert session.wait_for_tuning(WAIT_S)
    assert tuner.asked == [(3, 8)]


def test_the_thread_ends_when_there_is_nothing_left(session: Session) -> None:
    check_run(session, 3)
    assert session.wait_for_tuning(WAIT_S)
    for thread in threads():  # it has said so just before its end
        thread.join(WAIT_S)
    assert not threads()
    check_run(session, 5)
    assert session.wait_for_tuning(WAIT_S)
    assert shapes_of(session) == [4, "N", 3, 5]


def test_close_does_not_wait_for_what_can_stop(session: Session, tuner: ToyTuner) -> None:
    tuner.allowed.clear()
    for n in (1, 2, 3):
        check_run(session, n)
    start = time.perf_counter()
    while not tuner.asked and time.perf_counter() - start < WAIT_S:
        time.sleep(0.001)
    start = time.perf_counter()
    session.close()
    assert time.perf_counter() - start < 5
    assert len(tuner.asked) == 1
    assert session.wait_for_tuning(0)


def test_close_waits_for_a_compilation_and_frees_it(
    session: Session, tuner: ToyTuner, backend: ToyBackend
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def during(new: NewShape) -> None:
        inside.set()
        assert go_on.wait(WAIT_S)

    tuner.during = during
    check_run(session, 3)
    assert inside.wait(WAIT_S)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(session.close)
        threading.Event().wait(0.05)
        assert not closing.done()
        go_on.set()
        closing.result(WAIT_S)
    assert backend.count("close executable") == backend.count("compile") == 3
    assert backend.log[-1] == "close context"


def test_no_thread_to_be_had_is_no_error_of_the_run(
    session: Session, tuner: ToyTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    check_run(session, 3)
    monkeypatch.undo()
    assert session.wait_for_tuning(0)
    assert not tuner.asked


# --- quiet ---------------------------------------------------------------------------------------


def test_quiet_is_no_run_in_flight_and_an_idle_process(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = 0
    watched = Background(lambda key, feeds: True, busy=lambda: busy, eldest=lambda coming: None)
    monkeypatch.setattr(background, "MAX_QUIET_WAIT_S", WAIT_S)
    used_s = 0.0
    monkeypatch.setattr(time, "process_time", lambda: used_s)
    assert watched.quiet()
    assert not watched.pause()
    monkeypatch.setattr(background, "MAX_QUIET_WAIT_S", 0.05)
    busy = 1
    assert not watched.quiet()
    assert watched.pause()
    busy = 0
    monkeypatch.setattr(time, "process_time", time.monotonic)
    assert not watched.quiet()
    watched.stop()
    for wait in (watched.quiet, watched.pause):
        with pytest.raises(background.Stopped):
            wait()


def test_runs_in_flight_are_known(session: Session, backend: ToyBackend, tuner: ToyTuner) -> None:
    found: list[bool] = []
    inside, go_on = threading.Event(), threading.Event()
    tuner.during = lambda new: found.append(new.pause())
    tuner.allowed.clear()
    check_run(session, 3)

    def block(outputs: dict[str, object]) -> dict[str, object]:
        inside.set()
        assert go_on.wait(WAIT_S)
        return outputs

    backend.during = block  # type: ignore[assignment]
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(check_run, session, 4)
        assert inside.wait(WAIT_S)
        tuner.allowed.set()
        assert session.wait_for_tuning(WAIT_S)
        go_on.set()
        run.result(WAIT_S)
    tuner.allowed.clear()
    check_run(session, 5)
    tuner.allowed.set()
    assert session.wait_for_tuning(WAIT_S)
    assert found == [True, False]


# --- the end of the process ----------------------------------------------------------------------

SCRIPT = """
import os, sys, time
import numpy as np
from dioe.graph import Model
from dioe.runtime import Runtime, Session
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.plans import plan_for
from tests.toys.tuners import ToyTuner

model, tuner = Model.load(models.dense()), ToyTuner()
plan = plan_for(model, "cpu/toy/fp32", {"x": (4, 8)})
session = Session(model, [plan], runtime=Runtime(registry_of(ToyBackend())), tuner=tuner)

def run(n):
    return session.run({"x": np.ones((n, 8), np.float32)})
"""

ENDS = {
    "waiting": "tuner.allowed.clear(); run(3); time.sleep(0.05)",
    "compiling": "tuner.during = lambda new: time.sleep(0.3); run(3); time.sleep(0.05)",
    "failing": "tuner.allowed.clear(); run(3); time.sleep(0.05); sys.exit(0)",
}


def in_a_process(code: str) -> str:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT + textwrap.dedent(code)],
        capture_output=True, text=True, check=False, timeout=60, cwd=root,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_exits_while_something_is_prepared(how: str) -> None:
    in_a_process(ENDS[how])


def test_a_forked_child_prepares_for_itself() -> None:
    said = in_a_process(
        """
        import warnings
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        tuner.allowed.clear()
        run(3)
        child = os.fork()
        if not child:
            tuner.allowed.set()
            run(3)
            done = session.wait_for_tuning(30)
            print(done, [plan.shapes["x"][0] for plan in session.plans], flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        session.close()
        """
    )
    assert said == "True [4, 'N', 3]\n"


def test_errors_are_dioes() -> None:
    """Stopped is for whoever prepares, and is none of the errors that users see."""
    assert not issubclass(background.Stopped, DioeError)
