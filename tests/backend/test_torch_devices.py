"""The torch backends on a device with memory, streams and events of its own, the simulated one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from dioe.testing.models import floats, perceptron, small_network
from dioe.types import (
    BackendError,
    DeviceState,
    HostBuffer,
    InputError,
    KnownAs,
    OutOfMemory,
    Precisions,
    Resources,
    TensorSpec,
    TimedOut,
)
from dioe_torch import devices
from dioe_torch.backend import TorchBackend
from dioe_torch.context import TorchContext
from dioe_torch.memory import TorchBuffer
from dioe_torch.queues import Queue
from dioe_torch.staging import Staging
from tests.backend.taped_graphs import reference

if TYPE_CHECKING:
    from dioe_torch.simulated import SimulatedDevices

pytestmark = pytest.mark.own_process

ROOT = Path(__file__).parents[2]
SUITE = "dioe.testing.conformance"
ALL = re.compile(r"^all +(\d+) +(\d+) +(\d+) +(\d+)$", re.MULTILINE)
N = 1 << 12


@pytest.fixture
def queue(mlu: SimulatedDevices) -> Queue:
    return Queue("mlu:0", "mlu:0", own_stream=True, page_locked=True)


@pytest.fixture
def contexts(mlu: SimulatedDevices) -> Iterator[Any]:
    """Contexts with streams of their own, closed after the test."""
    found = {each.info.id: each for each in devices.accelerators()}
    with ExitStack() as stack:

        def opened(device: str = "mlu:0", **resources: Any) -> TorchContext:
            context = TorchContext(
                found[device], Resources(threads=1, **resources), place="torch",
                own_stream=True, page_locked=True,
            )  # fmt: skip
            stack.callback(context.close)
            return context

        yield opened


def spec(name: str = "x", *shape: int) -> TensorSpec:
    return TensorSpec(name, np.dtype(np.float32), shape or (N,))


def filled(context: TorchContext, data: Any) -> TorchBuffer:
    buffer = context.alloc(spec("x", *data.shape))
    assert isinstance(buffer, TorchBuffer)
    context.copy(HostBuffer(data), buffer).wait()
    return buffer


def on_host(context: TorchContext, buffer: TorchBuffer) -> Any:
    back = np.empty(buffer.shape, np.float32)
    context.copy(buffer, HostBuffer(back)).wait()
    return back


def test_devices(mlu: SimulatedDevices) -> None:
    """Both are found, and nobody takes them for hardware."""
    found = {each.id: each for each in TorchBackend().probe()}
    assert list(found) == ["cpu", "mlu:0", "mlu:1"]
    for name in ("mlu:0", "mlu:1"):
        device = found[name]
        assert device.state is DeviceState.PRESENT
        assert device.known_as is KnownAs.SIMULATED
        assert (device.kind, device.shares) == ("mlu", "cpu")
        assert device.memory_bytes == mlu.mem_get_info(name)[1]
    assert TorchBackend().capabilities("mlu:1").asynchronous


def test_events_tell_when_the_device_has_come_to_them(mlu: SimulatedDevices, queue: Queue) -> None:
    source = torch.randn(N).pin_memory()
    with mlu.hold(queue.stream), queue.current():
        target = torch.empty(N, device="mlu:0")
        target.copy_(source, non_blocking=True)
        event = queue.record()
        assert not event.done()
        with pytest.raises(TimedOut, match="20 ms"):
            event.wait(20)
    event.wait(60_000)
    assert event.done()
    event.wait()
    torch.testing.assert_close(target.cpu(), source)


def test_a_queue_waits_for_another_on_the_device(mlu: SimulatedDevices, queue: Queue) -> None:
    other = Queue("mlu:0", "mlu:0", own_stream=True)
    assert other.stream != queue.stream
    source = torch.randn(N).pin_memory()
    back = torch.zeros(N).pin_memory()
    with mlu.hold(queue.stream):
        with queue.current():
            target = torch.empty(N, device="mlu:0")
            target.copy_(source, non_blocking=True)
            first = queue.record()
        with other.current():
            other.after(first)
            other.keep(target)
            back.copy_(target, non_blocking=True)
            second = other.record()
        assert not second.done()
    second.wait()
    torch.testing.assert_close(back, source)


def test_the_default_stream_is_a_queue_too(mlu: SimulatedDevices) -> None:
    queue = Queue("mlu:1", "mlu:1")
    assert queue.stream is None
    with queue.current():
        made = torch.arange(N, device="mlu:1") * 2
    queue.record().wait()
    queue.finish()
    assert made.cpu()[-1] == 2 * (N - 1)


def test_staging_overwrites_nothing_that_is_still_read(mlu: SimulatedDevices, queue: Queue) -> None:
    staging = Staging(queue)
    one, two = torch.randn(N), torch.randn(N)
    pieces: list[torch.Tensor] = []
    with mlu.hold(queue.stream):
        with queue.current():
            target = torch.empty(N, device="mlu:0")
            target.copy_(staging.sending("x", one), non_blocking=True)
            staging.sent()
        second = threading.Thread(target=lambda: pieces.append(staging.sending("x", two)))
        second.start()
        second.join(0.05)
        assert second.is_alive()
    second.join(60)
    torch.testing.assert_close(target.cpu(), one)
    (piece,) = pieces
    assert piece.is_pinned()
    torch.testing.assert_close(piece, two)


def test_results_are_fetched_at_once(mlu: SimulatedDevices, queue: Queue) -> None:
    staging = Staging(queue)
    with queue.current():
        made = {"a": torch.randn(N, device="mlu:0"), "b": torch.randn(3, 5, device="mlu:0").t()}
        found = staging.fetched(made)
    for name, tensor in made.items():
        assert found[name].is_pinned()
        torch.testing.assert_close(found[name], tensor.cpu())
    pointer = found["a"].data_ptr()
    with queue.current():
        assert staging.fetched(made)["a"].data_ptr() == pointer  # kept, not allocated anew


def test_a_buffer_is_written_after_all_that_read_it(mlu: SimulatedDevices, contexts: Any) -> None:
    """A reader on one stream, a writer on another: on one stream they would be in order anyway."""
    reader, writer = contexts(), contexts()
    old, new = floats(N, seed=1), floats(N, seed=2)
    buffer, other = filled(reader, old), filled(reader, new)
    with mlu.hold(reader.queue.stream):
        reader.copy(buffer, other)
        write = threading.Thread(target=lambda: writer.copy(HostBuffer(new), buffer).wait())
        write.start()
        write.join(0.05)
        assert write.is_alive()
    write.join(60)
    np.testing.assert_array_equal(on_host(reader, other), old)
    np.testing.assert_array_equal(on_host(writer, buffer), new)


def test_torch_gives_no_tensors_of_it_on(contexts: Any) -> None:
    buffer = filled(contexts(), floats(N))
    assert not TorchBackend().capabilities("mlu:0").dlpack_out
    with pytest.raises(BackendError, match="gives no tensors of this device on"):
        buffer.__dlpack_device__()


def test_two_devices(contexts: Any) -> None:
    """One model on both, what the first gives goes on to the second over the host."""
    made = perceptron(2, 32)
    x = floats(4, 32)
    (once,) = reference(made, {"x": x}).values()
    (twice,) = reference(made, {"x": once}).values()
    first, second = contexts("mlu:0"), contexts("mlu:1")
    requests = [c.compile(made, Precisions(), {}).request() for c in (first, second)]
    y, z = first.alloc(spec("y", 4, 32)), second.alloc(spec("z", 4, 32))
    requests[0].bind({"x": x}, {"y": y})
    requests[0].run()
    with pytest.raises(InputError, match="mlu:0 can't be used on mlu:1"):
        requests[1].bind({"x": y})
    between = HostBuffer(np.empty((4, 32), np.float32))
    first.copy(y, between).wait()
    moved = second.alloc(spec("x", 4, 32))
    second.copy(between, moved)
    requests[1].bind({"x": moved}, {"y": z})
    requests[1].run().wait()
    np.testing.assert_allclose(on_host(second, z), twice, rtol=1e-4, atol=1e-5)


def test_page_locked_runs_are_right(contexts: Any) -> None:
    """Several inputs in a row from host arrays that are changed in place."""
    made = small_network()
    request = contexts().compile(made, Precisions(), {}).request()
    x = np.empty((1, 3, 16, 16), np.float32)
    y = np.empty((1, 12), np.float32)
    request.bind({"x": x}, {"y": y})
    for seed in range(4):
        x[...] = floats(1, 3, 16, 16, seed=seed)
        request.run().wait()
        wanted = reference(made, {"x": x})["y"]
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-6)
        (fresh,) = request.call({"x": x}, ["y"])
        np.testing.assert_array_equal(fresh, y)


def test_memory_limits(mlu: SimulatedDevices, contexts: Any) -> None:
    limited = contexts(memory_limit_bytes=4 * N)
    kept = limited.alloc(spec("x", N // 2))
    with pytest.raises(OutOfMemory, match="pass the limit"):
        limited.alloc(spec("x", N))
    del kept
    assert limited.alloc(spec("x", N)).shape == (N,)
    context = contexts()
    assert context.memory_info()["total_bytes"] == mlu.mem_get_info(0)[1]
    with pytest.raises(OutOfMemory):
        context.alloc(spec("x", mlu.mem_get_info(0)[1]))


def kit(tmp_path: Path, backend: str, *arguments: str) -> tuple[int, list[int], str]:
    """The conformance kit on a simulated device: exit code, the counts of all, and the output."""
    info = tmp_path / "on_simulated-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: on-simulated\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dioe.backends]\nsimulated = tests.backend.on_simulated:backends\n"
    )
    known = ROOT / "tests/backend/on_simulated.txt"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TESTS_OWN"))}
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "no:cacheprovider",
            "--pyargs", *arguments, "--backend", backend,
            *(["--known-failures", str(known)] if backend == "simulated.graphs" else []),
        ],
        cwd=tmp_path,
        env=clean | {"PYTHONPATH": path, "DIOE_PLUGIN_TRIAL": "never"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    counts = ALL.findall(done.stdout)
    output = done.stdout[-4000:] + done.stderr[-2000:]
    return done.returncode, [int(n) for n in counts[-1]] if counts else [], output


def test_the_kit_on_the_torch_backend(mlu: SimulatedDevices, tmp_path: Path) -> None:
    sections = ("declarations", "buffers", "requests", "threads", "errors", "options", "lifetime")
    modules = [f"{SUITE}.test_{section}" for section in sections]
    code, counts, output = kit(tmp_path, "simulated", *modules, "--device", "mlu:1")
    assert code == 0, output
    assert counts[0] >= 85


def test_the_kit_on_captured_graphs(mlu: SimulatedDevices, tmp_path: Path) -> None:
    """The backend ``cuda`` with graphs that are tapes; each run is made until it is a replay."""
    arguments = (SUITE, "--precision", "fp32", "--device", "mlu:0")
    code, counts, output = kit(tmp_path, "simulated.graphs", *arguments)
    assert code == 0, output
    covered, not_covered, failed, known = counts
    assert covered >= 380
    assert not_covered <= 60
    assert (failed, known) == (0, 1)
