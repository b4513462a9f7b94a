"""What every backend has to do, whatever runtime is behind it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from dioe.types import (
    ABI_VERSION,
    Backend,
    BackendError,
    DeviceState,
    Effect,
    HostBuffer,
    InputError,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
    UnsupportedError,
)
from tests.backend.cases import Case, cases, floats, load, model, relu, small_network
from tests.backend.conftest import Compile

CASES = cases()


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.kind == "f" and expected.dtype.char in "efd":
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    else:
        assert (found == expected).all()


def test_a_backend_says_who_it_is(backend: Backend) -> None:
    assert backend.abi_version == ABI_VERSION
    assert not backend.simulated
    assert backend.version
    (device,) = backend.probe()
    assert (device.id, device.uuid, device.state) == ("cpu", "host-cpu", DeviceState.PRESENT)
    assert device.memory_bytes
    assert Precision.FP32 in backend.capabilities("cpu").computes
    assert backend.capabilities("cpu").last_resort == (backend.name == "reference")


def test_nothing_heavy_is_imported_before_probe() -> None:
    code = (
        "import sys, dioe_onnxruntime, dioe_openvino, dioe_reference\n"
        "for p in (dioe_onnxruntime, dioe_openvino, dioe_reference):\n"
        "    print([b.name for b in p.backends()])\n"
        "assert not {'onnxruntime', 'openvino', 'onnx', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_results(backend: Backend, case: Case, compile_on: Compile) -> None:
    if backend.name not in case.backends:
        assert not backend.query(case.model, "cpu", Precision.FP32).whole
        with pytest.raises(UnsupportedError):
            compile_on(backend, case.model)
        return
    assert backend.query(case.model, "cpu", Precision.FP32).whole
    executable = compile_on(backend, case.model)
    assert {s.name for s in executable.inputs} == set(case.feeds)
    request = executable.request()
    request.bind(case.feeds)
    for _ in range(3):
        request.run().wait()
        assert list(request.outputs) == list(case.expected)
        for name, expected in case.expected.items():
            same(request.outputs[name], expected)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_call_gives_outputs_that_the_caller_owns(
    backend: Backend, case: Case, compile_on: Compile
) -> None:
    if backend.name not in case.backends:
        pytest.skip("refused; see test_results")
    request: Any = compile_on(backend, case.model).request()
    names = list(case.expected)[::-1]
    found = []
    for _ in range(3):
        found.append(request.call(case.feeds, names))
        for name, value in zip(names, found[-1], strict=True):
            same(value, case.expected[name])
        for value in found[-1]:
            if isinstance(value, np.ndarray) and value.dtype.char in "fdlq" and value.ndim:
                value[...] = 77  # must reach neither later results nor the feed
    for results in found:
        for value in results:
            if isinstance(value, np.ndarray) and value.dtype.char in "fdlq" and value.ndim:
                assert (value == 77).all()


@pytest.mark.parametrize("side", [8, 300])  # below and above what is copied
def test_call_of_small_and_large_tensors(backend: Backend, side: int, compile_on: Compile) -> None:
    made = model(
        f"g (float[{side},{side}] x) => (float[{side},{side}] y, float[{side},{side}] z) {{"
        " y = Abs(x) z = Neg(x) }"
    )
    request: Any = compile_on(backend, made).request()
    kept = []
    for seed in range(4):
        x = floats(side, side, seed=seed)
        names = ["y", "z"] if seed % 2 == 0 else ["z"]
        kept.append((x.copy(), names, request.call({"x": x}, names)))
        x[...] = 0.5  # the caller may reuse its array at once
    for x, names, values in kept:
        for name, value in zip(names, values, strict=True):
            np.testing.assert_array_equal(value, np.abs(x) if name == "y" else -x)


@pytest.mark.parametrize("seed", range(4))
def test_results_stay_however_callers_hold_them(
    backend: Backend, seed: int, compile_on: Compile
) -> None:
    """Results let go of at once, kept, kept as a view, as a buffer or as a tensor of torch."""
    made = model(
        "g (float[128,128] x) => (float[128,128] y, float[16,128] z) {"
        " y = Abs(x) two = Constant<value_ints: ints = [16, 112]>()"
        " z, rest = Split<axis: int = 0>(y, two) }"
    )
    request: Any = compile_on(backend, made).request()
    rng = np.random.default_rng(seed)
    held: list[tuple[Any, Any]] = []
    patience = 0
    for _ in range(300):
        x = rng.standard_normal((128, 128), np.float32)
        y, z = request.call({"x": x}, ["y", "z"])
        np.testing.assert_array_equal(y, np.abs(x))
        np.testing.assert_array_equal(z, np.abs(x[:16]))
        if patience:  # long enough for a backend to stop copying
            patience -= 1
        else:
            keep = rng.choice(["array", "view", "reshaped", "buffer", "tensor", "written"])
            expected = np.abs(x)
            if keep == "array":
                held.append((y, expected))
            elif keep == "view":
                held.append((y[3:9, ::2], expected[3:9, ::2]))
            elif keep == "reshaped":
                held.append((z.reshape(-1)[:-1][1:], expected[:16].reshape(-1)[1:-1]))
            elif keep == "buffer":
                held.append((memoryview(y), expected))
            elif keep == "tensor":
                held.append((torch.from_numpy(y), expected))
            else:
                y[...] = -1.0
                held.append((y, np.full_like(y, -1.0)))
            patience = int(rng.choice([0, 1, 8, 40]))
            del held[: -int(rng.integers(1, 12))]
        y = z = None
        for value, expected in held:
            np.testing.assert_array_equal(np.asarray(value), expected)


def test_bound_arrays_are_used_in_place(backend: Backend, compile_on: Compile) -> None:
    request = compile_on(backend, relu()).request()
    x, y = floats(2, 4), np.full((2, 4), 9, np.float32)
    request.bind({"x": x}, {"y": y})
    request.run()
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert request.outputs["y"] is y
    x[...] = floats(2, 4, seed=1)
    request.run()
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_rebinding_one_name_keeps_the_others(backend: Backend, compile_on: Compile) -> None:
    made = model("g (float[3] a, float[3] b) => (float[3] y) { y = Sub(a, b) }")
    request = compile_on(backend, made).request()
    a, b, c, y = floats(3), floats(3, seed=1), floats(3, seed=2), np.empty(3, np.float32)
    request.bind({"a": a, "b": b}, {"y": y})
    request.run()
    request.bind({"b": c})
    request.run()
    np.testing.assert_array_equal(y, a - c)


def test_host_buffers_and_odd_arrays(backend: Backend, compile_on: Compile) -> None:
    request: Any = compile_on(backend, relu()).request()
    x = floats(4, 8)[::2, ::2]
    read_only = floats(2, 4, seed=1)
    read_only.flags.writeable = False
    for value, array in ((x, x), (read_only, read_only), (HostBuffer(x.copy()), x)):
        request.bind({"x": value})
        request.run()
        np.testing.assert_array_equal(request.outputs["y"], np.maximum(array, 0))
        np.testing.assert_array_equal(request.call({"x": array}, ["y"])[0], np.maximum(array, 0))


def test_shapes_may_change_between_runs(backend: Backend, compile_on: Compile) -> None:
    request: Any = compile_on(backend, relu("N")).request()
    for rows in (2, 5, 1, 0, 3):
        x = floats(rows, 4, seed=rows)
        request.bind({"x": x})
        request.run()
        np.testing.assert_array_equal(request.outputs["y"], np.maximum(x, 0))
        np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], np.maximum(x, 0))


def test_a_bound_output_of_another_size_is_an_input_error(
    backend: Backend, compile_on: Compile
) -> None:
    request = compile_on(backend, relu("N")).request()
    x = floats(2, 4)
    for rows in (3, 1):
        request.bind({"x": x}, {"y": np.empty((rows, 4), np.float32)})
        with pytest.raises(InputError, match="y"):
            request.run()
    y = np.empty((2, 4), np.float32)
    request.bind({}, {"y": y})
    request.run()
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_wrong_feeds_are_input_errors(backend: Backend, compile_on: Compile) -> None:
    request: Any = compile_on(backend, relu()).request()
    good = floats(2, 4)
    with pytest.raises(InputError, match="x"):
        request.run()
    for name, value, match in (
        ("q", good, "'q'"),
        ("x", good.astype(np.float64), "float64"),
        ("x", good[:1], r"\[1, 4\]"),
        ("x", good[0], r"\[4\]"),
        ("x", object(), "x"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({name: value})
        with pytest.raises(InputError):
            request.call({name: value}, ["y"])
    with pytest.raises(InputError, match="x"):
        request.call({}, ["y"])
    for outputs, match in (
        ({"q": good}, "'q'"),
        ({"y": good.astype(np.float64)}, "float64"),
        ({"y": good[:1]}, r"\[1, 4\]"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({"x": good}, outputs)
    request.bind({"x": good})
    request.run()
    np.testing.assert_array_equal(request.outputs["y"], np.maximum(good, 0))


def test_requests_of_several_threads(backend: Backend, compile_on: Compile) -> None:
    executable = compile_on(backend, small_network(), resources=Resources(threads=1, streams=2))
    reference: Any = executable.request()
    feeds = [{"x": floats(1, 3, 16, 16, seed=i)} for i in range(4)]
    expected = [reference.call(feed, ["y"])[0] for feed in feeds]
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            request: Any = executable.request()
            request.bind(feeds[i])
            for _ in range(10):
                request.run()
                np.testing.assert_allclose(request.outputs["y"], expected[i], rtol=1e-4)
                found = request.call(feeds[i], ["y"])[0]
                np.testing.assert_allclose(found, expected[i], rtol=1e-4)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_close(backend: Backend) -> None:
    context = backend.open("cpu", Resources(threads=2))
    first, second = (context.compile(relu(), Precisions(), {}) for _ in range(2))
    request: Any = first.request()
    request.bind({"x": floats(2, 4)})
    request.run()
    kept = request.call({"x": floats(2, 4)}, ["y"])[0]
    first.close()
    first.close()
    with pytest.raises(BackendError, match="closed"):
        first.request()
    with pytest.raises(BackendError, match="closed"):
        request.run()
    with pytest.raises(BackendError, match="closed"):
        request.call({"x": floats(2, 4)}, ["y"])
    np.testing.assert_array_equal(kept, np.maximum(floats(2, 4), 0))
    context.close()
    context.close()
    with pytest.raises(BackendError, match="closed"):
        second.request()
    with pytest.raises(BackendError, match="closed"):
        context.compile(relu(), Precisions(), {})


def test_closing_ends_the_threads(onnxruntime: Backend) -> None:
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


def test_profile_covers_every_op(backend: Backend, compile_on: Compile) -> None:
    made = small_network()
    executable = compile_on(backend, made, options={"profile": True})
    request = executable.request()
    request.bind({"x": floats(1, 3, 16, 16)})
    for _ in range(21):
        request.run()
    times = executable.profile()
    assert {op for time in times for op in time.ops} == set(made.op_ids)
    assert all(time.count == 20 for time in times)
    assert all(time.total_ms >= 0 for time in times)
    assert sum(time.total_ms for time in times) > 0
    convolution = next(time for time in times if "conv" in time.ops)
    assert convolution.precision == "fp32"
    if backend.name != "reference":
        assert {"conv", "bn", "relu"} <= set(convolution.ops)


def test_profile_needs_its_option(backend: Backend, compile_on: Compile) -> None:
    with pytest.raises(UnsupportedError, match="profil"):
        compile_on(backend, relu()).profile()


def test_an_op_that_nobody_has_is_refused_with_a_reason(
    backend: Backend, compile_on: Compile
) -> None:
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info
    made = load(
        [
            helper.make_node("Relu", ["x"], ["r"], name="good"),
            helper.make_node("Clip", ["r", "low"], ["t"], name="fine"),
            helper.make_node("Nonsense", ["t"], ["y"], name="bad", domain="of.its.own"),
        ],
        [info("x", TensorProto.FLOAT, [2]), info("low", TensorProto.FLOAT, [])],
        [info("y", TensorProto.FLOAT, [2])],
    )
    support = backend.query(made, "cpu", Precision.FP32)
    assert "Nonsense" in support.refused["bad"]
    assert support.supported >= {"good", "fine"}
    assert support.supported | support.refused.keys() == set(made.op_ids)
    with pytest.raises(UnsupportedError):
        compile_on(backend, made)


def test_precisions_that_are_not_computed_are_refused(
    backend: Backend, compile_on: Compile
) -> None:
    for precision in set(Precision) - backend.capabilities("cpu").computes:
        support = backend.query(relu(), "cpu", precision)
        assert not support.supported
        assert all(precision in reason for reason in support.refused.values())
        with pytest.raises(UnsupportedError):
            compile_on(backend, relu(), Precisions(precision))


def test_options(backend: Backend, compile_on: Compile) -> None:
    answers = backend.resolve(
        {"profile": True, "tiling_strategy": "auto", "nonsense": 1, "threads": 0, "precision": "x"}
    )
    assert answers["profile"].effect is Effect.APPLIED
    assert answers["tiling_strategy"].effect is Effect.IGNORED
    for key in ("nonsense", "threads", "precision"):
        assert answers[key].effect is Effect.REJECTED
        assert answers[key].note
    with pytest.raises(InputError, match="nonsense"):
        compile_on(backend, relu(), options={"nonsense": 1})
    with pytest.raises(InputError, match="profile"):
        compile_on(backend, relu(), options={"profile": "yes"})


def test_other_devices_are_refused(backend: Backend) -> None:
    with pytest.raises(UnsupportedError, match="gpu"):
        backend.open("gpu:0", Resources())


def test_context_memory_and_counters(backend: Backend) -> None:
    context = backend.open("cpu", Resources())
    buffer = context.alloc(TensorSpec("b", np.dtype(np.float32), (3, 5)))
    assert buffer.numpy().ctypes.data % 64 == 0
    source = HostBuffer(floats(3, 5))
    context.copy(source, buffer).wait()
    np.testing.assert_array_equal(buffer.numpy(), source.array)
    with pytest.raises(InputError, match="copy"):
        context.copy(HostBuffer(floats(5, 3)), buffer)
    with pytest.raises(InputError, match="numbers"):
        context.alloc(TensorSpec("b", np.dtype(np.float32), ("N", 5)))
    memory = context.memory_info()
    assert 0 < memory["available_bytes"] <= memory["total_bytes"]
    sum(i * i for i in range(200_000))  # let the clock of the counters tick
    sample = context.utilization()
    assert sample is None or 0 <= sample.value <= 100
    assert context.power() is None
    context.close()


def test_2000_runs_leak_nothing(backend: Backend, compile_on: Compile) -> None:
    side, runs = (64, 2000) if backend.name != "reference" else (64, 300)
    made = model(f"g (float[N,{side}] x) => (float[N,{side}] y) {{ y = Abs(x) }}")
    request: Any = compile_on(backend, made).request()
    target = np.empty((side, side), np.float32)

    def rounds(count: int) -> None:
        for seed in range(count):
            x = np.full((side, side), seed, np.float32)
            request.call({"x": x}, ["y"])
            request.bind({"x": x}, {"y": target} if seed % 2 else None)
            request.run()

    rounds(200)
    process = psutil.Process()
    before = process.memory_info().rss
    rounds(runs)
    assert process.memory_info().rss - before < 8 << 20  # 2000 arrays of 16 KiB are 32 MiB
