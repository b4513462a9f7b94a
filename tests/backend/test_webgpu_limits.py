"""What WebGPU fails at, or keeps: refused by name, checked on the host, let go of."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import (
    DONE,
    Array,
    BackendError,
    HostBuffer,
    InputError,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
    UnsupportedError,
)
from dioe_onnxruntime import weights
from dioe_onnxruntime.backend import OnnxRuntimeBackend
from dioe_onnxruntime.context import OnnxRuntimeContext
from dioe_onnxruntime.lanes import Lane
from tests.backend.cases import floats, load, model, relu, rng
from tests.backend.software_gpu import DEVICE

GIVEN_ON = "g (float[2,4] x) => (float[2,4] y, float[2,4] x) { y = Relu(x) }"


@pytest.fixture
def context(webgpu: OnnxRuntimeBackend) -> Iterator[OnnxRuntimeContext]:
    opened = webgpu.open(DEVICE, Resources())
    assert isinstance(opened, OnnxRuntimeContext)
    yield opened
    opened.close()


def on_device(context: OnnxRuntimeContext, array: Array) -> Any:
    buffer = context.alloc(TensorSpec("b", array.dtype, array.shape))
    context.copy(HostBuffer(array), buffer).wait()
    return buffer


def on_host(context: OnnxRuntimeContext, buffer: Any) -> Array:
    array = np.empty(buffer.shape, buffer.dtype)
    context.copy(buffer, HostBuffer(array)).wait()
    return array


def test_float16_is_refused_where_the_shaders_have_none(
    webgpu: OnnxRuntimeBackend, context: OnnxRuntimeContext
) -> None:
    made = model(
        "g (float[2] x) => (float[2] y, float[2] z) {"
        " h = Cast<to = 10>(x) y = Cast<to = 1>(h) z = Neg(x) }"
    )
    support = webgpu.query(made, DEVICE, Precision.FP32)
    assert support.supported == {"z"}
    assert support.refused == {
        "h": "Cast of float16: gpu:0 computes none",
        "y": "Cast of float16: gpu:0 computes none",
    }
    with pytest.raises(UnsupportedError, match="'h': Cast of float16"):
        context.compile(made, Precisions(), {})


def loop(body_op: str) -> Model:
    """``trips`` times v = body_op(v, v)."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["d"]),
            helper.make_node("Identity", ["v"], ["u"]),
            helper.make_node(body_op, ["u", "v"], ["w"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("c", TensorProto.BOOL, []),
            info("v", TensorProto.FLOAT, [3]),
        ],
        [info("d", TensorProto.BOOL, []), info("w", TensorProto.FLOAT, [3])],
    )
    trips = numpy_helper.from_array(np.array(3), "trips")
    return load(
        [
            helper.make_node("Loop", ["trips", "", "x"], ["y"], name="loop", body=body),
            helper.make_node("Neg", ["x"], ["z"], name="neg"),
        ],
        [info("x", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, [3]), info("z", TensorProto.FLOAT, [3])],
        [trips],
    )


def test_a_loop_is_refused_by_name(webgpu: OnnxRuntimeBackend, context: OnnxRuntimeContext) -> None:
    support = webgpu.query(loop("Add"), DEVICE, Precision.FP32)
    assert "loop" in support.refused
    assert "neg" in support.supported
    with pytest.raises(UnsupportedError, match="'loop'"):
        context.compile(loop("Add"), Precisions(), {})


def test_an_op_that_no_provider_has_is_unsupported(context: OnnxRuntimeContext) -> None:
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("BitShift", ["x", "z"], ["y"], direction="LEFT")],
        [info("x", TensorProto.UINT16, [3]), info("z", TensorProto.UINT16, [3])],
        [info("y", TensorProto.UINT16, [3])],
    )
    with pytest.raises(UnsupportedError, match="BitShift"):
        context.compile(made, Precisions(), {})


