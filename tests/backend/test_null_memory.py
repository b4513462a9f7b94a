"""The memories of modelled devices: what takes them, what gives them back, and their limits."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dioe.types import InputError, OutOfMemory, Precisions, Resources, TensorSpec
from dioe_null import NPU, NullBackend, VirtualClock
from tests.backend.cases import floats, model, relu, small_network


def test_memory_is_limited_and_given_back() -> None:
    small = replace(NPU, memory_bytes=1000)
    null = NullBackend([small], VirtualClock())
    one, other = null.open("npu:0", Resources()), null.open("npu:0", Resources())
    spec = TensorSpec("b", np.dtype(np.float32), (150,))
    buffer = one.alloc(spec)
    assert one.memory_info() == other.memory_info()
    assert one.memory_info() == {"total_bytes": 1000, "available_bytes": 400, "used_bytes": 600}
    with pytest.raises(OutOfMemory, match=r"600 bytes are needed for a buffer .* 600 of 1000 "):
        other.alloc(spec)
    del buffer
    gc.collect()
    assert other.alloc(spec).shape == (150,)


def test_a_contexts_own_limit() -> None:
    null = NullBackend(clock=VirtualClock())
    context = null.open("npu:0", Resources(memory_limit_bytes=1000))
    assert context.memory_info()["available_bytes"] == 1000
    with pytest.raises(OutOfMemory, match="memory_limit_bytes"):
        context.alloc(TensorSpec("b", np.dtype(np.float32), (300,)))
    with pytest.raises(InputError):
        null.open("npu:0", Resources(memory_limit_bytes=-1))


def test_weights_and_activations_take_memory() -> None:
    null = NullBackend([replace(NPU, memory_bytes=100_000)], VirtualClock())
    context: Any = null.open("npu:0", Resources())
    executable = context.compile(small_network(), Precisions(), {})
    weights = context.memory_info()["used_bytes"]
    assert 0 < weights < executable.memory_bytes
    request = executable.request()
    request.call({"x": floats(1, 3, 16, 16)}, ["y"])
    assert context.memory_info()["used_bytes"] == executable.memory_bytes
    executable.close()
    del request
    gc.collect()
    assert context.memory_info()["used_bytes"] == 0
    wide = context.compile(relu("N"), Precisions(), {}).request()
    with pytest.raises(OutOfMemory, match="activations"):
        wide.call({"x": floats(4000, 4)}, ["y"])
    wide.call({"x": floats(4, 4)}, ["y"])


def test_values_in_buffers_take_memory_once() -> None:
    context: Any = NullBackend(clock=VirtualClock()).open("npu:0", Resources())
    made = model("g (float[1000] x) => (float[1000] y) { a = Abs(x) b = Neg(a) y = Add(a, b) }")
    x, y = (context.alloc(TensorSpec(n, np.dtype(np.float32), (1000,))) for n in "xy")
    request = context.compile(made, Precisions(), {}).request()
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    assert context.memory_info()["used_bytes"] == 2 * 4000 + 2 * 4000  # x and y; a and b
    request.call({"x": floats(1000)}, ["y"])
    assert context.memory_info()["used_bytes"] == 2 * 4000 + 3 * 4000  # all of a run: a, b and y
    request.run().wait()
    assert context.memory_info()["used_bytes"] == 2 * 4000 + 2 * 4000


def test_what_could_never_run_is_not_compiled() -> None:
    context: Any = NullBackend([replace(NPU, memory_bytes=9000)]).open("npu:0", Resources())
    made = model("g (float[1000] x) => (float[1000] y) { a = Abs(x) b = Neg(a) y = Add(a, b) }")
    with pytest.raises(OutOfMemory, match=r"12000 bytes are needed .* there are 9000"):
        context.compile(made, Precisions(), {})
    assert context.memory_info()["used_bytes"] == 0


def test_memory_stays_within_its_limit_whatever_threads_do() -> None:
    null = NullBackend([replace(NPU, memory_bytes=4000)], VirtualClock())
    context: Any = null.open("npu:0", Resources())
    refused: list[int] = []

    def work() -> None:
        for _ in range(200):
            try:
                buffer = context.alloc(TensorSpec("b", np.dtype(np.float32), (300,)))
            except OutOfMemory:
                refused.append(1)
            else:
                assert context.memory_info()["used_bytes"] <= 4000
                del buffer

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert context.memory_info()["used_bytes"] == 0
