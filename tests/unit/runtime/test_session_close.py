"""The end of a session, and of the contexts it shares with others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dioe.graph import Model
from dioe.runtime import Runtime, Session
from dioe.types import BackendError, InputError, Resources, Target, Value
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.plans import RESOURCES, plan_for
from tests.toys.values import close, tensor
from tests.unit.runtime.conftest import MakeSession

X = np.array([[1.0, -2.0, 3.0, -4.0]], np.float32)


class Gate:
    """Holds runs of a toy backend until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, outputs: dict[str, Value]) -> dict[str, Value]:
        self.entered.release()
        assert self.open.wait(30)
        return outputs


@pytest.fixture
def gate(toy: ToyBackend) -> Gate:
    gate = Gate()
    toy.during = gate
    return gate


def use_session(session: Session) -> Callable[[], Any]:
    return lambda: session.run({"x": X})


def use_bound(session: Session) -> Callable[[], Any]:
    bound = session.bind({"x": X.copy()})
    return bound.run


@pytest.mark.parametrize("use", [use_session, use_bound])
def test_close_waits_for_runs_in_flight(
    make_session: MakeSession, toy: ToyBackend, gate: Gate, use: Any
) -> None:
    session = make_session(models.relu(), target="cpu/toy/fp32")
    calls = [use(session) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(call) for call in calls]
        for _ in runs:
            assert gate.entered.acquire(timeout=30)
        closing = pool.submit(session.close)
        threading.Event().wait(0.1)
        assert not closing.done()
        assert toy.count("close executable") == 0
        gate.open.set()
        closing.result(30)
        assert toy.count("close executable") == 1
        for run in runs:
            close(tensor(run.result(30)), np.maximum(X, 0))


def test_a_closed_session_says_so(make_session: MakeSession) -> None:
    session = make_session(models.relu())
    bound = session.bind()
    session.run({"x": X})
    session.close()
    session.close()
    for use in (lambda: session.run({"x": X}), session.bind, bound.run):
        with pytest.raises(InputError, match="closed") as caught:
            use()
        assert caught.value.fix


def test_a_closed_session_with_state_says_so(make_session: MakeSession) -> None:
    session = make_session(models.accumulator(), state={"s2": "s"})
    session.close()
    with pytest.raises(InputError, match="session is closed"):
        session.run({"x": X[:, :3]})


def test_leaving_the_with_block_closes(make_session: MakeSession, toy: ToyBackend) -> None:
    with make_session(models.relu(), target="cpu/toy/fp32") as session:
        session.run({"x": X})
    expected = ["open", "compile", "request", "run", "close executable", "close context"]
    assert toy.log == expected


def test_an_error_in_the_with_block_closes_too(make_session: MakeSession, toy: ToyBackend) -> None:
    with pytest.raises(ZeroDivisionError), make_session(models.relu(), target="cpu/toy/fp32"):
        raise ZeroDivisionError
    assert toy.log[-1] == "close context"


def test_closing_while_others_run_gives_results_or_the_closed_error(
    make_session: MakeSession,
) -> None:
    session = make_session(models.relu())
    started = threading.Barrier(5)

    def work(_: int) -> int:
        started.wait()
        for i in range(100_000):
            try:
                close(tensor(session.run({"x": X})), np.maximum(X, 0))
            except InputError as error:
                assert "closed" in error.cause  # noqa: PT017 - the number of runs is open
                return i
        return -1

    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(work, range(4))
        started.wait()
        threading.Event().wait(0.05)
        session.close()
        assert all(count >= 0 for count in runs)


def test_a_failing_run_leaves_the_session_usable(
    make_session: MakeSession, toy: ToyBackend
) -> None:
    session = make_session(models.relu(), target="cpu/toy/fp32")

    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise BackendError("the device sulks")

    for _ in range(3):
        toy.during = fail
        with pytest.raises(BackendError, match="sulks"):
            session.run({"x": X})
        toy.during = lambda outputs: outputs
        close(tensor(session.run({"x": X})), np.maximum(X, 0))
    session.close()
    assert toy.log[-1] == "close context"


# --- contexts -----------------------------------------------------------------------------------


def test_sessions_share_a_context_until_the_last_is_closed(
    make_session: MakeSession, toy: ToyBackend
) -> None:
    first = make_session(models.relu(), target="cpu/toy/fp32")
    second = make_session(models.dense(), target="cpu/toy/fp32")
    assert toy.count("open") == 1
    first.close()
    assert toy.count("close context") == 0
    close(
        tensor(second.run({"x": np.ones((2, 8), np.float32)})),
        models.dense_output(models.dense(), np.ones((2, 8), np.float32)),
    )
    second.close()
    assert toy.count("close context") == 1
    third = make_session(models.relu(), target="cpu/toy/fp32")
    assert toy.count("open") == 2
    third.run({"x": X})


def test_other_resources_are_another_context(runtime: Runtime, toy: ToyBackend) -> None:
    target = Target("cpu", "toy")
    with runtime.context(target, Resources(threads=1)) as one:
        with runtime.context(target, Resources(threads=2)) as two:
            assert one is not two
        with runtime.context(target, Resources(threads=1)) as again:
            assert one is again
        assert toy.count("close context") == 1
    assert toy.count("close context") == 2


def test_closing_the_runtime_closes_what_is_held(toy: ToyBackend) -> None:
    runtime = Runtime(registry_of(toy))
    model = Model.load(models.relu())
    session = Session(model, [plan_for(model, "cpu/toy/fp32")], runtime=runtime)
    runtime.close()
    assert toy.count("close context") == 1
    session.close()
    assert toy.count("close context") == 1


def test_a_context_that_fails_to_close_keeps_no_other_from_closing() -> None:
    bad, good = ToyBackend("bad"), ToyBackend("good")
    runtime = Runtime(registry_of(bad, good))
    for name in ("bad", "good"):
        runtime.acquire(Target("cpu", name), RESOURCES)
    bad.note = _raise  # type: ignore[method-assign]
    runtime.close()
    assert good.count("close context") == 1


def _raise(text: str) -> None:
    raise BackendError(text)


def test_a_stage_that_fails_to_close_keeps_no_other_from_closing() -> None:
    bad, good = ToyBackend("bad"), ToyBackend("good")
    runtime = Runtime(registry_of(bad, good))
    model = Model.load(models.relu())
    plans = [plan_for(model, f"cpu/{name}/fp32") for name in ("bad", "good")]
    session = Session(model, plans, runtime=runtime)
    bad.note = _raise  # type: ignore[method-assign]
    with pytest.raises(BackendError):
        session.close()
    assert good.count("close executable") == 1
    assert good.count("close context") == 1


def test_the_current_runtime_is_one() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: Runtime.current(), range(16)))
    assert len(set(map(id, found))) == 1
