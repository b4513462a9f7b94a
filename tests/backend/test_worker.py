"""Backends served by a worker process do what they do in the application's own process.

The conformance suite runs on a served backend too: ``test_conformance``.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import dioe_onnxruntime
from dioe.registry.worker import WorkerBackend, WorkerHost
from dioe.types import (
    Backend,
    BackendError,
    DeviceLost,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
)
from tests.backend.cases import Case, cases, floats, model, relu, small_network
from tests.backend.conftest import Compile

PLUGINS = {
    "onnxruntime": "dioe_onnxruntime:backends",
    "openvino": "dioe_openvino:backends",
    "reference": "dioe_reference:backends",
}
CASES = cases()


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, WorkerHost]]:
    found = {name: WorkerHost(plugin, name=name) for name, plugin in PLUGINS.items()}
    yield found
    for host in found.values():
        host.close()


@pytest.fixture(params=["onnxruntime"])
def backend(request: pytest.FixtureRequest, hosts: dict[str, WorkerHost]) -> WorkerBackend:
    return WorkerBackend(hosts[request.param], request.param)


@pytest.fixture
def local() -> Backend:
    return dioe_onnxruntime.backends()[0]


@pytest.fixture
def own(local: Backend) -> Iterator[WorkerBackend]:
    """A backend in a worker of its own, to be killed."""
    host = WorkerHost(PLUGINS["onnxruntime"])
    yield WorkerBackend(host, "onnxruntime")
    host.close()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_bit_for_bit_as_in_process(
    backend: WorkerBackend, local: Backend, case: Case, compile_on: Compile
) -> None:
    served, own = (b.query(case.model, "cpu", Precision.FP32) for b in (backend, local))
    assert served == own
    if not own.whole:
        return
    results = []
    for one in (backend, local):
        executable = compile_on(one, case.model)
        request: Any = executable.request()
        names = list(case.expected)
        results.append((executable.inputs, executable.outputs, request.call(case.feeds, names)))
    (inputs, outputs, found), (own_inputs, own_outputs, expected) = results
    assert (inputs, outputs) == (own_inputs, own_outputs)
    for one, other in zip(found, expected, strict=True):
        same_bits(one, other)


def same_bits(one: Any, other: Any) -> None:
    if isinstance(other, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same_bits(a, b)
        return
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    if other.dtype.hasobject:
        assert one.tolist() == other.tolist()
    else:
        assert one.tobytes() == other.tobytes()


def test_what_it_says_is_what_it_says_in_process(backend: WorkerBackend, local: Backend) -> None:
    assert (backend.name, backend.abi_version) == (local.name, local.abi_version)
    assert (backend.simulated, backend.version) == (local.simulated, local.version)
    assert backend.probe() == local.probe()
    assert backend.capabilities("cpu") == local.capabilities("cpu")
    options = {"profile": True, "kernel_fusion": "basic", "threads": 2, "nonsense": [1, {"a": 2}]}
    assert backend.resolve(options) == local.resolve(options)


def test_buffers_of_the_context_are_not_copied(backend: WorkerBackend, compile_on: Compile) -> None:
    context = backend.open("cpu", Resources(threads=1))
    executable = context.compile(relu(64), Precisions(), {})
    spec = TensorSpec("b", np.dtype(np.float32), (64, 4))
    x, y = context.alloc(spec).numpy(), context.alloc(spec).numpy()
    request = executable.request()
    request.bind({"x": x}, {"y": y})
    for seed in range(3):
        x[...] = floats(64, 4, seed=seed)
        request.run()
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        assert request.outputs["y"] is y
    # an output of one request is the input of another where it lies
    second = executable.request()
    first = executable.request()
    first.bind({"x": x})
    first.run()
    handed = first.outputs["y"]
    second.bind({"x": handed})
    assert second._tensors["x"].copied is None  # type: ignore[attr-defined]
    second.run()
    np.testing.assert_array_equal(second.outputs["y"], np.maximum(x, 0))
    context.close()


def test_unbound_static_outputs_are_views_of_one_memory(
    backend: WorkerBackend, compile_on: Compile
) -> None:
    request = compile_on(backend, relu(8)).request()
    request.bind({"x": floats(8, 4)})
    request.run()
    first = request.outputs["y"]
    request.bind({"x": floats(8, 4, seed=1)})
    request.run()
    assert np.shares_memory(first, request.outputs["y"])
    np.testing.assert_array_equal(first, np.maximum(floats(8, 4, seed=1), 0))


def test_results_larger_than_the_arena(backend: WorkerBackend, compile_on: Compile) -> None:
    request: Any = compile_on(backend, relu("N")).request()
    for rows in (10, 100_000, 300_000, 20):
        x = floats(rows, 4, seed=rows)
        request.bind({"x": x})
        request.run()
        np.testing.assert_array_equal(request.outputs["y"], np.maximum(x, 0))
        np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], np.maximum(x, 0))


def test_a_worker_killed_in_a_run(own: WorkerBackend) -> None:
    """The caller gets DeviceLost at once, nothing is left, and opening again works."""
    loop = model(
        "g (float[256,256] x) => (float[256,256] y) {"
        " n = Constant<value_int = 1000000>() c = Constant<value_int = 1>()"
        " t = Cast<to = 9>(c)"
        " y = Loop(n, t, x) <body = b (int64 i, bool k, float[256,256] v)"
        " => (bool k2, float[256,256] w) { k2 = Identity(k) w = MatMul(v, v) }> }"
    )
    context = own.open("cpu", Resources(threads=1))
    request = context.compile(loop, Precisions(), {}).request()
    request.bind({"x": floats(256, 256)})
    process = own.host.process()
    killer = threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL))
    killer.start()
    begin = time.monotonic()
    with pytest.raises(DeviceLost, match="was killed by SIGKILL during 'run'"):
        request.run()
    assert time.monotonic() - begin < 5
    killer.join()
    with pytest.raises(DeviceLost, match="SIGKILL"):
        request.run()
    with pytest.raises(DeviceLost, match="SIGKILL"):
        context.compile(relu(), Precisions(), {})
    context.close()
    assert not psutil.pid_exists(process.pid)
    again = own.open("cpu", Resources(threads=1))
    fresh = again.compile(relu(), Precisions(), {}).request()
    fresh.bind({"x": floats(2, 4)})
    fresh.run()
    np.testing.assert_array_equal(fresh.outputs["y"], np.maximum(floats(2, 4), 0))


def open_things() -> tuple[int, int, int, set[str]]:
    """Counts of descriptors, threads and children of this process; DIOE's shared memory by name."""
    gc.collect()
    me, named = psutil.Process(), Path("/dev/shm")
    shared = {path.name for path in named.glob("dioe*")} if named.is_dir() else set()
    return me.num_fds(), me.num_threads(), len(me.children()), shared