def test_a_bound_array_has_to_have_the_shape_of_the_result(context: OnnxRuntimeContext) -> None:
    """Not only as many elements."""
    made = model("g (float[N,M] x) => (float[N,M] y) { y = Relu(x) }")
    request: Any = context.compile(made, Precisions(), {}).request()
    x = floats(2, 6)
    for shape in ((6, 2), (3, 4), (2, 5), (4, 6)):
        for y in (np.empty(shape, np.float32), on_device(context, floats(*shape))):
            request.bind({"x": x}, {"y": y})
            with pytest.raises(InputError):
                request.run()
    y = np.empty((2, 6), np.float32)
    request.bind({}, {"y": y})
    for seed in range(3):
        x[...] = floats(2, 6, seed=seed)
        request.run()
        assert request.outputs["y"] is y
        np.testing.assert_array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("feed", ["device", "host"])
def test_nothing_of_the_device_goes_over_the_host(
    context: OnnxRuntimeContext, monkeypatch: pytest.MonkeyPatch, feed: str
) -> None:
    data = floats(2, 4)
    x = on_device(context, data) if feed == "device" else data
    y, z = (context.alloc(TensorSpec(n, data.dtype, data.shape)) for n in "yz")
    request: Any = context.compile(model(GIVEN_ON), Precisions(), {}).request()
    request.bind({"x": x}, {"y": y, "x": z})
    copies: list[str] = []
    copy = ort.copy_tensors

    def counted(sources: Any, targets: Any) -> None:
        copies.append(sources[0].device_name())
        copy(sources, targets)

    with monkeypatch.context() as patch:
        patch.setattr(ort, "copy_tensors", counted)
        event = request.run()
    assert copies == ["webgpu" if feed == "device" else "cpu"]  # x to z, and nothing else
    assert event is not DONE
    event.wait()
    np.testing.assert_array_equal(on_host(context, z), data)
    np.testing.assert_array_equal(on_host(context, y), np.maximum(data, 0))


def test_a_buffer_may_be_given_on_to_itself(context: OnnxRuntimeContext) -> None:
    data = floats(2, 4)
    x = on_device(context, data)
    request: Any = context.compile(model(GIVEN_ON), Precisions(), {}).request()
    request.bind({"x": x}, {"x": x})
    request.run().wait()
    np.testing.assert_array_equal(on_host(context, x), data)
    np.testing.assert_array_equal(request.outputs["y"], np.maximum(data, 0))


def large(nbytes: int) -> Model:
    weight = rng(1).standard_normal((nbytes // 4096, 1024), dtype=np.float32)
    info = helper.make_tensor_value_info
    return load(
        [helper.make_node("Gather", ["w", "i"], ["y"])],
        [info("i", TensorProto.INT64, [2])],
        [info("y", TensorProto.FLOAT, [2, 1024])],
        [numpy_helper.from_array(weight, "w")],
    )


def test_weights_are_let_go_of(
    context: OnnxRuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When closed or forgotten models had enough of them."""
    packed: list[int] = []
    pack = weights._pack

    def counted(placed: Any) -> None:
        packed.append(lane.left_bytes)
        pack(placed)

    monkeypatch.setattr(weights, "_pack", counted)
    lane: Lane = context._lane
    lane.left_bytes = 0
    made = large(weights.KEPT_BYTES)
    executable = context.compile(made, Precisions(), {})
    request: Any = executable.request()
    request.bind({"i": np.array([0, 2])})
    request.run()
    assert not packed
    executable.close()
    assert len(packed) == 1
    assert packed[0] > weights.KEPT_BYTES
    context.compile(relu(), Precisions(), {}).close()
    assert len(packed) == 1
    forgotten: Any = context.compile(made, Precisions(), {})
    del forgotten
    gc.collect()
    assert len(packed) == 1
    assert lane.left_bytes > weights.KEPT_BYTES
    context.compile(relu(), Precisions(), {}).close()
    assert len(packed) == 2
    assert lane.left_bytes < weights.KEPT_BYTES


def test_a_request_is_closed_with_its_context(webgpu: OnnxRuntimeBackend) -> None:
    """Though nobody holds its executable."""
    context: Any = webgpu.open(DEVICE, Resources())
    request = context.compile(relu(), Precisions(), {}).request()
    gc.collect()
    context.close()
    with pytest.raises(BackendError, match="closed"):
        request.call({"x": floats(2, 4)}, ["y"])
