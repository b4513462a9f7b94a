"""The null backend as a backend: shapes, memory, errors. Times are in ``test_null_times``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dioe.graph import Model
from dioe.types import (
    ABI_VERSION,
    Backend,
    BackendError,
    Buffer,
    ConfigError,
    Effect,
    HostBuffer,
    InputError,
    KnownAs,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
    UnsupportedError,
)
from dioe_null import GPU, NPU, DeviceModel, LinkModel, NullBackend, VirtualClock
from tests.backend.cases import cases, floats, load, model, relu, rng

Context = Any


@pytest.fixture
def null() -> NullBackend:
    return NullBackend(clock=VirtualClock())


@pytest.fixture
def npu(null: NullBackend) -> Iterator[Context]:
    context = null.open("npu:0", Resources())
    yield context
    context.close()


def compiled(context: Context, made: Model, **options: Any) -> Any:
    return context.compile(made, Precisions(), options)


def test_it_says_what_it_is(null: NullBackend) -> None:
    backend: Backend = null
    assert (backend.name, backend.abi_version, backend.simulated) == ("null", ABI_VERSION, True)
    assert backend.version
    devices = backend.probe()
    assert [d.id for d in devices] == ["npu:0", "gpu:0"]
    for device in devices:
        assert device.known_as is KnownAs.MODELLED
        assert device.uuid.startswith("modelled-")
        assert device.memory_bytes
        assert device.details["link_bandwidth_gbps"]
        assert device.details["source"]
        assert Precision.FP16 in backend.capabilities(device.id).computes
        assert backend.capabilities(device.id).asynchronous
    assert Precision.BF16 not in backend.capabilities("gpu:0").computes


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, dioe_null\n"
        "(backend,) = dioe_null.backends()\n"
        "backend.probe()\n"
        "assert not {'onnx', 'onnx_ir', 'onnxruntime', 'openvino', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    import dioe_null

    assert all(getattr(dioe_null, name) for name in dioe_null.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = dioe_null.nonsense


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_shapes_and_types_of_results(npu: Context, null: NullBackend, case: Any) -> None:
    support = null.query(case.model, "npu:0", Precision.FP32)
    assert support.supported | support.refused.keys() == set(case.model.op_ids)
    if not support.whole:
        with pytest.raises(UnsupportedError):
            compiled(npu, case.model)
        return
    request = compiled(npu, case.model).request()
    request.bind(case.feeds)
    request.run().wait()
    assert list(request.outputs) == list(case.expected)
    called = request.call(case.feeds, list(case.expected))
    for found, (name, expected) in zip(called, case.expected.items(), strict=True):
        for value in (found, request.outputs[name]):
            shape = (2, 1) if case.name == "data-dependent-shape" else expected.shape
            assert (value.dtype, value.shape) == (expected.dtype, shape)
            assert not value.astype(np.float32).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9))
def test_symbols_are_bound_by_the_feeds(rows: int, columns: int) -> None:
    made = model(
        "g (float[N,M] x, float[M,N] y) => (float[A,B] z, int64[C] s)"
        " { z = MatMul(x, y) s = Shape(x) }"
    )
    context = NullBackend(clock=VirtualClock()).open("gpu:0", Resources())
    request: Any = compiled(context, made).request()
    feeds = {"x": floats(rows, columns), "y": floats(columns, rows, seed=1)}
    z, s = request.call(feeds, ["z", "s"])
    assert (z.shape, s.shape, s.dtype) == ((rows, rows), (2,), np.int64)
    with pytest.raises(InputError, match="'M' is"):
        request.call({**feeds, "y": floats(columns + 1, rows)}, ["z"])


def test_a_dimension_that_depends_on_data_is_one(npu: Context) -> None:
    made = model(
        "g (float[N,4] x, int64[2] shape) => (int64[A,B] y, float[C,D] z) {"
        " i = NonZero(x) y = Transpose(i) z = Reshape(x, shape) }"
    )
    request: Any = compiled(npu, made).request()
    feeds = {"x": floats(3, 4), "shape": np.array([2, 6])}
    assert [v.shape for v in request.call(feeds, ["y", "z"])] == [(1, 2), (1, 1)]


def test_an_output_may_be_an_input(npu: Context) -> None:
    made = model("g (float[N] x) => (float[N] x, float[N] y) { y = Neg(x) }")
    values = compiled(npu, made).request().call({"x": floats(7)}, ["x", "y"])
    assert [v.shape for v in values] == [(7,), (7,)]


@pytest.mark.parametrize("length", [1, 40])
def test_what_depends_on_data_is_settled_however_long_the_chain(npu: Context, length: int) -> None:
    ops = "".join(
        f" v{i + 1} = Transpose(n{i}) n{i + 1} = NonZero(v{i + 1})" for i in range(length)
    )
    made = model(
        f"g (float[N,4] x) => (int64[A,B] y) {{ n0 = NonZero(x){ops} y = Identity(n{length}) }}"
    )
    assert compiled(npu, made).request().call({"x": floats(3, 4)}, ["y"])[0].shape == (2, 1)


def test_what_a_model_says_of_its_values_is_believed(npu: Context) -> None:
    made = model("g (float[12] x, int64[2] shape) => (float[3,4] z) { z = Reshape(x, shape) }")
    feeds = {"x": floats(12), "shape": np.array([3, 4])}
    assert compiled(npu, made).request().call(feeds, ["z"])[0].shape == (3, 4)


def test_functions_of_the_model(null: NullBackend, npu: Context) -> None:
    text = """<ir_version: 9, opset_import: ["": 18, "own": 1]>