@pytest.mark.parametrize("end", ["close", "kill", "collect"])
def test_nothing_is_left(end: str) -> None:
    before = open_things()
    host: WorkerHost | None = WorkerHost(PLUGINS["onnxruntime"])
    assert host is not None
    backend: Any = WorkerBackend(host, "onnxruntime")
    context: Any = backend.open("cpu", Resources(threads=2))
    executable: Any = context.compile(small_network(), Precisions(), {})
    requests: list[Any] = [executable.request() for _ in range(3)]
    buffer: Any = context.alloc(TensorSpec("b", np.dtype(np.float32), (1, 12)))
    for request in requests:
        request.bind({"x": floats(1, 3, 16, 16)}, {"y": buffer.numpy()})
        request.run()
        request.call({"x": floats(1, 3, 16, 16)}, ["y"])
    process: Any = host.process()
    folder, pid = process.folder, process.pid
    folder.mkdir()
    assert psutil.pid_exists(pid)
    threads = [threading.Thread(target=requests[i].run) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if end == "kill":
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DeviceLost):
            requests[0].run()
    if end != "collect":
        host.close()
        with pytest.raises((DeviceLost, BackendError)):
            requests[1].run()
    del request, requests, executable, context, buffer, backend, host, process, threads, thread
    assert open_things() == before
    assert not folder.exists()
    assert not psutil.pid_exists(pid)


def test_executables_and_requests_are_released_in_the_worker(own: WorkerBackend) -> None:
    context = own.open("cpu", Resources(threads=1))
    process = own.host.process()

    def use(rows: int) -> None:
        executable = context.compile(relu(rows), Precisions(), {})
        request: Any = executable.request()
        request.bind({"x": floats(rows, 4)})
        request.run()
        request.call({"x": floats(rows, 4)}, ["y"])
        executable.close()

    def descriptors() -> int:
        gc.collect()
        process.call("memory_info", {"context": context._number}, limit_s=5)  # type: ignore[attr-defined]
        return psutil.Process(process.pid).num_fds()

    use(1)
    before = descriptors()
    for rows in range(2, 12):
        use(rows)
    assert descriptors() <= before
