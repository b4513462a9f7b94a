"""Buffers of the device: filled, bound on both sides, handed on from request to request.

Where the device computes in host memory, so are its buffers, and the same holds for them. A
simulated backend's are checked too, but for the values in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dioe.testing.models import floats, model, relu
from dioe.testing.subject import Subject, direct
from dioe.types import (
    Array,
    BackendError,
    Buffer,
    Context,
    DioeError,
    Executable,
    HostBuffer,
    InputError,
    Precisions,
    TensorSpec,
)

GIVEN_ON = "g (float[2,4] x) => (float[2,4] y, float[2,4] x) { y = Relu(x) }"


class Device:
    """A context on the device, and the way of arrays to it and back."""

    def __init__(self, subject: Subject) -> None:
        self.context: Context = subject.open()
        self._subject = subject

    def compile(self, text: str) -> Executable:
        """A model from its text; NotCovered if the backend refuses any op."""
        made = model(text)
        self._subject.take(made)
        return self.context.compile(made, Precisions(), {})

    def buffer(self, array: Array) -> Buffer:
        """A buffer of the device with what is in ``array``."""
        found = self.empty(array.dtype, *array.shape)
        self.context.copy(HostBuffer(array), found).wait()
        return found

    def empty(self, dtype: Any, *shape: int) -> Buffer:
        """A buffer of the device with whatever is in it."""
        return self.context.alloc(TensorSpec("b", np.dtype(dtype), shape))

    def host(self, value: Any) -> Array:
        """What is in a buffer or an array."""
        if isinstance(value, np.ndarray):
            return value
        array = np.empty(value.shape, value.dtype)
        self.context.copy(value, HostBuffer(array)).wait()
        return array

    def check(self, value: Any, expected: Array) -> None:
        """Assert what is in a buffer or an array; its kind only on a simulated device."""
        found = self.host(value)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        if not self._subject.backend.simulated:
            np.testing.assert_array_equal(found, expected)


def is_bound(value: Any, bound: Array | Buffer) -> bool:
    """True if an output is what was bound for it, or an array over the same memory."""
    if value is bound:
        return True
    if not isinstance(value, np.ndarray) or isinstance(bound, np.ndarray):
        return False
    return np.shares_memory(value, bound.numpy())


@pytest.fixture
def device(subject: Subject) -> Device:
    """The device under test, opened."""
    return Device(subject)


ARRAYS: dict[str, Callable[[], Array]] = {
    "floats": lambda: floats(3, 5),
    "integers": lambda: np.arange(7, dtype=np.int64) - 3,
    "truths": lambda: np.array([[True, False, True]]),
    "scalar": lambda: floats(1).reshape(()),
    "empty": lambda: floats(0, 4),
    "strided": lambda: floats(6, 8)[::2, 1::3],
}


@pytest.mark.parametrize("array", ARRAYS)
def test_copies_there_and_back(subject: Subject, device: Device, array: str) -> None:
    """From the host to the device, within it, and to the host again."""
    source = ARRAYS[array]()
    there, beside = device.buffer(source), device.empty(source.dtype, *source.shape)
    assert isinstance(there, Buffer)
    assert (there.device, there.dtype, there.shape) == (
        subject.device,
        source.dtype,
        source.shape,
    )
    device.context.copy(there, beside).wait()
    target = np.empty((*source.shape, 2), source.dtype)[..., 0]  # strided, where it isn't empty
    device.context.copy(beside, HostBuffer(target)).wait()
    device.check(target, source)
    assert there.ready.done()


def test_memory_that_the_host_can_not_read_says_so(device: Device) -> None:
    """``numpy`` is a view of host memory, or a BackendError."""
    data = floats(2, 3)
    buffer = device.buffer(data)
    try:
        view = buffer.numpy()
    except BackendError:
        return
    device.check(view, data)


def test_bound_on_both_sides(device: Device) -> None:
    """Bound buffers are read and written in place, run by run, and given as outputs."""
    request = device.compile("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }").request()
    data = floats(2, 4)
    x, y = device.buffer(data), device.empty(np.float32, 2, 4)
    request.bind({"x": x}, {"y": y})
    for seed in range(3):
        request.run().wait()
        assert is_bound(request.outputs["y"], y)
        device.check(y, np.maximum(data, 0))
        device.check(x, data)
        data = floats(2, 4, seed=seed + 1)
        device.context.copy(HostBuffer(data), x).wait()


def test_handed_on_from_request_to_request(device: Device) -> None:
    """What one writes, the next reads where it is; only the last is waited for."""
    first = device.compile("g (float[5] x) => (float[5] y) { y = Neg(x) }").request()
    second = device.compile("g (float[5] x) => (float[5] y) { y = Add(x, x) }").request()
    data = floats(5)
    a, b, c = device.buffer(data), device.empty(np.float32, 5), device.empty(np.float32, 5)
    first.bind({"x": a}, {"y": b})
    second.bind({"x": b}, {"y": c})
    for seed in range(3):
        first.run()
        second.run().wait()
        device.check(c, -2 * data)
        data = floats(5, seed=seed + 1)
        device.context.copy(HostBuffer(data), a)


def test_of_any_executable_of_the_device(subject: Subject, device: Device) -> None:
    """A buffer belongs to the device, not to the context that it was allocated in."""
    other = Device(subject)
    request = other.compile("g (float[3] x) => (float[3] y) { y = Neg(x) }").request()
    data = floats(3)
    x, y = device.buffer(data), other.empty(np.float32, 3)
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    device.check(y, -data)
    other.context.close()
    device.check(x, data)


def test_beside_arrays(device: Device) -> None:
    """Each name goes to the device or to the host, and from one to the other when bound anew."""
    request = device.compile(
        "g (float[6] a, float[6] b) => (float[6] y, float[6] z) { y = Sub(a, b) z = Add(a, b) }"
    ).request()
    a, b = floats(6), floats(6, seed=1)
    y, z = device.empty(np.float32, 6), np.empty(6, np.float32)
    request.bind({"a": device.buffer(a), "b": b}, {"y": y})
    request.run().wait()
    assert is_bound(request.outputs["y"], y)
    device.check(y, a - b)
    device.check(request.outputs["z"], a + b)
    kept = device.host(y).copy()
    target = np.empty(6, np.float32)
    request.bind({"a": a, "b": device.buffer(2 * b)}, {"y": target, "z": z})
    request.run().wait()
    assert is_bound(request.outputs["y"], target)
    device.check(target, a - 2 * b)
    device.check(z, a + 2 * b)
    device.check(y, kept)


def test_outputs_that_are_inputs(device: Device) -> None:
    """A value that is only given on, from and to either place; the feed stays as it was."""
    executable = device.compile(GIVEN_ON)
    data = floats(2, 4)
    for feed in (data.copy(), device.buffer(data)):
        for x in (None, np.empty((2, 4), np.float32), device.empty(np.float32, 2, 4)):
            request = executable.request()
            y = device.empty(np.float32, 2, 4)
            request.bind({"x": feed}, {"y": y} if x is None else {"y": y, "x": x})
            for _ in range(2):
                request.run().wait()
                assert list(request.outputs) == ["y", "x"]
                assert x is None or is_bound(request.outputs["x"], x)
                device.check(request.outputs["x"], data)
                device.check(y, np.maximum(data, 0))
            device.check(feed, data)


def test_call_takes_buffers(device: Device) -> None:
    """And gives fresh values, of an input that is an output as well."""
    request = direct(device.compile(GIVEN_ON).request())
    data = floats(2, 4)
    x = device.buffer(data)
    for names in (["y"], ["x", "y"], ["x"]):
        for name, value in zip(names, request.call({"x": x}, names), strict=True):
            assert value is not x
            device.check(value, np.maximum(data, 0) if name == "y" else data)
    device.check(x, data)


def test_shapes_may_change_between_runs(subject: Subject, device: Device) -> None:
    """With a buffer for each shape on both sides; one that doesn't fit is an InputError."""
    subject.take(relu("N"))
    request = device.context.compile(relu("N"), Precisions(), {}).request()
    for rows in (2, 5, 1, 3):
        data = floats(rows, 4, seed=rows)
        y = device.empty(np.float32, rows, 4)
        request.bind({"x": device.buffer(data)}, {"y": y})
        request.run().wait()
        device.check(y, np.maximum(data, 0))
    request.bind({}, {"y": device.empty(np.float32, 2, 4)})
    with pytest.raises(InputError):
        request.run().wait()


