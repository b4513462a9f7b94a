"""Outputs that are inputs, between the host and a device's memory: that of the null backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

import numpy as np
import pytest

from dioe.host_backend import PassThroughRequest
from dioe.host_backend.passthrough import all_of
from dioe.types import (
    DONE,
    Array,
    Buffer,
    Context,
    Event,
    Feeds,
    HostBuffer,
    InputError,
    Resources,
    TensorSpec,
    TimedOut,
    Value,
)
from dioe_null import NullBackend, VirtualClock
from dioe_null.device import NullBuffer
from tests.backend.cases import floats

FLOAT = np.dtype(np.float32)
OWN: Array = floats(2, 3, seed=5)
X, Y = TensorSpec("x", FLOAT, ("N", 3)), TensorSpec("y", FLOAT, ("N", 3))


class Memory:
    """The memory of a context's device."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.copies: list[tuple[bool, bool]] = []  # whether from and to the device

    def holds(self, value: object) -> TypeGuard[Buffer]:
        return isinstance(value, NullBuffer)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        self.copies.append((self.holds(src), self.holds(dst)))
        return self._context.copy(src, dst)


class Inner:
    """Computes nothing: y is what it is."""

    def __init__(self) -> None:
        self.bound: dict[str, Value] = {}
        self.targets: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        self.bound.update(inputs)
        self.targets.update(outputs or {})

    def run(self) -> Event:
        return DONE

    @property
    def outputs(self) -> Mapping[str, Value]:
        return {"y": self.targets.get("y", OWN)}

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        return [OWN for _ in output_names]


@pytest.fixture
def context() -> Iterator[Context]:
    opened = NullBackend(clock=VirtualClock()).open("gpu:0", Resources())
    yield opened
    opened.close()


@pytest.fixture
def memory(context: Context) -> Memory:
    return Memory(context)


@pytest.fixture
def request_(memory: Memory) -> PassThroughRequest:
    return PassThroughRequest(Inner(), (X,), (Y, X), memory)


def on_device(context: Context, array: Array) -> Buffer:
    buffer = context.alloc(TensorSpec("b", array.dtype, array.shape))
    context.copy(HostBuffer(array), buffer).wait()
    return buffer


def on_host(context: Context, value: Value) -> Array:
    if isinstance(value, np.ndarray):
        return value
    assert isinstance(value, Buffer)
    array = np.empty(value.shape, value.dtype)
    context.copy(value, HostBuffer(array)).wait()
    return array


@pytest.mark.parametrize("target", ["device", "host", "none"])
@pytest.mark.parametrize("feed", ["device", "host"])
def test_from_and_to_either_place(
    context: Context, memory: Memory, request_: PassThroughRequest, feed: str, target: str
) -> None:
    data = floats(2, 3)
    x: Value = on_device(context, data) if feed == "device" else data.copy()
    bound: Value = None
    if target != "none":
        empty = np.full((2, 3), 9, np.float32)
        bound = on_device(context, empty) if target == "device" else empty
    request_.bind({"x": x}, {} if bound is None else {"x": bound})
    for seed in range(2):
        request_.run().wait()
        assert list(request_.outputs) == ["y", "x"]
        found = request_.outputs["x"]
        assert bound is None or found is bound
        assert found is not x
        np.testing.assert_array_equal(on_host(context, found), data)
        data = floats(2, 3, seed=seed + 1)
        if isinstance(x, np.ndarray):
            x[...] = data
        else:
            context.copy(HostBuffer(data), x).wait()  # type: ignore[arg-type]
    on_both = (feed == "device", target == "device")
    assert memory.copies == ([] if not any(on_both) else [on_both] * 2)


def test_on_the_device_nothing_is_waited_for(
    context: Context, request_: PassThroughRequest
) -> None:
    x, target = on_device(context, floats(2, 3)), context.alloc(TensorSpec("b", FLOAT, (2, 3)))
    request_.bind({"x": x}, {"x": target})
    event = request_.run()
    assert event is target.ready
    assert not event.done()
    event.wait()
    assert event.done()


def test_a_call_gives_values_of_the_callers_own(
    context: Context, request_: PassThroughRequest
) -> None:
    data = floats(2, 3)
    x = on_device(context, data)
    found, again, y = request_.call({"x": x}, ["x", "x", "y"])
    np.testing.assert_array_equal(on_host(context, found), data)
    assert isinstance(found, np.ndarray)
    assert again is found
    assert y is OWN


@pytest.mark.parametrize(
    ("shape", "dtype", "match"),
    [((2, 4), np.float32, r"\[2, 4\]"), ((6,), np.float32, r"\[6\]"), ((2, 3), np.int8, "int8")],
)
def test_buffers_that_do_not_fit(
    context: Context,
    request_: PassThroughRequest,
    shape: tuple[int, ...],
    dtype: type,
    match: str,
) -> None:
    x, wrong = floats(2, 3), context.alloc(TensorSpec("b", np.dtype(dtype), shape))
    with pytest.raises(InputError, match=match):
        request_.bind({"x": x}, {"x": wrong})
    with pytest.raises(InputError, match=match):
        request_.call({"x": wrong}, ["x"])


def test_a_buffer_of_another_size_is_found_in_the_run(
    context: Context, request_: PassThroughRequest
) -> None:
    request_.bind({"x": floats(2, 3)}, {"x": context.alloc(TensorSpec("b", FLOAT, (5, 3)))})
    with pytest.raises(InputError, match="'x'"):
        request_.run()


def test_several_events_are_one(context: Context) -> None:
    class Late:
        def __init__(self, left: int) -> None:
            self.left = left

        def wait(self, timeout_ms: float | None = None) -> None:
            if timeout_ms is not None:
                raise TimedOut("not yet")
            self.left = 0

        def done(self) -> bool:
            return not self.left

    assert all_of([DONE, DONE]) is DONE
    one, other = Late(1), Late(2)
    assert all_of([DONE, one]) is one
    both = all_of([one, DONE, other])
    with pytest.raises(TimedOut):
        both.wait(timeout_ms=1)
    assert not both.done()
    both.wait()
    assert both.done()
