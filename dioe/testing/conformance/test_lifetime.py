"""Nothing leaks, and results outlive what made them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.testing.models import floats, load, model, relu, rng, small_network
from dioe.testing.subject import RESOURCES, Subject, call, run
from dioe.types import Precisions, Resources


def _descriptors() -> int:
    process: Any = psutil.Process()
    return int(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())


def _settled(count: Callable[[], int], most: int) -> int:
    """The count once it is no more than ``most``, or after 2 s: threads take a while to end."""
    gc.collect()
    end = time.monotonic() + 2
    while count() > most and time.monotonic() < end:
        time.sleep(0.02)
    return count()


def _rss() -> int:
    """Resident bytes of this process and of the workers it has."""
    gc.collect()
    process = psutil.Process()
    return sum(int(each.memory_info().rss) for each in (process, *process.children()))


def _growth(rounds: Callable[[int], None], count: int) -> int:
    """Bytes that the process grew by over ``count`` rounds, the better of two measurements: other
    things grow once, a leak each time."""
    rounds(max(1, count // 5))
    found = []
    for _ in range(2):
        before = _rss()
        rounds(count)
        found.append(_rss() - before)
    return min(found)


def test_runs_leak_nothing(subject: Subject) -> None:
    """Calls and bound runs, with arrays of their own each time."""
    made = model("g (float[N,64] x) => (float[N,64] y) { y = Relu(x) }")
    request: Any = subject.request(made)
    target = np.empty((64, 64), np.float32)
    start = time.perf_counter()
    run(request, {"x": floats(64, 64)})
    count = 1000 if time.perf_counter() - start < 0.01 else 100

    def rounds(times: int) -> None:
        for seed in range(times):
            x = np.full((64, 64), seed, np.float32)
            if hasattr(request, "call"):
                request.call({"x": x}, ["y"])
            request.bind({"x": x}, {"y": target} if seed % 2 else None)
            request.run().wait()

    # an array of 16 KiB a run would be 16 MiB
    assert _growth(rounds, count) < count * 16384 // 2
    descriptors = _descriptors()
    rounds(100)
    assert _descriptors() <= descriptors


def test_requests_leak_nothing(subject: Subject) -> None:
    """A request that is let go of gives its buffers back."""
    side = 128
    made = model(f"g (float[{side},{side}] x) => (float[{side},{side}] y) {{ y = Relu(x) }}")
    executable = subject.compile(made)
    x = floats(side, side)

    def rounds(times: int) -> None:
        for _ in range(times):
            run(executable.request(), {"x": x})

    # the buffers of a request are 64 KiB each
    assert _growth(rounds, 200) < 200 * 65536 // 2


def test_compiling_and_closing_leaks_nothing(subject: Subject) -> None:
    """Memory, threads and descriptors of contexts, executables and requests, over and over."""
    made = small_network()
    subject.take(made)
    feeds = {"x": floats(1, 3, 16, 16)}

    def rounds(times: int) -> None:
        for _ in range(times):
            context = subject.backend.open(subject.device, Resources(threads=2, spin=False))
            executable = context.compile(made, Precisions(), {})
            run(executable.request(), feeds)
            executable.close()
            context.close()

    rounds(5)
    threads, descriptors = psutil.Process().num_threads(), _descriptors()
    # A leaked executable has its threads' stacks, its graph and its buffers: hundreds of KiB.
    assert _growth(rounds, 20) < 20 * 128 * 1024
    assert _settled(psutil.Process().num_threads, threads) <= threads
    assert _settled(_descriptors, descriptors) <= descriptors


def test_weights_are_given_back(subject: Subject) -> None:
    """Those of an executable are gone with it."""
    side = 3584  # 49 MiB of float32, more than what malloc keeps for reuse
    weight = rng(1).standard_normal((side, side), dtype=np.float32)
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [info("x", TensorProto.FLOAT, [1, side])],
        [info("y", TensorProto.FLOAT, [1, side])],
        [numpy_helper.from_array(weight, "w")],
    )
    subject.take(made)
    feeds = {"x": floats(1, side)}

    def rounds(times: int) -> None:
        for _ in range(times):
            context = subject.backend.open(subject.device, RESOURCES)
            run(context.compile(made, Precisions(), {}).request(), feeds)
            context.close()

    assert _growth(rounds, 3) < 2 * weight.nbytes


@pytest.mark.correctness
def test_results_outlive_what_made_them(subject: Subject) -> None:
    """Results of ``call`` are the caller's, whatever is closed or collected."""
    context = subject.open()
    subject.take(relu())
    executable = context.compile(relu(), Precisions(), {})
    request = executable.request()
    x = floats(2, 4)
    (kept,) = call(request, {"x": x}, ["y"])
    executable.close()
    context.close()
    del request, executable, context
    gc.collect()
    np.testing.assert_array_equal(kept, np.maximum(x, 0))


@pytest.mark.correctness
def test_an_executable_outlives_its_model(subject: Subject) -> None:
    """Weights are the executable's own, or kept by it."""
    made = small_network()
    executable = subject.compile(made)
    feeds = {"x": floats(1, 3, 16, 16)}
    wanted = run(executable.request(), feeds)["y"].copy()
    del made
    gc.collect()
    found = run(executable.request(), feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
