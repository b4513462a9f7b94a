"""Declared state: outputs that become inputs of the next run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dioe.types import Array, BackendError, InputError, Value
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.toys.values import close, tensor
from tests.unit.runtime.conftest import MakeSession

TARGETS = ["cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32", "cpu/toy/fp32"]
STATE = {"s2": "s"}


def x(value: float = 1.0) -> Array:
    return np.array([[value, 2 * value, -value]], np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_state_goes_from_run_to_run(make_session: MakeSession, target: str) -> None:
    session = make_session(models.accumulator(), target=target, state=STATE)
    for i in range(1, 6):
        outputs = session.run({"x": x()})
        assert list(outputs) == ["y"]
        close(tensor(outputs), i * x())


def test_state_is_given_out_when_named(make_session: MakeSession) -> None:
    session = make_session(models.accumulator(), state=STATE)
    session.run({"x": x()})
    outputs = session.run({"x": x()}, ["s2", "y"])
    assert list(outputs) == ["s2", "y"]
    close(tensor(outputs, "s2"), 2 * x())
    assert list(session.run({"x": x()}, ["s2"])) == ["s2"]


def test_state_given_out_is_the_callers_own(make_session: MakeSession) -> None:
    session = make_session(models.accumulator(), state=STATE)
    tensor(session.run({"x": x()}, ["s2"]), "s2")[:] = np.nan
    close(tensor(session.run({"x": x()})), 2 * x())


@pytest.mark.parametrize("target", TARGETS)
def test_reset_starts_again_at_zeros(make_session: MakeSession, target: str) -> None:
    session = make_session(models.accumulator(), target=target, state=STATE)
    for _ in range(3):
        session.run({"x": x()})
    session.reset_state()
    close(tensor(session.run({"x": x()})), x())


def test_zeros_are_never_written_to(make_session: MakeSession) -> None:
    """An Identity of the state may alias the zeros that a session starts with."""
    session = make_session(
        models.parse("""
            g (float[2] x, float[2] s) => (float[2] y, float[2] s2) {
                y = Add(x, s) s2 = Identity(s)
            }
        """),
        state=STATE,
    )
    one = np.ones(2, np.float32)
    tensor(session.run({"x": one}, ["s2"]), "s2")[:] = 9
    session.reset_state()
    close(tensor(session.run({"x": one})), one)


def test_an_explicit_feed_replaces_the_state(make_session: MakeSession) -> None:
    session = make_session(models.accumulator(), state=STATE)
    session.run({"x": x()})
    given = np.array([[10.0, 20.0, 30.0]], np.float32)
    before = given.copy()
    close(tensor(session.run({"x": x(), "s": given})), given + x())
    close(tensor(session.run({"x": x()})), given + 2 * x())
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("target", TARGETS)
def test_runs_from_many_threads_are_queued(make_session: MakeSession, target: str) -> None:
    session = make_session(models.accumulator(), target=target, state=STATE)
    threads, runs = 8, 60

    def work(_: int) -> list[float]:
        return [float(tensor(session.run({"x": x()}))[0, 0]) for _ in range(runs)]

    with ThreadPoolExecutor(threads) as pool:
        seen = sorted(value for values in pool.map(work, range(threads)) for value in values)
    assert seen == [float(i) for i in range(1, threads * runs + 1)]
    close(tensor(session.run({"x": x(0)})), threads * runs * x())


@pytest.mark.parametrize("target", TARGETS)
def test_bound_requests_have_their_own_state(make_session: MakeSession, target: str) -> None:
    session = make_session(models.accumulator(), target=target, state=STATE)
    session.run({"x": x()})
    one, two = session.bind({"x": x()}), session.bind({"x": x(10)})
    for i in range(1, 4):
        close(tensor(one.run()), i * x())
        close(tensor(two.run()), i * x(10))
    one.reset_state()
    close(tensor(one.run()), x())
    close(tensor(two.run()), 4 * x(10))
    close(tensor(session.run({"x": x()})), 2 * x())


@pytest.mark.parametrize("target", TARGETS)
def test_a_bound_request_starts_with_the_state_it_is_given(
    make_session: MakeSession, target: str
) -> None:
    session = make_session(models.accumulator(), target=target, state=STATE)
    bound = session.bind({"x": x(), "s": x(5)})
    close(tensor(bound.run()), 6 * x())
    close(tensor(bound.run()), 7 * x())
    tensor(bound.inputs, "s")[:] = 0
    close(tensor(bound.run()), x())


def test_a_failed_run_keeps_the_state(make_session: MakeSession, toy: ToyBackend) -> None:
    session = make_session(models.accumulator(), target="cpu/toy/fp32", state=STATE)
    session.run({"x": x()})

    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise BackendError("the device sulks")

    toy.during = fail
    with pytest.raises(BackendError):
        session.run({"x": x()})
    with pytest.raises(InputError, match="dtype"):
        session.run({"x": x().astype(np.float64)})
    toy.during = lambda outputs: outputs
    close(tensor(session.run({"x": x()})), 2 * x())


def test_state_of_a_symbolic_batch_takes_the_plans_shape(make_session: MakeSession) -> None:
    session = make_session(models.accumulator("N, 3"), {"x": (2, 3), "s": (2, 3)}, state=STATE)
    batch = np.concatenate([x(), x(4)])
    session.run({"x": batch})
    close(tensor(session.run({"x": batch})), 2 * batch)
    with pytest.raises(InputError, match="N = "):
        session.run({"x": x()})


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"nope": "s"}, "no such output or input"),
        ({"s2": "nope"}, "no such output or input"),
        ({"s2": "n"}, "int64"),
    ],
)
def test_state_that_doesnt_fit_is_an_input_error(
    make_session: MakeSession, state: dict[str, str], says: str
) -> None:
    model = models.parse("""
        g (float[2] x, float[2] s, int64[2] n) => (float[2] s2, int64[2] m) {
            s2 = Add(x, s) m = Identity(n)
        }
    """)
    with pytest.raises(InputError, match=says):
        make_session(model, state=state)


def test_state_of_unknown_shape_asks_for_samples(make_session: MakeSession) -> None:
    with pytest.raises(InputError, match="shape of state input 's' is not known") as caught:
        make_session(models.accumulator("N, 3"), state=STATE)
    assert "sample_inputs" in caught.value.fix


def test_reset_without_state_is_an_input_error(make_session: MakeSession) -> None:
    with pytest.raises(InputError, match="no declared state"):
        make_session(models.relu()).reset_state()


@pytest.mark.parametrize("feeds", [None, np.ones((1, 3), np.float32), {"y": x()}, {}])
def test_wrong_feeds_of_a_session_with_state(make_session: MakeSession, feeds: Any) -> None:
    session = make_session(models.accumulator(), state=STATE)
    with pytest.raises(InputError):
        session.run(feeds)
    close(tensor(session.run({"x": x()})), x())