g (float[64,64] x, float[64,64] w) => (float[64,64] y) { y = own.twice(x, w) }
<opset_import: ["": 18], domain: "own"> twice (a, b) => (c) { m = MatMul(a, b) c = MatMul(m, b) }
"""
    made = Model.load(onnx.parser.parse_model(text))
    assert null.query(made, "npu:0", Precision.FP32).whole
    executable = compiled(npu, made)
    (op,) = executable.cost({"x": (64, 64), "w": (64, 64)}).ops
    assert op.flops == 2 * 2 * 64**3


@pytest.mark.parametrize(
    ("refuse", "fits"), [("Nonsense", "of.its.own"), ("If", "body"), ("StringNormalizer", "string")]
)
def test_refusals_name_the_op(null: NullBackend, refuse: str, fits: str) -> None:
    info = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["b"])], "b", [], [info("b", TensorProto.FLOAT, [2])]
    )
    if refuse == "If":
        bad = helper.make_node(
            "If", ["c"], ["y"], name="bad", then_branch=branch, else_branch=branch
        )
    elif refuse == "Nonsense":
        bad = helper.make_node("Nonsense", ["r"], ["y"], name="bad", domain="of.its.own")
    else:
        bad = helper.make_node("StringNormalizer", ["t"], ["y"], name="bad")
    kind = TensorProto.STRING if refuse == "StringNormalizer" else TensorProto.FLOAT
    inputs = [info("x", TensorProto.FLOAT, [2]), info("c", TensorProto.BOOL, [])]
    made = load(
        [helper.make_node("Relu", ["x"], ["r"], name="good"), bad],
        [*inputs, info("t", TensorProto.STRING, [2])],
        [info("y", kind, [2])],
    )
    support = null.query(made, "npu:0", Precision.FP32)
    assert support.supported == {"good"}
    assert list(support.refused) == ["bad"]
    assert fits in support.refused["bad"]


def test_precisions_and_shapes_that_a_device_lacks() -> None:
    fixed = replace(NPU, dynamic_shapes=False, peak_tflops={Precision.INT8: 1.0})
    null = NullBackend([fixed], VirtualClock())
    assert null.capabilities("npu:0").computes == {Precision.INT8}
    assert not null.capabilities("npu:0").dynamic_shapes
    support = null.query(relu(), "npu:0", Precision.FP32)
    assert "fp32" in next(iter(support.refused.values()))
    context = null.open("npu:0", Resources())
    with pytest.raises(UnsupportedError, match="fp32"):
        context.compile(relu(), Precisions(), {})
    assert "'x' is open" in next(
        iter(null.query(relu("N"), "npu:0", Precision.INT8).refused.values())
    )
    with pytest.raises(UnsupportedError, match="fixed shapes"):
        context.compile(relu("N"), Precisions(Precision.INT8), {})
    context.compile(relu(), Precisions(Precision.INT8), {})


def test_wrong_feeds_are_input_errors(npu: Context) -> None:
    request = compiled(npu, relu()).request()
    good = floats(2, 4)
    with pytest.raises(InputError, match="x"):
        request.run()
    for name, value, match in (
        ("q", good, "'q'"),
        ("x", good.astype(np.float64), "float64"),
        ("x", good[:1], r"\[1, 4\]"),
        ("x", object(), "x"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({name: value})
        with pytest.raises(InputError):
            request.call({name: value}, ["y"])
    read_only = np.ones((2, 4), np.float32)
    read_only.flags.writeable = False
    for outputs, match in (
        ({"q": good}, "'q'"),
        ({"y": good[:1]}, r"\[1, 4\]"),
        ({"y": read_only}, "writable"),
    ):
        with pytest.raises(InputError, match=match):
            request.bind({"x": good}, outputs)
    with pytest.raises(InputError, match="'q'"):
        request.call({"x": good}, ["q"])


def test_bound_arrays_are_written_in_place(npu: Context) -> None:
    request = compiled(npu, relu("N")).request()
    x, y = floats(2, 4), floats(2, 4, seed=1)
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    assert request.outputs["y"] is y
    assert not y.any()
    request.bind({"x": floats(3, 4)})
    with pytest.raises(InputError, match="y"):
        request.run()


def test_results_of_a_call_are_the_callers(npu: Context) -> None:
    request = compiled(npu, relu()).request()
    first = request.call({"x": floats(2, 4)}, ["y"])[0]
    first[...] = 7
    assert not request.call({"x": floats(2, 4)}, ["y"])[0].any()
    assert (first == 7).all()


def test_buffers_live_on_the_device(npu: Context) -> None:
    spec = TensorSpec("b", np.dtype(np.float32), (3, 5))
    one, other = npu.alloc(spec), npu.alloc(spec)
    assert isinstance(one, Buffer)
    assert (one.device, one.shape, one.strides) == ("npu:0", (3, 5), None)
    assert one.owner is not None
    with pytest.raises(BackendError, match="copy"):
        one.numpy()
    given, back = floats(3, 5), np.zeros((3, 5), np.float32)
    npu.copy(HostBuffer(given), one)
    npu.copy(one, other)
    npu.copy(other, HostBuffer(back)).wait()
    np.testing.assert_array_equal(back, given)
    with pytest.raises(InputError, match="copy"):
        npu.copy(HostBuffer(floats(5, 3)), one)
    for shape, dtype in ((("N", 5), np.dtype(np.float32)), ((3,), np.dtype(object))):
        with pytest.raises(InputError, match="numbers"):
            npu.alloc(TensorSpec("b", dtype, shape))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.int4, np.bool_])
def test_copies_keep_every_type(npu: Context, dtype: Any) -> None:
    given = rng().integers(0, 2, (4, 3)).astype(dtype)
    buffer = npu.alloc(TensorSpec("b", np.dtype(dtype), (4, 3)))
    back = np.zeros((4, 3), dtype)
    npu.copy(HostBuffer(given), buffer)
    npu.copy(buffer, HostBuffer(back)).wait()
    assert (back == given).all()


def test_stages_pass_buffers_within_a_device_only(null: NullBackend, npu: Context) -> None:
    gpu = null.open("gpu:0", Resources())
    spec = TensorSpec("b", np.dtype(np.float32), (2, 4))
    x, y, there = npu.alloc(spec), npu.alloc(spec), gpu.alloc(spec)
    npu.copy(HostBuffer(floats(2, 4)), y)
    request = compiled(npu, relu()).request()
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    assert request.outputs["y"] is y
    back = floats(2, 4)
    npu.copy(y, HostBuffer(back)).wait()
    assert not back.any()
    with pytest.raises(InputError, match=r"gpu:0, not on npu:0"):
        request.bind({"x": there})
    given = floats(2, 4, seed=2)
    gpu.copy(HostBuffer(given), there)
    gpu.copy(there, x).wait()
    npu.copy(x, HostBuffer(back)).wait()
    np.testing.assert_array_equal(back, given)


def test_close(null: NullBackend) -> None:
    context: Any = null.open("gpu:0", Resources())
    first, second = compiled(context, relu()), compiled(context, relu())
    request = first.request()
    request.bind({"x": floats(2, 4)})
    for _ in range(2):
        first.close()
    for broken in (first.request, request.run, lambda: request.outputs):
        with pytest.raises(BackendError, match="closed"):
            broken()
    for _ in range(2):
        context.close()
    for late in (second.request, lambda: compiled(context, relu()), lambda: context.alloc(None)):
        with pytest.raises(BackendError, match="closed"):
            late()


def test_options_and_devices(null: NullBackend, npu: Context) -> None:
    answers = null.resolve(
        {"profile": True, "tiling_strategy": "auto", "nonsense": 1, "threads": 0, "precision": "x"}
    )
    assert answers["profile"].effect is Effect.APPLIED
    assert answers["tiling_strategy"].effect is Effect.IGNORED
    for key in ("nonsense", "threads", "precision"):
        assert answers[key].effect is Effect.REJECTED
    with pytest.raises(InputError, match="nonsense"):
        compiled(npu, relu(), nonsense=1)
    with pytest.raises(UnsupportedError, match="profil"):
        compiled(npu, relu()).profile()
    with pytest.raises(UnsupportedError, match="compiled form"):
        npu.deserialize(b"")
    assert compiled(npu, relu()).serialize() is None
    assert npu.power() is None
    for device in ("gpu:7", "cpu"):
        with pytest.raises(UnsupportedError, match=device):
            null.open(device, Resources())


RECORD: dict[str, Any] = {
    "id": "npu:3",
    "name": "one of YAML",
    "peak_tflops": {"fp16": 2, "int8": 4.0},
    "memory_bytes": 1000,
    "memory_gbps": 10,
    "link": {"bandwidth_gbps": 1, "latency_us": 3, "source": "made up"},
    "launch_us": 1,
    "source": "made up",
}


def test_descriptions_as_plain_data() -> None:
    null = NullBackend.from_records([RECORD], VirtualClock())
    (device,) = null.probe()
    assert (device.id, device.name, device.memory_bytes) == ("npu:3", "one of YAML", 1000)
    described = DeviceModel.from_record(RECORD)
    assert described.link == LinkModel(1, 3, "made up")
    assert described.peak_tflops == {Precision.FP16: 2, Precision.INT8: 4.0}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"id": "npu"}, "'npu'"),
        ({"id": "cpu:1"}, "'cpu:1'"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"peak_tflops": {}}, "peak"),
        ({"peak_tflops": {"fp17": 1}}, "fp17"),
        ({"peak_tflops": {"fp16": -1}}, "fp16"),
        ({"peak_tflops": 3}, "peak_tflops is 3"),
        ({"memory_bytes": 0}, "memory_bytes"),
        ({"memory_gbps": float("nan")}, "nan"),
        ({"memory_gbps": True}, "True"),
        ({"compute_efficiency": 1.5}, "compute_efficiency"),
        ({"launch_us": -1}, "launch_us"),
        ({"link": 3}, "link is 3"),
        ({"link": {}}, "bandwidth_gbps"),
        ({"link": {"bandwidth_gbps": 1}}, "no source"),
        ({"source": ""}, "no source"),
        ({"source": 3}, "source is 3"),
        ({"name": None}, "name is None"),
        ({"memory_bytes": 1e9}, "whole number"),
        ({"memory_gbps": "1e2"}, "write it as 100.0"),
        ({"dynamic_shapes": "yes"}, "dynamic_shapes"),
        ({"peak_tflops": {"fp61": 1}}, "did you mean 'fp16'"),
        ({"memory_gpbs": 1}, "did you mean 'memory_gbps'"),
        ({"link": {"bandwidth_gbps": 0, "source": "s"}}, "bandwidth_gbps is 0"),
    ],
)
def test_descriptions_that_cannot_be(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        DeviceModel.from_record({**RECORD, **change})


def test_devices_need_ids_of_their_own() -> None:
    for devices in ([NPU, replace(GPU, id="npu:0")], []):
        with pytest.raises(ConfigError, match="ids"):
            NullBackend(devices)
    with pytest.raises(ConfigError, match="'memory_gbps' is missing"):
        DeviceModel.from_record({k: v for k, v in RECORD.items() if k != "memory_gbps"})


@pytest.mark.parametrize("records", [None, {"id": "npu:0"}, ["npu:0"], "npu:0", 3, [None]])
def test_records_that_are_none(records: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        NullBackend.from_records(records)
    assert "list of mappings" in caught.value.fix


@pytest.mark.parametrize(
    "arguments", [{"devices": None}, {"devices": NPU}, {"devices": ["npu:0"]}, {"clock": 3}]
)
def test_what_is_no_device_or_no_clock(arguments: Any) -> None:
    with pytest.raises(ConfigError, match=r"is no (list of descriptions|clock)"):
        NullBackend(**arguments)
