"""The simulated device: its devices, memory, streams, events and copies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dioe_torch.simulated import BuildError, Moved, SimulatedDevices, load

pytestmark = pytest.mark.own_process

SIZE = 1 << 16  # elements; above those that torch's CPU kernels would split over threads


@pytest.fixture(autouse=True)
def clean(mlu: SimulatedDevices) -> Iterator[None]:
    torch.manual_seed(0)
    mlu.set_device(0)
    mlu.reset_copies()
    yield
    for index in range(mlu.device_count()):
        mlu.synchronize(index)


def moved(mlu: SimulatedDevices, purpose: str = "planned") -> dict[str, Moved]:
    """The copies of one purpose, those ways left out that nothing went."""
    counts = {str(p): ways for p, ways in mlu.copies().items()}[purpose]
    return {way: count for way, count in counts.items() if count.count}


# Devices


def test_torch_knows_the_devices(mlu: SimulatedDevices) -> None:
    assert mlu.is_available()
    assert mlu.device_count() == torch.accelerator.device_count() == 2
    assert torch.get_device_module("mlu") is mlu
    assert torch.empty(2, device="mlu").device == torch.device("mlu:0")
    with mlu.device(1):
        assert torch.empty(2, device="mlu").device == torch.device("mlu:1")
    assert mlu.current_device() == 0
    assert mlu.get_device_properties("mlu:1").total_memory == mlu.mem_get_info("mlu:1")[1]


def test_a_third_device_is_refused(mlu: SimulatedDevices) -> None:
    with pytest.raises(RuntimeError, match="no simulated device 2"):
        torch.empty(2, device="mlu:2")
    with pytest.raises(RuntimeError, match="no simulated device 2"):
        mlu.set_device(2)
    assert mlu.current_device() == 0


def test_one_backend_in_a_process(mlu: SimulatedDevices) -> None:
    assert load("mlu", devices=2) is mlu
    with pytest.raises(BuildError, match="already"):
        load("mlu", devices=3)


# Memory


def test_memory_is_counted_on_its_device(mlu: SimulatedDevices) -> None:
    free, total = mlu.mem_get_info(1)
    before = mlu.memory_allocated(0), mlu.memory_allocated(1)
    kept = torch.empty(1000, device="mlu:1")
    assert mlu.memory_allocated(1) == before[1] + 4096  # in blocks of 512
    assert mlu.memory_allocated(0) == before[0]
    assert mlu.mem_get_info(1) == (free - 4096, total)
    view = kept[10:20]
    del kept
    assert mlu.memory_allocated(1) == before[1] + 4096
    del view
    assert mlu.memory_allocated(1) == before[1]
    assert mlu.memory_stats(1)["allocated_bytes.all.peak"] >= before[1] + 4096


def test_beyond_the_budget_is_out_of_memory(mlu: SimulatedDevices) -> None:
    free, _total = mlu.mem_get_info(0)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        torch.empty(free + 1, dtype=torch.int8, device="mlu:0")
    assert mlu.mem_get_info(0)[0] == free
    torch.empty(8, device="mlu:1")  # the other device has its own


def test_fresh_memory_is_not_zero() -> None:
    assert torch.empty(100, device="mlu").isnan().all()


def test_memory_in_use_is_not_given_out_again(mlu: SimulatedDevices) -> None:
    before = mlu.memory_allocated(0)
    stream, host = mlu.Stream("mlu:0"), torch.randn(SIZE).pin_memory()
    with mlu.hold(stream):
        with mlu.stream(stream):
            device = host.to("mlu:0", non_blocking=True)
            back = device.to("cpu", non_blocking=True)
        expected = host.clone()
        del device, host
        assert mlu.memory_allocated(0) == before + 4 * SIZE
        others = [torch.full((SIZE,), 7.0, device="mlu:0") for _ in range(4)]
    stream.synchronize()
    assert torch.equal(back, expected)
    del others
    mlu.synchronize(0)  # their fills may be queued yet
    assert mlu.memory_allocated(0) == before


def test_memory_of_queued_work_is_waited_for(mlu: SimulatedDevices) -> None:
    elements = mlu.mem_get_info(1)[0] // 3
    for value in range(5):
        torch.empty(elements, dtype=torch.int8, device="mlu:1").fill_(value)


def test_recorded_memory_waits_for_the_stream(mlu: SimulatedDevices) -> None:
    before = mlu.memory_allocated(0)
    tensor, stream = torch.empty(1000, device="mlu:0"), mlu.Stream("mlu:0")
    pinned, other = torch.randn(8).pin_memory(), torch.empty(8, device="mlu:0")
    with mlu.hold(stream):
        with mlu.stream(stream):
            other.copy_(pinned, non_blocking=True)
        tensor.record_stream(stream)
        del tensor
        assert mlu.memory_allocated(0) == before + 4096 + 512
    stream.synchronize()
    assert mlu.memory_allocated(0) == before + 512


def test_pinned_memory() -> None:
    pinned = torch.randn(10).pin_memory()
    assert pinned.is_pinned()
    assert pinned[3:].is_pinned()
    assert torch.empty(4, pin_memory=True).is_pinned()
    assert not torch.randn(10).is_pinned()
    assert pinned.device.type == "cpu"


def test_storages_grow_and_are_shared(mlu: SimulatedDevices) -> None:
    tensor = torch.randn(6).to("mlu:1")
    expected = tensor.cpu()
    tensor.resize_(100)
    assert torch.equal(tensor[:6].cpu(), expected)
    tensor.untyped_storage().resize_(4000)
    assert torch.equal(tensor[:6].cpu(), expected)
    alias = torch.empty(0, device="mlu:1").set_(tensor.untyped_storage(), 2, (2, 2), (1, 2))
    assert torch.equal(alias.cpu(), expected[2:6].reshape(2, 2).T)
    assert alias.data_ptr() == tensor.data_ptr() + 8


# Copies


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn),
        *(torch.bool, torch.int8, torch.uint8, torch.int16, torch.int64, torch.complex64),
    ],
)
def test_there_and_back(dtype: torch.dtype) -> None:
    values = (torch.randn(33, 7) * 5).to(dtype)
    there = values.to("mlu:0").to("mlu:1")
    assert there.dtype == dtype
    assert there.device == torch.device("mlu:1")
    assert torch.equal(there.cpu().view(torch.uint8), values.view(torch.uint8))


def test_copies_are_counted_by_purpose_and_way(mlu: SimulatedDevices) -> None:
    host = torch.randn(10, 10)
    first = host.to("mlu:0")
    second = first.to("mlu:1")
    second.clone()
    second.cpu()
    assert moved(mlu) == dict.fromkeys(("h2d", "d2h", "d2d", "p2p"), Moved(1, 400))
    assert moved(mlu, "fallback") == {}
    mlu.reset_copies()
    torch.relu(first)  # the operand to the host, the result back
    assert moved(mlu) == {}
    assert moved(mlu, "fallback") == {"h2d": Moved(1, 400), "d2h": Moved(1, 400)}


def test_bytes_are_those_of_the_target_type(mlu: SimulatedDevices) -> None:
    target = torch.empty(10, dtype=torch.float16, device="mlu:0")
    target.copy_(torch.randn(10))
    target[0].item()
    assert moved(mlu) == {"h2d": Moved(1, 20), "d2h": Moved(1, 2)}


def test_strides_come_with_a_copy() -> None:
    channels_last = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    there = channels_last.to("mlu:0")
    assert there.stride() == channels_last.stride()
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(there.cpu(), channels_last)


VIEWS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(lambda x: x.T, lambda x: x[::2, 5:90:3], lambda x: x[7], lambda x: x.unfold(0, 3, 2)),
    *(lambda x: x.as_strided((5, 6), (3, 1), 4), lambda x: x.view(100, 3, 400).mT),
    *(lambda x: x[:, :1].expand(300, 9), lambda x: x.diagonal(), lambda x: x[None, ..., 3]),
)


@pytest.mark.parametrize("view", VIEWS)
def test_copies_of_views(view: Callable[[Tensor], Tensor]) -> None:
    host = torch.randn(300, 400)
    device = host.to("mlu:1")
    there, expected = view(device), view(host)
    assert there.stride() == expected.stride()
    assert there.untyped_storage().data_ptr() == device.untyped_storage().data_ptr()
    assert torch.equal(there.cpu(), expected)


def test_a_copy_into_a_view_changes_its_base() -> None:
    host = torch.randn(300, 400)
    device = host.to("mlu:0")
    row = torch.randn(150)
    host[::2, 3] = row
    device[::2, 3] = row.to("mlu:0")
    host.T[5:7] = 1.5
    device.T[5:7].fill_(1.5)
    assert torch.equal(device.cpu(), host)


def test_a_copy_broadcasts_and_converts() -> None:
    device = torch.empty(4, 3, dtype=torch.int32, device="mlu:0")
    device.copy_(torch.tensor([1.7, -2.2, 3.0]))
    assert device.tolist() == [[1, -2, 3]] * 4


def test_overlapping_targets_are_refused() -> None:
    with pytest.raises(RuntimeError, match="more than one element"):
        torch.zeros(1, device="mlu:0").expand(4).copy_(torch.randn(4))


# Streams and events


def test_streams_belong_to_their_device(mlu: SimulatedDevices) -> None:
    stream = mlu.Stream("mlu:1")
    assert stream.device == torch.device("mlu:1")
    assert mlu.current_stream(1) == mlu.default_stream(1) != stream
    with mlu.stream(stream):
        assert mlu.current_stream(1) == stream
        assert mlu.current_device() == 1
    assert mlu.current_stream(1) == mlu.default_stream(1)
    assert mlu.current_device() == 0
    assert len({mlu.Stream("mlu:1") for _ in range(5)}) == 5


def test_a_pinned_copy_is_pending_until_its_stream_comes_to_it(mlu: SimulatedDevices) -> None:
    stream, host = mlu.Stream("mlu:0"), torch.randn(SIZE).pin_memory()
    device = torch.zeros(SIZE, device="mlu:0")
    mlu.synchronize(0)
    with mlu.hold(stream):
        with mlu.stream(stream):
            device.copy_(host, non_blocking=True)
        assert not stream.query()
        assert not device.any()  # the default stream does not wait for the other
    stream.synchronize()
    assert stream.query()
    assert torch.equal(device.cpu(), host)


def test_the_host_reads_too_early_without_waiting(mlu: SimulatedDevices) -> None:
    values = torch.randn(SIZE)
    stream, device = mlu.Stream("mlu:1"), values.to("mlu:1")
    host = torch.zeros(SIZE).pin_memory()
    done = mlu.Event()
    with mlu.hold(stream):
        with mlu.stream(stream):
            host.copy_(device, non_blocking=True)
            done.record()
        assert not done.query()
        assert not host.any()
    done.synchronize()
    assert torch.equal(host, values)


@pytest.mark.parametrize("target", ["mlu:0", "cpu"])
def test_pageable_memory_is_copied_before_the_call_returns(
    mlu: SimulatedDevices, target: str
) -> None:
    source = torch.randn(100).to("cpu" if target != "cpu" else "mlu:0")
    copied = torch.empty(100, device=target).copy_(source, non_blocking=True)
    assert mlu.current_stream(0).query()
    assert torch.equal(copied.cpu(), source.cpu())


def test_an_event_orders_two_streams(mlu: SimulatedDevices) -> None:
    values = torch.randn(SIZE).pin_memory()
    up, down = mlu.Stream("mlu:0"), mlu.Stream("mlu:0")
    device, arrived = torch.zeros(SIZE, device="mlu:0"), mlu.Event()
    early, late = (torch.ones(SIZE).pin_memory() for _ in range(2))
    mlu.synchronize(0)
    with mlu.hold(up):
        with mlu.stream(up):
            device.copy_(values, non_blocking=True)
            arrived.record()
        with mlu.stream(down):
            early.copy_(device, non_blocking=True)
            down.synchronize()
            arrived.wait()
            late.copy_(device, non_blocking=True)
        assert not down.query()
        assert torch.equal(late, torch.ones(SIZE))
    down.synchronize()
    assert not early.any()  # it did not wait
    assert torch.equal(late, values)


def test_an_event_orders_two_devices(mlu: SimulatedDevices) -> None:
    values = torch.randn(SIZE).pin_memory()
    first, second = mlu.Stream("mlu:0"), mlu.Stream("mlu:1")
    back, arrived = torch.zeros(SIZE).pin_memory(), mlu.Event()
    with mlu.hold(first):
        with mlu.stream(first):
            there = values.to("mlu:0", non_blocking=True)
            arrived.record()
        with mlu.stream(second):
            arrived.wait()
            back.copy_(there.to("mlu:1"), non_blocking=True)
        assert not second.query()
    second.synchronize()
    assert torch.equal(back, values)


def test_a_copy_between_devices_waits_for_both_streams(mlu: SimulatedDevices) -> None:
    values = torch.randn(SIZE)
    first, second = mlu.Stream("mlu:0"), mlu.Stream("mlu:1")
    source, target = values.to("mlu:0"), torch.zeros(SIZE, device="mlu:1")
    mlu.synchronize(1)
    with mlu.stream(first), mlu.stream(second), mlu.hold(second):
        target.copy_(source)
        assert not first.query()  # the target's stream is held, and it waits for that
    second.synchronize()
    assert torch.equal(target.cpu(), values)


def test_an_event_recorded_anew_leaves_older_waits_alone(mlu: SimulatedDevices) -> None:
    first, second, waiting = (mlu.Stream("mlu:0") for _ in range(3))
    event = mlu.Event()
    event.record(first)
    with mlu.hold(second):
        event.wait(waiting)
        event.record(second)
        waiting.synchronize()
        assert not event.query()
    event.synchronize()
    assert event.query()


def test_events_take_the_time_between_them(mlu: SimulatedDevices) -> None:
    stream = mlu.Stream("mlu:0")
    marks = [mlu.Event(enable_timing=True) for _ in range(3)]
    host = torch.randn(1 << 20).pin_memory()
    with mlu.stream(stream):
        for mark in marks:
            mark.record()
            host.to("mlu:0", non_blocking=True)
    stream.synchronize()
    assert all(0 < a.elapsed_time(b) < 10_000 for a, b in pairwise(marks))
    with pytest.raises(ValueError, match="enable_timing"):
        mlu.Event().elapsed_time(marks[0])


def test_work_of_one_stream_is_done_in_order(mlu: SimulatedDevices) -> None:
    stream, target = mlu.Stream("mlu:0"), torch.empty(10, device="mlu:0")
    with mlu.hold(stream), mlu.stream(stream):
        for value in range(50):
            target.fill_(value)
            target[:5].copy_(torch.full((5,), float(-value)).pin_memory(), non_blocking=True)
    stream.synchronize()
    assert target.tolist() == [-49.0] * 5 + [49.0] * 5


def test_an_operator_waits_for_its_stream_without_the_lock_of_python(
    mlu: SimulatedDevices,
) -> None:
    stream, values = mlu.Stream("mlu:0"), torch.randn(SIZE).pin_memory()
    hold = mlu.hold(stream)
    hold.__enter__()
    timer = threading.Timer(0.1, hold.__exit__, (None, None, None))
    with mlu.stream(stream):
        device = values.to("mlu:0", non_blocking=True)
        timer.start()
        doubled = device * 2
    timer.join()
    assert torch.equal(doubled.cpu(), values * 2)


def test_a_thread_has_its_own_device_and_streams(mlu: SimulatedDevices) -> None:
    seen: list[object] = []
    with mlu.stream(mlu.Stream("mlu:1")):
        thread = threading.Thread(
            target=lambda: seen.extend((mlu.current_device(), mlu.current_stream(1)))
        )
        thread.start()
        thread.join()
    assert seen == [0, mlu.default_stream(1)]
