"""What the built-in backends on the host share beyond what the conformance suite asks of all."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import psutil
import torch

from dioe.types import (
    Backend,
    DeviceState,
    Effect,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
)
from tests.backend.cases import floats, model, relu, small_network
from tests.backend.conftest import Compile


def test_all_are_on_the_host(backend: Backend) -> None:
    assert not backend.simulated
    (device,) = backend.probe()
    assert (device.id, device.uuid, device.state) == ("cpu", "host-cpu", DeviceState.PRESENT)
    assert device.memory_bytes
    assert Precision.FP32 in backend.capabilities("cpu").computes
    assert backend.capabilities("cpu").last_resort == (backend.name == "reference")


def test_results_stay_while_tensors_of_torch_hold_them(
    backend: Backend, compile_on: Compile
) -> None:
    """The suite holds them in all other ways; it can't depend on torch."""
    made = model("g (float[128,128] x) => (float[128,128] y) { y = Abs(x) }")
    request: Any = compile_on(backend, made).request()
    held: list[tuple[torch.Tensor, Any]] = []
    for seed in range(60):
        x = floats(128, 128, seed=seed)
        (y,) = request.call({"x": x}, ["y"])
        if seed % 7 == 0:  # in between long enough for a backend to stop copying
            held.append((torch.from_numpy(y), np.abs(x)))
        y = None
        for tensor, expected in held:
            np.testing.assert_array_equal(tensor.numpy(), expected)


def test_closing_ends_the_threads(onnxruntime: Backend) -> None:
    onnxruntime.probe()  # the first in a process starts what stays
    before = psutil.Process().num_threads()
    context = onnxruntime.open("cpu", Resources(threads=4))
    executable = context.compile(relu(), Precisions(), {})
    request = executable.request()
    assert psutil.Process().num_threads() >= before + 3
    executable.close()
    gc.collect()
    assert psutil.Process().num_threads() <= before
    del request
    context.close()


def test_profiles_leave_the_first_run_out_and_tell_the_precision(
    backend: Backend, compile_on: Compile
) -> None:
    executable = compile_on(backend, small_network(), options={"profile": True})
    request = executable.request()
    request.bind({"x": floats(1, 3, 16, 16)})
    for _ in range(21):
        request.run()
    times = executable.profile()
    assert all(time.count == 20 for time in times)
    convolution = next(time for time in times if "conv" in time.ops)
    assert convolution.precision == "fp32"
    if backend.name != "reference":
        assert {"conv", "bn", "relu"} <= set(convolution.ops)


def test_options(backend: Backend) -> None:
    answers = backend.resolve({"profile": True, "tiling_strategy": "auto"})
    assert answers["profile"].effect is Effect.APPLIED
    assert answers["tiling_strategy"].effect is Effect.IGNORED


def test_memory_is_aligned_and_counted(backend: Backend) -> None:
    context = backend.open("cpu", Resources())
    buffer = context.alloc(TensorSpec("b", np.dtype(np.float32), (3, 5)))
    assert buffer.numpy().ctypes.data % 64 == 0
    memory = context.memory_info()
    assert 0 < memory["available_bytes"] <= memory["total_bytes"]
    assert context.power() is None
    context.close()
