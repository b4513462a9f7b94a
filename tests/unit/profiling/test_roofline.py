"""Rooflines: what they rest on, what bounds them, and factors learned back from known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.graph import Kernel
from dioe.hardware import DeviceSpec
from dioe.hardware.descriptor import Figures, MemorySection, WorkingSetBandwidth
from dioe.hardware.figures import (
    Arithmetic,
    BandwidthFigure,
    FigureKind,
    OpFactor,
    Peak,
    TimeFigure,
)
from dioe.profiling import Bound, MeasuredKernels, Roofline, learn
from dioe.profiling.factors import fit
from dioe.types import Precision, UnsupportedError

LAUNCH_S = 2e-6


def device(*factors: OpFactor, kind: FigureKind = FigureKind.MEASURED) -> DeviceSpec:
    peaks = {Arithmetic.FP32: 1e12, Arithmetic.FP16: 4e12, Arithmetic.INT8: 8e12}
    cached = WorkingSetBandwidth(value=400e9, working_set=1 << 20, source="a test", kind=kind)
    return DeviceSpec(
        "gpu:0",
        figures=Figures(
            peaks=tuple(
                Peak(precision=p, value=value, source="a test", kind=kind)
                for p, value in peaks.items()
            ),
            memory=MemorySection(
                bandwidth=BandwidthFigure(value=100e9, source="a test", kind=kind),
                by_working_set=(cached,),
            ),
            launch_overhead=TimeFigure(value=LAUNCH_S, source="a test", kind=kind),
            op_factors=factors,
        ),
    )


def kernel(
    op_class: str = "conv",
    flops: int = 10**9,
    nbytes: int = 4_000_000,
    main: str = "op",
    written: Precision = Precision.FP32,
) -> Kernel:
    return Kernel(main, ("op",), op_class, flops, nbytes, float_bytes=nbytes, written=written)


def factor(op_class: str, value: float, backend: str = "", ops: int = 9) -> OpFactor:
    return OpFactor(
        op_class=op_class, precision=Arithmetic.FP32, backend=backend, value=value, ops=ops,
        source="a test", kind=FigureKind.MEASURED,
    )  # fmt: skip


CONV = factor("conv", 1.0)


def test_arithmetic_or_memory_bounds_a_kernel() -> None:
    roofline = Roofline(device(CONV), Precision.FP32)
    busy = roofline.of(kernel(flops=10**9, nbytes=4_000_000))  # 1 ms against 0.04
    assert busy.bound is Bound.COMPUTE
    assert busy.ms == pytest.approx(1.0 + LAUNCH_S * 1e3)
    moving = roofline.of(kernel(flops=10**6, nbytes=4_000_000))
    assert moving.bound is Bound.MEMORY
    assert moving.ms == pytest.approx(0.04 + LAUNCH_S * 1e3)
    tiny = roofline.of(kernel(flops=10, nbytes=10))
    assert tiny.bound is Bound.OVERHEAD
    assert tiny.ms == pytest.approx(LAUNCH_S * 1e3, rel=0.01)


def test_a_small_working_set_has_the_bandwidth_of_the_cache() -> None:
    roofline = Roofline(device(CONV), Precision.FP32)
    small = roofline.parts(kernel(flops=0, nbytes=1 << 20)).main_ms
    assert small == pytest.approx((1 << 20) / 400e9 * 1e3)
    large = roofline.parts(kernel(flops=0, nbytes=(1 << 20) + 1)).main_ms
    assert large == pytest.approx(((1 << 20) + 1) / 100e9 * 1e3)


def test_lower_precision_moves_less_and_computes_faster() -> None:
    half = Roofline(device(), Precision.FP16)
    assert half.parts(kernel(flops=0)).main_ms == pytest.approx(2_000_000 / 100e9 * 1e3)
    assert half.parts(kernel()).main_ms == pytest.approx(0.25)
    whole = Roofline(device(), Precision.FP32).parts(kernel(written=Precision.INT8))
    assert whole.main_ms == pytest.approx(0.125), "quantised work has the peak of int8"


def test_factors_of_the_class_then_of_its_family_then_assumed() -> None:
    found = device(factor("conv", 2.0), factor("conv.depthwise", 5.0), factor("conv", 3.0, "ov"))
    plain = Roofline(found, Precision.FP32)
    assert plain.of(kernel("conv.depthwise")).ms == pytest.approx(5.0, abs=0.01)
    assert plain.of(kernel("conv.grouped")).ms == pytest.approx(3.5, abs=0.01), "the mean"
    assert plain.of(kernel("pool")).ms == pytest.approx(1.5, abs=0.01)
    assert "from 9 ops" in plain.of(kernel("conv")).basis
    assert "assumed" in plain.of(kernel("pool")).basis
    own = Roofline(found, Precision.FP32, backend="ov")
    assert own.of(kernel("conv")).ms == pytest.approx(3.0, abs=0.01)


def test_factors_of_fp32_stand_in_where_none_are_of_the_precision() -> None:
    roofline = Roofline(device(factor("conv", 3.0)), Precision.FP16)
    assert roofline.of(kernel("conv")).ms == pytest.approx(0.75, abs=0.01)
    assert "factors learned from 9 ops in fp32" in roofline.basis


def test_what_is_not_measured_has_the_share_that_is_reached() -> None:
    described = Roofline(device(kind=FigureKind.VENDOR), Precision.FP32)
    assert described.of(kernel()).ms == pytest.approx(1 / 0.44 + LAUNCH_S * 1e3)
    assert "vendor figure × 0.44" in described.basis


def test_fused_ops_cost_what_was_learned_of_them() -> None:
    fused = replace(kernel(flops=0), ops=("op", "relu"), fused_bytes=4_000_000)
    free = Roofline(device(CONV), Precision.FP32).of(fused).ms
    dear = Roofline(device(CONV, factor("fused", 1.0)), Precision.FP32).of(fused).ms
    assert dear - free == pytest.approx(0.04 + LAUNCH_S * 1e3)


def test_a_device_without_figures_has_no_roofline() -> None:
    with pytest.raises(UnsupportedError, match="no peak in fp32 and no memory bandwidth"):
        Roofline(DeviceSpec("gpu:0"), Precision.FP32)
    with pytest.raises(UnsupportedError, match="no peak in bf16"):
        Roofline(device(), Precision.BF16)


classes = st.sampled_from(["conv", "conv.depthwise", "matmul", "elementwise"])


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(classes, st.floats(0.5, 8), min_size=1),
    st.integers(0, 2**32),
)
def test_factors_are_learned_back(true: dict[str, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    given_factors = [factor(name, value) for name, value in true.items()]
    truth = Roofline(device(*given_factors), Precision.FP32)
    models = []
    for m in range(3):
        kernels = [
            kernel(
                name,
                int(rng.integers(10**7, 10**9)),
                int(rng.integers(10**5, 10**7)),
                main=f"{m}.{name}.{i}",
            )
            for name in true
            for i in range(12)
        ]
        ms = {k.main: truth.of(k).ms for k in kernels}
        models.append(MeasuredKernels(kernels, ms, sum(ms.values())))
    learned = learn(Roofline(device(), Precision.FP32), models, source="a test")
    assert {f.op_class: f.ops for f in learned} == {
        **dict.fromkeys(true, 36), "launch": 36 * len(true),
    }  # fmt: skip
    for found in learned:
        assert found.kind is FigureKind.MEASURED
        if found.op_class in true:
            assert found.value == pytest.approx(true[found.op_class], rel=0.1, abs=0.1)
    again = Roofline(device(*learned), Precision.FP32)
    for model in models:
        assert again.run_ms(model.kernels) == pytest.approx(model.whole_ms, rel=0.1)


def test_the_basis_counts_every_op_once() -> None:
    of_ops = (factor("conv", 2.0, ops=7), factor("matmul", 1.0, ops=5))
    besides = (factor("launch", 1.0, ops=12), factor("fused", 0.1, ops=4))
    roofline = Roofline(device(*of_ops, *besides), Precision.FP32)
    assert "factors learned from 12 ops in fp32" in roofline.basis


def test_what_is_assumed() -> None:
    measured, described = (
        Roofline(device(kind=kind), Precision.FP32)
        for kind in (FigureKind.MEASURED, FigureKind.VENDOR)
    )
    assert [measured.assumed(name) for name in ("conv", "launch", "fused")] == [1.5, 1.0, 0.0]
    assert described.assumed("conv") == 1.0, "the share that is reached is in its rate"
    fused = replace(kernel(flops=0), ops=("op", "relu"), fused_bytes=4_000_000)
    unlearned = measured.of(replace(fused, nbytes=0, float_bytes=0)).ms
    assert unlearned == pytest.approx(LAUNCH_S * 1e3), "fused ops cost nothing, a launch itself"


def test_what_was_hardly_measured_is_near_what_is_assumed() -> None:
    matrix = np.zeros((100, 2))
    matrix[:99, 0], matrix[99, 1] = 1.0, 1e-9
    times = np.array([8.0] * 99 + [8e-9])
    often, once = fit(matrix, times, np.full(100, 0.01), prior=np.array([1.5, 2.0]))
    assert often == pytest.approx(8.0, rel=0.1)
    assert once == pytest.approx(2.0)


def test_no_factor_is_negative() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.random((40, 3))
    times = matrix @ np.array([1.0, 0.0, 2.0]) - 0.2 * matrix[:, 1]
    assert (fit(matrix, np.maximum(times, 0), np.ones(40), prior=np.full(3, 1.5)) >= 0).all()


def test_nothing_is_learned_of_nothing() -> None:
    assert learn(Roofline(device(), Precision.FP32), [], source="a test") == ()
