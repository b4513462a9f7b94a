"""Memory of the cards, held by the worker: what the conformance suite doesn't ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dioe.registry.worker.buffers import Copies, WorkerBuffer
from dioe.types import (
    Array,
    BackendError,
    Buffer,
    Context,
    DeviceLost,
    HostBuffer,
    InputError,
    OutOfMemory,
    Precisions,
    Resources,
    TensorSpec,
)
from dioe_cambricon.torch_backend import TorchMluBackend
from tests.backend.cards import Counted
from tests.backend.cases import floats, model, relu


@pytest.fixture
def cards(torch_mlu: TorchMluBackend) -> Iterator[list[Context]]:
    """Both cards, opened."""
    opened = [torch_mlu.open(card, Resources()) for card in ("mlu:0", "mlu:1")]
    yield opened
    for context in opened:
        context.close()


def empty(context: Context, *shape: int, dtype: Any = np.float32) -> Buffer:
    return context.alloc(TensorSpec("b", np.dtype(dtype), shape))


def filled(context: Context, data: Array) -> Buffer:
    buffer = empty(context, *data.shape, dtype=data.dtype)
    context.copy(HostBuffer(data), buffer).wait()
    return buffer


def read(context: Context, buffer: Buffer) -> Array:
    data = np.empty(buffer.shape, buffer.dtype)
    context.copy(buffer, HostBuffer(data)).wait()
    return data


def test_from_card_to_card_without_the_host(
    cards: list[Context], copies: Callable[[], Counted]
) -> None:
    """In one worker, and by the context of either card."""
    data = floats(64, 32)
    source = filled(cards[0], data)
    for context in cards:
        there, back = empty(cards[1], 64, 32), empty(cards[0], 64, 32)
        before = copies()["planned"]
        context.copy(source, there)
        context.copy(there, back)
        after = copies()["planned"]
        moved = {way: after[way][1] - before[way][1] for way in after}
        assert moved == {"h2d": 0, "d2h": 0, "d2d": 0, "p2p": 2 * data.nbytes}
        np.testing.assert_array_equal(read(cards[0], back), data)


def test_a_run_on_buffers_copies_nothing_to_the_host_or_from_it(
    cards: list[Context], copies: Callable[[], Counted]
) -> None:
    executable = cards[1].compile(relu(8), Precisions(), {})
    data = floats(8, 4)
    x, y = filled(cards[1], data), empty(cards[1], 8, 4)
    request = executable.request()
    request.bind({"x": x}, {"y": y})
    before = copies()["planned"]
    request.run().wait()
    after = copies()["planned"]
    assert {way for way in after if after[way] != before[way]} == {"d2d"}
    assert request.outputs["y"] is y
    np.testing.assert_array_equal(read(cards[1], y), np.maximum(data, 0))


def test_memory_is_freed_with_the_buffer(cards: list[Context]) -> None:
    def available() -> int:
        return cards[0].memory_info()["available_bytes"]

    before = available()
    buffer = empty(cards[0], 1 << 20)
    assert before - available() >= 4 << 20
    del buffer
    assert available() == before


def test_a_bound_buffer_lives_as_long_as_it_is_bound(cards: list[Context]) -> None:
    request = cards[0].compile(relu(2), Precisions(), {}).request()
    data = floats(2, 4)
    request.bind({"x": filled(cards[0], data)})
    read(cards[0], filled(cards[0], -data))  # would take the memory, were it free
    request.run().wait()
    np.testing.assert_array_equal(request.outputs["y"], np.maximum(data, 0))


def test_an_input_that_is_given_on_and_written_to(cards: list[Context]) -> None:
    """The output that was the input is what it was before the run wrote there."""
    made = model("g (float[4] x) => (float[4] y, float[4] x) { y = Neg (x) }")
    request = cards[0].compile(made, Precisions(), {}).request()
    data = floats(4)
    x, given = filled(cards[0], data), empty(cards[0], 4)
    request.bind({"x": x}, {"y": x, "x": given})
    request.run().wait()
    np.testing.assert_array_equal(read(cards[0], x), -data)
    np.testing.assert_array_equal(read(cards[0], given), data)


def test_out_of_memory(cards: list[Context]) -> None:
    with pytest.raises(OutOfMemory, match="memory"):
        empty(cards[0], 1 << 40)
    assert read(cards[0], filled(cards[0], floats(3))).shape == (3,)


@pytest.mark.parametrize("dtype", ["uint16", "complex64", object])
def test_what_no_card_holds(cards: list[Context], dtype: Any) -> None:
    with pytest.raises(InputError, match="doesn't go to the card"):
        empty(cards[0], 2, dtype=dtype)
    with pytest.raises(InputError, match="not all numbers"):
        cards[0].alloc(TensorSpec("b", np.dtype(np.float32), ("N",)))


def test_of_another_card(cards: list[Context]) -> None:
    request = cards[0].compile(relu(2), Precisions(), {}).request()
    there = filled(cards[1], floats(2, 4))
    with pytest.raises(InputError, match="of mlu:1 can't be used on mlu:0"):
        request.bind({"x": there})
    with pytest.raises(InputError, match="of mlu:1 can't be used on mlu:0"):
        request.bind({}, {"y": there})
    with pytest.raises(InputError, match="of mlu:1"):
        request.call({"x": there}, ["y"])  # type: ignore[attr-defined]


def test_copies_that_do_not_fit(cards: list[Context]) -> None:
    buffer = filled(cards[0], floats(4))
    fixed = floats(4)
    fixed.flags.writeable = False
    for source, target, match in (
        (buffer, HostBuffer(np.empty(3, np.float32)), r"\[4\].*\[3\]"),
        (HostBuffer(np.empty(4, np.int32)), buffer, "int32"),
        (buffer, HostBuffer(fixed), "read-only"),
    ):
        with pytest.raises(InputError, match=match):
            cards[0].copy(source, target)


def test_of_a_closed_context_and_a_lost_worker(
    torch_mlu: TorchMluBackend, cards: list[Context]
) -> None:
    data = floats(5)
    buffer = filled(cards[0], data)
    cards[0].close()
    with pytest.raises(BackendError, match="closed"):
        cards[0].copy(buffer, HostBuffer(np.empty(5, np.float32)))
    np.testing.assert_array_equal(read(cards[1], buffer), data)  # it belongs to the card
    torch_mlu.host.close()
    again = torch_mlu.open("mlu:0", Resources())
    with pytest.raises((BackendError, DeviceLost)):
        read(again, buffer)
    request = again.compile(relu(5), Precisions(), {}).request()
    with pytest.raises(InputError, match="another worker"):
        request.bind({"x": _like(buffer, (5, 4))})
    again.close()


def test_between_two_workers_over_the_host(
    torch_mlu: TorchMluBackend, cards: list[Context]
) -> None:
    process = torch_mlu.host.start(60)
    try:
        opened = process.call("open", {"device": "mlu:1", "resources": {}}, limit_s=60)
        args = {"context": opened["context"], "dtype": "float32", "shape": [7]}
        number = process.call("alloc", args, limit_s=60)["buffer"]
        there = WorkerBuffer(process, number, "mlu:1", np.dtype(np.float32), (7,))
        data = floats(7)
        cards[0].copy(filled(cards[0], data), there)
        np.testing.assert_array_equal(read(cards[0], there), data)
        with pytest.raises(InputError, match="neither"):
            Copies(process, 60).copy(HostBuffer(data), HostBuffer(data.copy()))
    finally:
        process.close()


def _like(buffer: Buffer, shape: tuple[int, ...]) -> WorkerBuffer:
    """A buffer of the same worker in name only."""
    assert isinstance(buffer, WorkerBuffer)
    return WorkerBuffer(buffer.process, 0, buffer.device, buffer.dtype, shape)
