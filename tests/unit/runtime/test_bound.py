"""``session.bind``: preset buffers, written and read in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dioe.types import Array, InputError
from tests.toys import models
from tests.toys.values import close, tensor
from tests.unit.runtime.conftest import MakeSession

TARGETS = ["cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32", "cpu/toy/fp32"]


def rows(n: int, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_given_are_read_in_place(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    x = rows(4)
    bound = session.bind({"x": x})
    assert bound.inputs["x"] is x
    for seed in range(4):
        x[:] = rows(4, seed=seed)
        close(tensor(bound.run()), models.dense_output(model, x))
        close(tensor(bound.outputs), models.dense_output(model, x))


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_not_given_are_allocated(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    bound = session.bind()
    x = tensor(bound.inputs, "x")
    x[:] = rows(4, seed=3)
    close(tensor(bound.run()), models.dense_output(model, x))


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_given_are_written_in_place(make_session: MakeSession, target: str) -> None:
    session = make_session(models.branches(), {"x": (3, 6)}, target=target)
    x, z = rows(3, 6), np.full((3, 6), np.nan, np.float32)
    bound = session.bind({"x": x}, {"z": z})
    for seed in range(3):
        x[:] = rows(3, 6, seed=seed)
        outputs = bound.run()
        assert outputs["z"] is z
        expected = session.run({"x": x})
        close(z, tensor(expected, "z"))
        close(tensor(outputs, "y"), tensor(expected, "y"))


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_of_known_shapes_stay_where_they_are(
    make_session: MakeSession, target: str
) -> None:
    bound = make_session(models.relu(), target=target).bind({"x": rows(1, 4)})
    first = bound.run()["y"]
    assert bound.run()["y"] is first


@pytest.mark.parametrize("target", TARGETS)
def test_two_bound_requests_are_independent(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    x1, x2 = rows(4, seed=1), rows(4, seed=2)
    one, two = session.bind({"x": x1}), session.bind({"x": x2})
    y1 = tensor(one.run())
    y2 = tensor(two.run())
    assert not np.shares_memory(y1, y2)
    close(y1, models.dense_output(model, x1))
    close(y2, models.dense_output(model, x2))
    session.run({"x": rows(4, seed=5)})
    close(y1, models.dense_output(model, x1))
    x2[:] = 0.5
    one.run()
    close(y2, models.dense_output(model, rows(4, seed=2)))


@pytest.mark.parametrize("target", TARGETS)
def test_another_shape_is_bound_on_open_shapes(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    x = rows(6)
    bound = session.bind({"x": x})
    for seed in range(3):
        x[:] = rows(6, seed=seed)
        close(tensor(bound.run()), models.dense_output(model, x))


@pytest.mark.parametrize("target", TARGETS)
def test_an_output_of_open_shape_may_be_given(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, target=target)
    x, y = rows(6), np.zeros((6, 8), np.float32)
    bound = session.bind({"x": x}, {"y": y})
    assert bound.run()["y"] is y
    close(y, models.dense_output(model, x))


def test_python_lists_become_arrays_to_write_into(make_session: MakeSession) -> None:
    bound = make_session(models.relu()).bind({"x": [[1, -2, 3, -4]]})
    close(tensor(bound.run()), np.array([[1, 0, 3, 0]], np.float32))
    tensor(bound.inputs, "x")[:] = -1
    close(tensor(bound.run()), np.zeros((1, 4), np.float32))


READ_ONLY = rows(1, 4)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ({"X": rows(1, 4)}, None, "no input 'X'"),
        ({"x": rows(1, 5)}, None, "shape"),
        ({"x": rows(1, 4).astype(np.float64)}, None, "dtype float64"),
        ({"x": rows(1, 8)[:, ::2]}, None, "input 'x' is not C-contiguous"),
        (rows(1, 4), None, "mapping"),
        (None, {"z": rows(1, 4)}, "no output 'z'"),
        (None, {"y": rows(1, 5)}, r"float32\[1, 5\], the model gives y float32\[1,4\]"),
        (None, {"y": rows(4, 1)[:, 0]}, "the model gives"),
        (None, {"y": rows(1, 4).astype(np.float64)}, "float64"),
        (None, {"y": rows(1, 8)[:, ::2]}, "output 'y' is not C-contiguous"),
        (None, {"y": READ_ONLY}, "read-only"),
        (None, {"y": [1.0]}, "output 'y' is a list"),
        (None, rows(1, 4), "outputs is a ndarray"),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_what_cant_be_bound_is_an_input_error(
    make_session: MakeSession, inputs: Any, outputs: Any, says: str, target: str
) -> None:
    session = make_session(models.relu(), target=target)
    with pytest.raises(InputError, match=says) as caught:
        session.bind(inputs, outputs)
    assert caught.value.fix
    x = rows(1, 4)
    close(tensor(session.run({"x": x})), np.maximum(x, 0))


def test_inputs_of_unknown_shape_have_to_be_given(make_session: MakeSession) -> None:
    session = make_session(models.dense())
    with pytest.raises(InputError, match="missing input: x"):
        session.bind()


def test_text_is_bound(make_session: MakeSession) -> None:
    session = make_session(models.parse("g (string[N] t) => (string[N] u) { u = Identity(t) }"), {})
    t = np.array(["river", "mill"], dtype=object)
    bound = session.bind({"t": t})
    assert tensor(bound.run(), "u").tolist() == ["river", "mill"]
    t[0] = "stone"
    assert tensor(bound.run(), "u").tolist() == ["stone", "mill"]


def test_a_closed_request_is_told_while_the_session_goes_on(make_session: MakeSession) -> None:
    session = make_session(models.relu())
    bound = session.bind()
    bound.close()
    bound.close()
    with pytest.raises(InputError, match="closed"):
        bound.run()
    session.bind().run()
