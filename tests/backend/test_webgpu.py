"""ONNX Runtime's WebGPU provider: a device with its own memory, on a GPU in software."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dioe.types import (
    DONE,
    Array,
    BackendError,
    DeviceState,
    Effect,
    HostBuffer,
    InputError,
    KnownAs,
    OutOfMemory,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
    TimedOut,
    UnsupportedError,
)
from dioe_onnxruntime.backend import OnnxRuntimeBackend
from dioe_onnxruntime.context import OnnxRuntimeContext
from tests.backend.cases import Case, cases, floats, model, relu, small_network
from tests.backend.software_gpu import DEVICE, missing

REFUSED = {
    "data-dependent-shape",  # NonZero
    "sequence",
    "optional",
    *(
        f"identity-{dtype}"
        for dtype in (
            *("strings", "bfloat16", "float8", "int4", "uint4", "float64"),
            *("int8", "uint8", "int16", "uint16", "int64", "uint64", "bool"),
        )
    ),
}
"""Cases that WebGPU 0.4.0 has no kernels for."""

FLOAT = np.dtype(np.float32)


@pytest.fixture
def context(webgpu: OnnxRuntimeBackend) -> Iterator[OnnxRuntimeContext]:
    opened = webgpu.open(DEVICE, Resources())
    assert isinstance(opened, OnnxRuntimeContext)
    yield opened
    opened.close()


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, FLOAT, shape)


def on_device(context: OnnxRuntimeContext, array: Array) -> Any:
    buffer = context.alloc(TensorSpec("b", array.dtype, array.shape))
    context.copy(HostBuffer(array), buffer)
    return buffer


def on_host(context: OnnxRuntimeContext, buffer: Any) -> Array:
    array = np.empty(buffer.shape, buffer.dtype)
    context.copy(buffer, HostBuffer(array)).wait()
    return array


def products(count: int, side: int = 256) -> Any:
    """A model that keeps a software GPU busy for some time."""
    steps = "".join(f" v{i + 1} = MatMul(v{i}, x)" for i in range(count))
    return model(
        f"g (float[{side},{side}] x) => (float[{side},{side}] y)"
        f" {{ v0 = Identity(x){steps} y = Abs(v{count}) }}"
    )


def test_a_software_device_says_what_it_is(webgpu: OnnxRuntimeBackend) -> None:
    (device,) = webgpu.probe()
    assert (device.id, device.kind, device.state) == (DEVICE, "gpu", DeviceState.PRESENT)
    assert device.known_as is KnownAs.SIMULATED
    assert device.shares == "cpu"
    assert device.details["software"] is True
    assert webgpu.version.partition("+")[2].startswith("webgpu.")
    capabilities = webgpu.capabilities(DEVICE)
    assert capabilities.asynchronous
    assert capabilities.computes == {Precision.FP32}


@pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
@pytest.mark.parametrize("allowed", ["", "1"])
def test_without_its_variables_nothing_is_switched_on(allowed: str, tmp_path: Path) -> None:
    code = (
        "import dioe_onnxruntime\n"
        "(b,) = [b for b in dioe_onnxruntime.backends() if b.name == 'onnxruntime.webgpu']\n"
        "(d,) = b.probe()\n"
        "print(d.id, d.state, d.known_as, d.reason)\n"
        "from dioe.types import Resources, UnsupportedError\n"
        "try: b.open('gpu:0', Resources())\n"
        "except UnsupportedError as error: print('refused', error.place)\n"
    )
    none = tmp_path / "none.json"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VK_")}
    environment |= {"VK_ICD_FILENAMES": str(none), "VK_DRIVER_FILES": str(none)}
    environment["ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"] = allowed
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.startswith("gpu:0 absent absent WebGpuExecutionProvider")
    assert "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER" in done.stdout
    assert done.stdout.endswith("refused onnxruntime.webgpu\n")
    assert ("adapter: No supported adapters" in done.stdout) == bool(allowed)


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_results(webgpu: OnnxRuntimeBackend, context: OnnxRuntimeContext, case: Case) -> None:
    support = webgpu.query(case.model, DEVICE, Precision.FP32)
    key = case.name.replace(" of ", "-").replace(" ", "-")
    assert support.whole == (key not in REFUSED)
    if not support.whole:
        assert all(support.refused.values())
        with pytest.raises(UnsupportedError):
            context.compile(case.model, Precisions(), {})
        return
    request: Any = context.compile(case.model, Precisions(), {}).request()
    names = list(case.expected)
    for value, name in zip(request.call(case.feeds, names), names, strict=True):
        assert value.dtype == case.expected[name].dtype
        np.testing.assert_allclose(value, case.expected[name], rtol=1e-4, atol=1e-5)
    request.bind(case.feeds)
    request.run().wait()
    for name in names:
        np.testing.assert_allclose(request.outputs[name], case.expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 6, 9, 33])
def test_convolutions_over_odd_numbers_of_channels(
    context: OnnxRuntimeContext, onnxruntime: Any, channels: int
) -> None:
    # Wrong in the provider's default layout.
    made = model(
        f"g (float[1,{channels},6,6] x, float[8,{channels},3,3] w) => (float[1,8,4,4] y)"
        " { y = Conv(x, w) }"
    )
    feeds = {"x": floats(1, channels, 6, 6), "w": floats(8, channels, 3, 3, seed=1)}
    found: Any = context.compile(made, Precisions(), {}).request()
    host = onnxruntime.open("cpu", Resources(threads=1))
    expected: Any = host.compile(made, Precisions(), {}).request()
    np.testing.assert_allclose(
        found.call(feeds, ["y"])[0], expected.call(feeds, ["y"])[0], rtol=1e-4, atol=1e-5
    )
    host.close()


def test_what_would_run_on_the_cpu_is_refused_by_name(
    webgpu: OnnxRuntimeBackend, context: OnnxRuntimeContext
) -> None:
    made = model(
        "g (float[N,3] a, bool c) => (float[M,3] y, float[N,3] z) {"
        " n = NonZero(a) t = Transpose(n) f = Cast<to = 1>(t) y = Relu(f)"
        " z = If (c) <"
        " then_branch = p () => (float[N,3] u) { u = Round(a) },"
        " else_branch = q () => (float[N,3] v) { v = Abs(a) }> }"
    )
    support = webgpu.query(made, DEVICE, Precision.FP32)
    assert support.refused.keys() == {"n", "t", "f", "z"}
    assert support.supported == {"y"}
    assert "NonZero on the CPU" in support.refused["n"]
    assert "Round on the CPU" in support.refused["z"]
    with pytest.raises(UnsupportedError, match=r"4 of 5 ops .* on gpu:0: 'n', 't', 'f', 'z'"):
        context.compile(made, Precisions(), {})


def test_other_precisions_and_profiles_are_refused(
    webgpu: OnnxRuntimeBackend, context: OnnxRuntimeContext
) -> None:
    assert not webgpu.query(relu(), DEVICE, Precision.FP16).supported
    with pytest.raises(UnsupportedError, match="fp16"):
        context.compile(relu(), Precisions(Precision.FP16), {})
    with pytest.raises(UnsupportedError, match="dispatch"):
        context.compile(relu(), Precisions(), {"profile": True})
    answers = webgpu.resolve({"profile": True, "precision": "fp32", "memory_limit_bytes": 5})
    assert [a.effect for a in answers.values()] == [
        Effect.REJECTED,
        Effect.APPLIED,
        Effect.APPROXIMATED,
    ]
    with pytest.raises(UnsupportedError, match="gpu:1"):
        webgpu.open("gpu:1", Resources())


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.int64, np.int8, np.bool_, np.float64], ids=str
)
def test_copies_there_and_back(context: OnnxRuntimeContext, dtype: Any) -> None:
    for shape in ((5,), (), (3, 1, 7), (0, 4)):
        array = np.asarray(np.random.default_rng(1).integers(0, 2, shape)).astype(dtype)
        buffer = on_device(context, array)
        assert (buffer.dtype, buffer.shape, buffer.strides) == (array.dtype, shape, None)
        again = context.alloc(TensorSpec("again", array.dtype, shape))
        context.copy(buffer, again).wait()
        np.testing.assert_array_equal(on_host(context, again), array)


def test_copies_of_odd_host_arrays(context: OnnxRuntimeContext) -> None:
    array = floats(6, 8)[::2, ::2]
    buffer = on_device(context, array)
    target = np.zeros((6, 4), np.float32)
    context.copy(buffer, HostBuffer(target[::2])).wait()
    np.testing.assert_array_equal(target[::2], array)
    assert not target[1::2].any()
    host = HostBuffer(np.empty((3, 4), np.float32))
    context.copy(HostBuffer(array), host)
    np.testing.assert_array_equal(host.array, array)


def test_buffers_are_checked(webgpu: OnnxRuntimeBackend, context: OnnxRuntimeContext) -> None:
    buffer = on_device(context, floats(2, 4))
    assert buffer.device == DEVICE
    with pytest.raises(BackendError, match="address"):
        buffer.numpy()
    with pytest.raises(InputError, match="copy"):
        context.copy(HostBuffer(floats(2, 5)), buffer)
    with pytest.raises(InputError, match="numbers"):
        context.alloc(spec("b", "N", 4))
    with pytest.raises(InputError, match="object"):
        context.alloc(TensorSpec("b", np.dtype(object), (2,)))
    with pytest.raises(OutOfMemory):
        context.alloc(spec("b", 1 << 40))
    limited = webgpu.open(DEVICE, Resources(memory_limit_bytes=100))
    kept: Any = limited.alloc(spec("b", 5, 4))
    with pytest.raises(OutOfMemory, match="limit of 100"):
        limited.alloc(spec("b", 2, 4))
    assert limited.memory_info()["allocated_bytes"] == kept.nbytes == 80
    del kept
    assert limited.memory_info()["allocated_bytes"] == 0
    limited.close()
    with pytest.raises(BackendError, match="closed"):
        limited.alloc(spec("b", 1))


def test_stages_hand_buffers_on_without_the_host(context: OnnxRuntimeContext) -> None:
    first = context.compile(products(1, 16), Precisions(), {}).request()
    second = context.compile(products(2, 16), Precisions(), {}).request()
    x = floats(16, 16)
    a, b, c = on_device(context, x), *(context.alloc(spec(n, 16, 16)) for n in "bc")
    first.bind({"x": a}, {"y": b})
    second.bind({"x": b}, {"y": c})
    for seed in range(3):
        x = floats(16, 16, seed=seed)
        context.copy(HostBuffer(x), a)
        first.run()
        event = second.run()
        assert second.outputs["y"] is c
        assert getattr(c, "ready") is event  # noqa: B009 - not in the protocol's promise
        middle = np.abs(x @ x)
        np.testing.assert_allclose(
            on_host(context, c), np.abs(middle @ middle @ middle), rtol=1e-3, atol=1e-3
        )
        assert event.done()


def test_buffers_and_arrays_mix(context: OnnxRuntimeContext) -> None:
    made = model(
        "g (float[2,3] a, float[2,3] b) => (float[2,3] y, float[2,3] z)"
        " { y = Sub(a, b) z = Mul(a, b) }"
    )
    request: Any = context.compile(made, Precisions(), {}).request()
    a, b = floats(2, 3), floats(2, 3, seed=1)
    device = on_device(context, a)
    y = context.alloc(spec("y", 2, 3))
    request.bind({"a": device, "b": b}, {"y": y})
    assert request.run() is DONE  # z came to the host
    np.testing.assert_array_equal(on_host(context, y), a - b)
    np.testing.assert_allclose(request.outputs["z"], a * b, rtol=1e-6)
    b[...] = floats(2, 3, seed=2)  # bound host arrays are read at each run
    target = np.empty((2, 3), np.float32)
    request.bind({}, {"y": target})
    request.run()
    np.testing.assert_array_equal(target, a - b)
    assert request.outputs["y"] is target
    request.bind({"a": a, "b": device})  # and each may go to the other place
    request.run()
    np.testing.assert_array_equal(target, np.zeros((2, 3)))
    found = request.call({"a": device, "b": b}, ["z", "y"])
    np.testing.assert_allclose(found[0], a * b, rtol=1e-6)
    np.testing.assert_array_equal(found[1], a - b)


def test_a_buffer_that_an_op_reads_on_the_host_is_read_in_every_run(
    context: OnnxRuntimeContext,
) -> None:
    made = model("g (float[2,6] x, int64[2] s) => (float[A,B] y) { y = Reshape(x, s) }")
    request: Any = context.compile(made, Precisions(), {}).request()
    x = floats(2, 6)
    shape = context.alloc(TensorSpec("s", np.dtype(np.int64), (2,)))
    request.bind({"x": on_device(context, x), "s": shape})
    for wanted in ((3, 4), (4, 3), (1, 12)):
        context.copy(HostBuffer(np.array(wanted)), shape)
        request.run()
        np.testing.assert_array_equal(request.outputs["y"], x.reshape(wanted))


def test_wrong_buffers_are_input_errors(context: OnnxRuntimeContext) -> None:
    request: Any = context.compile(relu("N"), Precisions(), {}).request()
    good = on_device(context, floats(2, 4))
    for name, array, match in (
        ("q", floats(2, 4), "'q'"),
        ("x", floats(2, 5), r"\[2, 5\]"),
        ("x", floats(4), r"\[4\]"),
        ("x", floats(2, 4).astype(np.float16), "float16"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({name: on_device(context, array)})
        with pytest.raises(InputError, match=match):
            request.call({"x": good} | {name: on_device(context, array)}, ["y"])
    with pytest.raises(InputError, match="'x'"):
        request.run()
    request.bind({"x": good}, {"y": context.alloc(spec("y", 3, 4))})
    with pytest.raises(InputError, match="shape"):
        request.run()
    y = context.alloc(spec("y", 2, 4))
    request.bind({}, {"y": y})
    request.run()
    np.testing.assert_array_equal(on_host(context, y), np.maximum(floats(2, 4), 0))


def test_shapes_may_change_between_runs(context: OnnxRuntimeContext) -> None:
    request: Any = context.compile(relu("N"), Precisions(), {}).request()
    for rows in (2, 5, 1, 3):
        x = floats(rows, 4, seed=rows)
        request.bind({"x": on_device(context, x) if rows % 2 else x})
        request.run()
        np.testing.assert_array_equal(request.outputs["y"], np.maximum(x, 0))
        np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], np.maximum(x, 0))


def test_work_is_done_when_its_event_says_so(context: OnnxRuntimeContext) -> None:
    """A run returns before the device is done, and waiting lets other threads go on."""
    request = context.compile(products(12), Precisions(), {}).request()
    x = floats(256, 256) / 16
    y = context.alloc(spec("y", 256, 256))
    request.bind({"x": on_device(context, x)}, {"y": y})
    request.run().wait()  # compiles the shaders
    started = time.perf_counter()
    event = request.run()
    returned = time.perf_counter() - started
    with pytest.raises(TimedOut):
        event.wait(timeout_ms=1)
    assert not event.done()
    ticks = 0
    while not event.done():
        ticks += 1
        time.sleep(0.001)
    took = time.perf_counter() - started
    assert took > 3 * returned
    assert ticks > 3
    event.wait()
    event.wait(timeout_ms=1)
    expected = x
    for _ in range(12):
        expected = expected @ x
    np.testing.assert_allclose(on_host(context, y), np.abs(expected), rtol=1e-2, atol=1e-2)


def test_several_threads(webgpu: OnnxRuntimeBackend) -> None:
    """Sessions that run at once break the provider's command encoder: they take turns."""
    x = floats(64, 64) / 8
    expected = np.abs(x @ x @ x)
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            context = webgpu.open(DEVICE, Resources())
            request: Any = context.compile(products(2, 64), Precisions(), {}).request()
            y = context.alloc(spec("y", 64, 64))
            for _ in range(5):
                if i % 2:
                    found = request.call({"x": x}, ["y"])[0]
                else:
                    buffer = on_device(context, x)  # type: ignore[arg-type]
                    request.bind({"x": buffer}, {"y": y})
                    request.run()
                    found = on_host(context, y)  # type: ignore[arg-type]
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
            context.close()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_close(webgpu: OnnxRuntimeBackend) -> None:
    context: Any = webgpu.open(DEVICE, Resources())
    executable = context.compile(relu(), Precisions(), {})
    request = executable.request()
    x = on_device(context, floats(2, 4))
    request.bind({"x": x})
    request.run()
    context.close()
    for use in (
        request.run,
        lambda: request.bind({"x": x}),
        lambda: request.outputs,
        lambda: request.call({"x": x}, ["y"]),
        lambda: request.call({"x": floats(2, 4)}, ["y"]),
        executable.request,
        lambda: context.copy(x, HostBuffer(floats(2, 4))),
    ):
        with pytest.raises(BackendError, match="closed"):
            use()
    assert context.power() is None


def test_the_network_of_all_backends(context: OnnxRuntimeContext, onnxruntime: Any) -> None:
    x = floats(1, 3, 16, 16)
    host = onnxruntime.open("cpu", Resources(threads=1))
    expected = host.compile(small_network(), Precisions(), {}).request().call({"x": x}, ["y"])[0]
    for options in ({}, {"optimize": False}, {"kernel_fusion": "basic"}):
        request: Any = context.compile(small_network(), Precisions(), options).request()
        np.testing.assert_allclose(request.call({"x": x}, ["y"])[0], expected, rtol=1e-4)
    host.close()
