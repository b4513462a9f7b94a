"""What is wrong is said by an error of the right class, and hurts nothing that comes after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from dioe.testing.models import floats, load, model, relu
from dioe.testing.subject import RESOURCES, Subject, run
from dioe.types import (
    BackendError,
    DioeError,
    InputError,
    OutOfMemory,
    Precisions,
    Request,
    Resources,
    TensorSpec,
)


def assert_works(request: Request) -> None:
    """A request on ``relu()`` still runs."""
    found = run(request, {"x": floats(2, 4)})["y"]
    assert (found.shape, found.dtype) == ((2, 4), np.float32)


def test_wrong_inputs(subject: Subject) -> None:
    """An unknown name, another dtype, size or rank, no array at all, none given."""
    request: Any = subject.request(relu())
    good = floats(2, 4)
    with pytest.raises(InputError, match="x"):
        request.run()
    for name, value, match in (
        ("q", good, "'q'"),
        ("x", good.astype(np.float64), "float64"),
        ("x", good[:1], r"\[1, 4\]"),
        ("x", good[0], r"\[4\]"),
        ("x", object(), "x"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({name: value})
        if hasattr(request, "call"):
            with pytest.raises(InputError):
                request.call({name: value}, ["y"])
    if hasattr(request, "call"):
        with pytest.raises(InputError, match="x"):
            request.call({}, ["y"])
    assert_works(request)


def test_wrong_outputs(subject: Subject) -> None:
    """Buffers of an unknown name, another dtype or size."""
    request: Any = subject.request(relu())
    good = floats(2, 4)
    read_only = np.empty((2, 4), np.float32)
    read_only.flags.writeable = False
    for outputs, match in (
        ({"q": good}, "'q'"),
        ({"y": good.astype(np.float64)}, "float64"),
        ({"y": good[:1]}, r"\[1, 4\]"),
        ({"y": read_only}, "writ"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({"x": good}, outputs)
    if hasattr(request, "call"):
        with pytest.raises(InputError, match="q"):
            request.call({"x": good}, ["q"])
    assert_works(request)


def test_a_bound_output_of_another_size(subject: Subject) -> None:
    """Where the size is known after the run only, the run says so; the right one works then."""
    request = subject.request(relu("N"))
    x = floats(2, 4)
    for rows in (3, 1):
        request.bind({"x": x}, {"y": np.empty((rows, 4), np.float32)})
        with pytest.raises(InputError, match="y"):
            request.run().wait()
    y = np.empty((2, 4), np.float32)
    request.bind({}, {"y": y})
    request.run().wait()
    if not subject.backend.simulated:
        np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_an_output_that_is_an_input_is_checked(subject: Subject) -> None:
    """Values that are only given on are checked as all others."""
    made = model("g (float[N] x) => (float[N] y, float[N] x) { y = Relu(x) }")
    executable = subject.compile(made)
    request: Any = executable.request()
    x = floats(4)
    with pytest.raises(InputError, match="x"):
        request.bind({"x": x}, {"x": np.empty(4, np.float64)})
    if hasattr(request, "call"):
        for wrong in ({"x": x.astype(np.float64)}, {"q": x}, {}):
            with pytest.raises(InputError):
                request.call(wrong, ["x"])
    request.bind({"x": x}, {"x": np.empty(5, np.float32)})
    with pytest.raises(InputError, match="x"):
        request.run().wait()
    executable.close()
    with pytest.raises(BackendError, match="closed"):
        request.run()


def test_inputs_that_nothing_reads(subject: Subject) -> None:
    """They are inputs all the same: asked for, and checked."""
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Relu", ["x"], ["y"])],
        [info("unused", TensorProto.INT64, [2]), info("x", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, [3])],
    )
    executable = subject.compile(made)
    assert [spec.name for spec in executable.inputs] == ["unused", "x"]
    feeds = {"unused": np.array([4, 5]), "x": floats(3)}
    request: Any = executable.request()
    if hasattr(request, "call"):
        with pytest.raises(InputError, match="unused"):
            request.call({"x": feeds["x"]}, ["y"])
        with pytest.raises(InputError, match="float32"):
            request.call(feeds | {"unused": floats(2)}, ["y"])
    with pytest.raises(InputError, match="float32"):
        request.bind({"unused": floats(2)})
    request.bind({"x": feeds["x"]})
    with pytest.raises(InputError, match="unused"):
        request.run()
    found = run(request, feeds)["y"]
    if not subject.backend.simulated:
        np.testing.assert_array_equal(found, np.maximum(feeds["x"], 0))


def test_control_characters_in_names_stay_out_of_messages(subject: Subject) -> None:
    """A model's names are data; a terminal must not obey them."""
    name = "x\x1b[31m\r\n"
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Relu", [name], ["y"])],
        [info(name, TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, [3])],
    )
    request: Any = subject.request(made)
    uses: list[Callable[[], Any]] = [
        lambda: request.bind({name: floats(4)}),
        lambda: request.bind({"q": floats(3)}),
        request.run,
    ]
    if hasattr(request, "call"):
        uses += [
            lambda: request.call({}, ["y"]),
            lambda: request.call({name: floats(4)}, ["y"]),
        ]
    for use in uses:
        with pytest.raises(InputError) as caught:
            use()
        assert not {"\x1b", "\r"} & set(str(caught.value))


