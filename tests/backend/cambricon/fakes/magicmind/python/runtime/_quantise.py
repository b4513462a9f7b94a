"""Arithmetic of the fake: ranges of activations, int8 by them, fp16. In ONNX's own ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Ops whose first input, an activation, and constant second input are quantised."""

Ranges = dict[str, tuple[float, float]]


def _read_activations(model: onnx.ModelProto) -> list[str]:
    return list(dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type in QUANTISED))


def activation_ranges(model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> Ranges:
    """Smallest and largest value that each quantised op reads, over all samples."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = _read_activations(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found: Ranges = {}
    evaluator = ReferenceEvaluator(watched)
    for feed in feeds:
        for name, value in zip(names, evaluator.run(names, feed), strict=True):
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, float(value.min())), max(high, float(value.max()))
    return found


def quantised(model: onnx.ModelProto, ranges: Ranges, *, per_axis: bool) -> onnx.ModelProto:
    """The model with its activations and weights rounded to 255 steps, symmetric around 0."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    nodes, rounded = [], set()
    for node in result.graph.node:
        if node.op_type in QUANTISED:
            name = node.input[0]
            if name not in rounded:
                rounded.add(name)
                nodes += _rounding(name, max(map(abs, ranges[name])) / 127, result)
            node.input[0] = f"{name}__int8"
            if node.input[1] in weights:
                _round_weight(weights[node.input[1]], node, per_axis=per_axis)
        nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _rounding(name: str, scale: float, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    numbers = {"scale": scale or 1.0, "low": -127.0, "high": 127.0}
    for label, number in numbers.items():
        tensor = numpy_helper.from_array(np.array(number, np.float32), f"{name}__{label}")
        model.graph.initializer.append(tensor)
    steps = (
        ("Div", [name, f"{name}__scale"], f"{name}__a"),
        ("Round", [f"{name}__a"], f"{name}__b"),
        ("Clip", [f"{name}__b", f"{name}__low", f"{name}__high"], f"{name}__c"),
        ("Mul", [f"{name}__c", f"{name}__scale"], f"{name}__int8"),
    )
    return [helper.make_node(op, inputs, [output]) for op, inputs, output in steps]


def _round_weight(tensor: onnx.TensorProto, node: onnx.NodeProto, *, per_axis: bool) -> None:
    weight = numpy_helper.to_array(tensor)
    axes = None
    if per_axis and weight.ndim > 1:
        output = 0 if node.op_type == "Conv" else weight.ndim - 1
        axes = tuple(axis for axis in range(weight.ndim) if axis != output)
    scale = np.maximum(np.abs(weight).max(axis=axes, keepdims=True) / 127, 1e-12)
    rounded = (np.round(weight / scale) * scale).astype(weight.dtype)
    tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its fp32 weights rounded to fp16; the rest is computed in fp32 here."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.dtype == np.float32:
            rounded = weight.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return result
