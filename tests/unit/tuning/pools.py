"""Pools of devices that exist nowhere, with round figures, and plans for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import dioe
from dioe.hardware import DeviceSpec, Link, Pool
from dioe.hardware.descriptor import Figures, MemorySection, PowerSection
from dioe.hardware.figures import (
    Arithmetic,
    BandwidthFigure,
    FigureKind,
    Peak,
    PowerFigure,
    TimeFigure,
)
from dioe.planning.validator import violations
from dioe.tuning import ModelledPlan

SHAPES = {"x": (256, 512)}
"""Of a tower's input."""

SHEET: Any = {"source": "a sheet", "kind": FigureKind.VENDOR}


def device(
    name: str,
    tflops: Mapping[str, float] | None = None,
    *,
    watts: float | None = 100.0,
    dispatch_us: float | None = 10.0,
    **more: Any,
) -> DeviceSpec:
    """A device of 1 TB/s and 1 µs a launch; ``tflops`` by precision, 10 of fp32 without it."""
    figures = Figures(
        peaks=tuple(
            Peak(precision=Arithmetic(p), value=v * 1e12, **SHEET)
            for p, v in (tflops or {"fp32": 10.0}).items()
        ),
        memory=MemorySection(bandwidth=bandwidth(1e12)),
        launch_overhead=TimeFigure(value=1e-6, **SHEET),
        dispatch_overhead=None
        if dispatch_us is None
        else TimeFigure(value=dispatch_us * 1e-6, **SHEET),
        power=PowerSection(tdp=None if watts is None else PowerFigure(value=watts, **SHEET)),
    )
    spec = DeviceSpec(name, name=f"the {name}", memory_bytes=2**30, figures=figures)
    return replace(spec, **more)


def bandwidth(per_s: float) -> BandwidthFigure:
    """Bytes per second."""
    return BandwidthFigure(value=per_s, **SHEET)


def link(source: str, destination: str, per_s: float = 1e10, us: float = 5.0, **more: Any) -> Link:
    """10 GB/s and 5 µs without more."""
    latency = TimeFigure(value=us * 1e-6, **SHEET)
    return Link(source, destination, bandwidth(per_s), latency=latency, **more)


def both_ways(a: str, b: str, **more: Any) -> tuple[Link, Link]:
    """A link and its way back."""
    return link(a, b, **more), link(b, a, **more)


def small_pool(**more: Any) -> Pool:
    """A CPU, a GPU of ten times its speed that has fp16 too, and a link between them."""
    return Pool(
        (
            device("cpu", {"fp32": 1.0}, watts=50.0),
            device("gpu:0", {"fp32": 10.0, "fp16": 20.0}, watts=200.0),
        ),
        both_ways("cpu", "gpu:0"),
        **more,
    )


def tower(layers: int = 3, width: int = 512, *, seed: int = 0, name: str = "x") -> onnx.ModelProto:
    """``layers`` matrix products with a Relu behind each: ``x`` [n, width] to ``y``."""
    rng = np.random.default_rng(seed)
    weights, nodes, last = [], [], name
    for i in range(layers):
        values = rng.normal(size=(width, width)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{i}"))
        out = "y" if i == layers - 1 else f"r{i}"
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], name=f"mul{i}"))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [out], name=f"relu{i}"))
        last = out
    x = helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", width))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", width))
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def planned(model: Any = None, **options: Any) -> ModelledPlan:
    """A modelled plan, which the validator finds nothing wrong with; of a tower on the small pool
    where nothing else is said."""
    given: dict[str, Any] = {"hardware": small_pool(), "shapes": SHAPES} | options
    found = dioe.plan(tower() if model is None else model, **given)
    assert violations(found.schedule.problem, found.schedule) == ()
    return found