@pytest.mark.correctness
def test_values_that_fail_in_the_run(subject: Subject) -> None:
    """A shape that the data can't have is a DioeError, and the request goes on."""
    made = model("g (float[6] x, int64[2] s) => (float[A,B] y) { y = Reshape(x, s) }")
    request = subject.request(made)
    x = floats(6)
    request.bind({"x": x, "s": np.array([2, 2])})
    with pytest.raises(DioeError):
        request.run().wait()
    found = run(request, {"s": np.array([2, 3])})["y"]
    np.testing.assert_array_equal(found, x.reshape(2, 3))


@pytest.mark.correctness
def test_a_result_that_fits_nowhere(subject: Subject) -> None:
    """4 PiB are more than any address space has: OutOfMemory, or a BackendError that says so."""
    made = model("g (float[1] x, int64[1] s) => (float[N] y) { y = Expand(x, s) }")
    request = subject.request(made)
    request.bind({"x": floats(1), "s": np.array([2**50])})
    with pytest.raises((OutOfMemory, BackendError)):
        request.run().wait()
    found = run(request, {"s": np.array([3])})["y"]
    np.testing.assert_array_equal(found, np.repeat(floats(1), 3))


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("threads", 0),
        ("threads", -1),
        ("threads", 2**40),
        ("threads", True),
        ("threads", 1.5),
        ("threads", "2"),
        ("streams", 0),
        ("streams", 2**40),
        ("cores", (-1,)),
        ("cores", (2**40,)),
        ("memory_limit_bytes", 0),
        ("memory_limit_bytes", -1),
    ],
)
def test_impossible_resources(subject: Subject, what: str, value: Any) -> None:
    """Counts that no device has are refused by name."""
    with pytest.raises(InputError, match=what):
        subject.open(replace(Resources(), **{what: value}))


def test_buffers_that_can_not_be(subject: Subject) -> None:
    """``alloc`` needs numbers for dimensions, ``copy`` the same shape on both sides."""
    context = subject.open()
    float32 = np.dtype(np.float32)
    with pytest.raises(InputError, match="numbers"):
        context.alloc(TensorSpec("b", float32, ("N", 5)))
    small, large = (context.alloc(TensorSpec("b", float32, (n, 5))) for n in (2, 3))
    with pytest.raises(InputError, match="copy"):
        context.copy(small, large).wait()


def test_a_blob_that_is_none(subject: Subject) -> None:
    """Compiled code from elsewhere, or none at all, is an error of DIOE's."""
    with pytest.raises(DioeError):
        subject.open().deserialize(b"this was never compiled by anyone")


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.STRING])
def test_everything_of_a_closed_request(subject: Subject, used: bool, element: int) -> None:
    """Each use of a request whose executable is closed is a BackendError that says so."""
    info = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    made = load([node], [info("x", element, [2])], [info("y", element, [2])])
    executable = subject.compile(made)
    dtype = executable.inputs[0].dtype
    x = floats(2).astype(dtype) if not dtype.hasobject else np.array(["a", "b"], dtype)
    request: Any = executable.request()
    if used:
        run(request, {"x": x})
    executable.close()
    uses: list[Callable[[], Any]] = [
        lambda: request.bind({"x": x}),
        request.run,
        lambda: request.outputs,
    ]
    if hasattr(request, "call"):
        uses += [lambda: request.call({"x": x}, ["y"]), lambda: request.call({}, ["y"])]
    for use in uses:
        with pytest.raises(BackendError, match="closed"):
            use()


def test_closed_executables_and_contexts(subject: Subject) -> None:
    """Closing twice is fine; a context closes what it compiled; nothing is made after that."""
    subject.take(relu())
    context = subject.backend.open(subject.device, RESOURCES)
    first, second = (context.compile(relu(), Precisions(), {}) for _ in range(2))
    first.close()
    first.close()
    with pytest.raises(BackendError, match="closed"):
        first.request()
    assert_works(second.request())
    context.close()
    context.close()
    with pytest.raises(BackendError, match="closed"):
        second.request()
    with pytest.raises(BackendError, match="closed"):
        context.compile(relu(), Precisions(), {})
