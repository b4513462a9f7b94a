"""``dioe.predict``: times from figures, on devices that aren't here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import dioe
from dioe.hardware import DeviceSpec, Pool, load_pool
from dioe.hardware.catalogue import POOLS, path_of
from dioe.hardware.descriptor import Figures, MemorySection
from dioe.hardware.figures import Arithmetic, BandwidthFigure, FigureKind, Peak, TimeFigure
from dioe.hardware.limits import Limits
from dioe.types import InputError, KnownAs, Precision

KIND, MEASURED = FigureKind.VENDOR, FigureKind.MEASURED


def device(name: str = "gpu:0", tflops: float = 100.0, **more: object) -> DeviceSpec:
    peaks = {Arithmetic.FP32: tflops, Arithmetic.FP16: 2 * tflops}
    figures = Figures(
        peaks=tuple(
            Peak(precision=p, value=v * 1e12, source="a sheet", kind=KIND) for p, v in peaks.items()
        ),
        memory=MemorySection(bandwidth=BandwidthFigure(value=1e12, source="a sheet", kind=KIND)),
        launch_overhead=TimeFigure(value=1e-6, source="a sheet", kind=KIND),
        dispatch_overhead=TimeFigure(value=1e-5, source="a sheet", kind=KIND),
    )
    return replace(DeviceSpec(name, name=f"the {name}", figures=figures), **more)  # type: ignore[arg-type]


def model(rows: int = 256) -> onnx.ModelProto:
    """Two matrix products of 2 * rows * 1024 * 1024 FLOPs, with a Relu between them."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(1024, 1024)).astype(np.float32), f"w{i}")
        for i in range(2)
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w1"], ["y"], name="second"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 1024))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 1024))
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_prediction_is_its_kernels_and_a_dispatch() -> None:
    found = dioe.predict(model(), hardware=Pool((device(),)), shapes={"x": (256, 1024)})
    assert (found.op_count, found.kernel_count) == (3, 2)
    assert found.shapes == {"x": (256, 1024)}
    half, full = found.predictions
    assert (full.target, half.target) == ("gpu:0/*/fp32", "gpu:0/*/fp16")
    (first, second) = full.kernels
    work_ms = 2 * 256 * 1024**2 / (100e12 * 0.44) * 1e3
    bytes_ms = 4 * (1024**2 + 2 * 256 * 1024) / (1e12 * 0.8) * 1e3
    assert first.ms == pytest.approx(max(work_ms, bytes_ms) + 1e-3, rel=0.01)
    assert full.ms == pytest.approx(first.ms + second.ms + 0.01)
    assert full.bounds is not None
    assert sum(full.bounds.values()) == pytest.approx(full.ms)
    assert half.ms is not None
    assert full.ms is not None
    assert half.ms < full.ms
    assert full.weight_bytes == 2 * half.weight_bytes == 8 * 1024**2
    assert "vendor figure × 0.44" in full.basis
    assert full.known_as is KnownAs.MODELLED


def test_what_does_not_fit_says_so() -> None:
    small = device(memory_bytes=5 * 2**20)
    found = dioe.predict(model(), hardware=Pool((small,)))
    half, full = found.predictions
    assert half.ms is not None, "half the bytes fit"
    assert full.ms is None
    assert full.reason == "its weights take 8 MiB, and there are 5"


def test_limits_hold() -> None:
    limits = Limits({"gpu:0": 2**20}, {"*": frozenset({Precision.FP16})})
    found = dioe.predict(model(), hardware=Pool((device(),), limits=limits))
    (only,) = found.predictions
    assert only.precision is Precision.FP32
    assert "there are 1" in only.reason
    none = Limits(forbidden={"gpu:0": frozenset(Precision)})
    (refused,) = dioe.predict(model(), hardware=Pool((device(),), limits=none)).predictions
    assert "forbidden by limits" in refused.reason


def test_a_backend_is_predicted_in_precisions_that_were_measured_through_it() -> None:
    measured = [
        Peak(precision=precision, value=1e12, backend=backend, source="a test", kind=MEASURED)
        for backend, precision in (
            ("one", Arithmetic.FP32), ("two", Arithmetic.FP32), ("two", Arithmetic.BF16)
        )
    ]  # fmt: skip
    known = device()
    figures = Figures(peaks=tuple(measured)).over(known.figures)
    found = dioe.predict(model(), hardware=Pool((replace(known, figures=figures),)))
    assert {p.target for p in found.predictions} == {
        "gpu:0/one/fp32", "gpu:0/two/fp32", "gpu:0/two/bf16", "gpu:0/*/fp16",
    }  # fmt: skip
    assert all(p.ms for p in found.predictions)


