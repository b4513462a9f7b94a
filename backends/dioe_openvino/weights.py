"""Whether a model keeps integer weights that are dequantised before a matrix product."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

_INTEGER = frozenset({"INT8", "UINT8", "INT4", "UINT4"})
_PASS_ON = frozenset(
    {"Cast", "DequantizeLinear", "Sub", "Mul", "Transpose", "Reshape", "Identity", "Unsqueeze"}
)
_PRODUCTS = frozenset({"MatMul", "Gemm"})


def has_integer_weights(model: ir.Model) -> bool:
    """True if an int8, uint8, int4 or uint4 initializer reaches a MatMul or Gemm through nothing
    but a dequantisation: what OpenVINO's dynamic quantisation of activations works on."""
    graph = model.graph
    waiting = [
        value
        for value in graph.initializers.values()
        if value.dtype is not None
        and value.dtype.name in _INTEGER
        and value.shape is not None
        and len(value.shape) >= 2
    ]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        for node, _ in value.uses():
            if node.op_type in _PRODUCTS:
                return value.producer() is not None
            if node.op_type in _PASS_ON and id(node) not in seen:
                seen.add(id(node))
                waiting.extend(node.outputs)
    return False