@pytest.mark.parametrize("text", [GIVEN_ON, GIVEN_ON.replace(", float[2,4] x)", ")")])
def test_wrong_ones(device: Device, text: str) -> None:
    """Another dtype or shape, or an unknown name, on either side; the right ones work then."""
    executable = device.compile(text)
    request = executable.request()
    data = floats(2, 4)
    x, y = device.buffer(data), device.empty(np.float32, 2, 4)
    for name, wrong, match in (
        ("q", x, "'q'"),
        ("{}", device.empty(np.float32, 3, 4), r"\[3, 4\]"),
        ("{}", device.empty(np.float32, 8), r"\[8\]"),
        ("{}", device.empty(np.int64, 2, 4), "int64"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({name.format("x"): wrong})
        for output in executable.outputs:
            with pytest.raises(InputError, match=match):
                request.bind({"x": x}, {name.format(output.name): wrong})
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    device.check(y, np.maximum(data, 0))


def test_of_a_closed_context(device: Device) -> None:
    """There are no new ones, and bound ones keep nothing running."""
    request = device.compile(GIVEN_ON).request()
    x, y = device.buffer(floats(2, 4)), device.empty(np.float32, 2, 4)
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    device.context.close()
    uses: list[Callable[[], Any]] = [
        request.run,
        lambda: request.bind({"x": x}, {"x": y}),
        lambda: device.empty(np.float32, 2, 4),
    ]
    for use in uses:
        with pytest.raises(DioeError, match="closed"):
            use()