def test_devices_without_figures_are_told_last() -> None:
    pool = Pool((DeviceSpec("npu:0"), device(), device("gpu:1", tflops=1.0)))
    found = dioe.predict(model(), hardware=pool)
    times = [p.ms for p in found.predictions if p.ms is not None]
    assert times == sorted(times)
    assert [p.ms is None for p in found.predictions] == [False] * 4 + [True]
    assert found.predictions[-1].device == "npu:0"
    assert "dioe calibrate" in found.predictions[-1].reason
    chosen = dioe.predict(model(), hardware=pool, devices="gpu:1")
    assert {p.device for p in chosen.predictions} == {"gpu:1"}
    with pytest.raises(InputError, match="no device 'gpu:7'"):
        dioe.predict(model(), hardware=pool, devices=["gpu:7"])


def test_shipped_pools_predict() -> None:
    """A card whose figures are all larger is faster."""
    x8 = dioe.predict(model(), hardware="mlu370-x8-host", shapes={"x": (4096, 1024)})
    assert x8.predictions[0].device.startswith("mlu:")
    assert x8.predictions[0].ms is not None
    server = dioe.predict(model(), hardware="server-a100", shapes={"x": (4096, 1024)})
    assert server.predictions[0].ms is not None
    assert server.predictions[0].ms < x8.predictions[0].ms


def test_the_example_pool_of_cards_loads() -> None:
    from benchmarks.roofline import CARDS

    pool = load_pool(CARDS)
    kinds = {p.kind for d in pool.devices if d.device == "mlu370-s4" for p in d.figures.peaks}
    assert kinds == {FigureKind.UNVERIFIED}


def test_a_power_limit_picks_the_mode() -> None:
    """The Jetson's pool is limited to 30 W; its GPU has an fp32 peak at full power only."""
    pool = load_pool(path_of("jetson-agx-orin", POOLS) or "")
    found = {p.target: p for p in dioe.predict(model(), hardware=pool).predictions}
    limited = found["gpu:0/*/fp16"]
    assert limited.mode == "30W"
    assert limited.ms is not None
    assert "in power mode 30W" in found["gpu:0/*/fp32"].reason
    free = replace(pool, limits=Limits())
    full = next(p for p in dioe.predict(model(), hardware=free).predictions if p.ms is not None)
    assert full.ms is not None
    assert full.ms < limited.ms
    dark = replace(pool, limits=Limits(power_w=1.0))
    reasons = {p.reason for p in dioe.predict(model(), hardware=dark, devices="gpu:0").predictions}
    assert reasons == {"it draws more than the 1 W that the pool allows"}


def test_what_is_not_known_is_told() -> None:
    known = dioe.predict(model(), hardware=Pool((device(),)), shapes={"x": (256, 1024)})
    assert known.unknown == ()
    open_ended = parser.parse_model("""
    <ir_version: 9, opset_import: ["": 17]>
    g (float[8, 8] x) => (float[8, m] y) {
      found = NonZero(x)
      rows = Cast<to = 1>(found)
      both = Transpose(rows)
      y = MatMul(x, both)
    }
    """)
    found = dioe.predict(open_ended, hardware=Pool((device(),)))
    assert len(found.unknown) >= 3
    assert found.flops == 0


def test_weights_in_bodies_count() -> None:
    taken = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w0"], ["t"])], "taken", [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, (8, 1024))],
        [model().graph.initializer[0]],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "other", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, (8, 1024))],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=taken, else_branch=other)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (8, 1024)),
         helper.make_tensor_value_info("c", TensorProto.BOOL, ())],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (8, 1024))],
    )  # fmt: skip
    branching = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    half, full = dioe.predict(branching, hardware=Pool((device(),))).predictions
    assert {half.weight_bytes, full.weight_bytes} == {2 * 1024**2, 4 * 1024**2}


def test_a_device_named_twice_is_one() -> None:
    found = dioe.predict(model(), hardware=Pool((device(),)), devices="gpu:0, gpu:0")
    assert len(found.predictions) == 2
