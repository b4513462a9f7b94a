"""The precisions that a model is written in, which it computes in wherever it runs."""

from __future__ import annotations

import onnx_ir as ir

from dioe.graph import Model
from dioe.graph.tensors import graphs, tensors
from dioe.types import Precision

_NARROW = frozenset({ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT2, ir.DataType.UINT2})
_BYTES = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_FLOATS = {ir.DataType.FLOAT16: Precision.FP16, ir.DataType.BFLOAT16: Precision.BF16}


def written_precisions(model: Model) -> frozenset[Precision]:
    """The precisions below fp32 that parts of the model are written in: int8 or int4 where weights
    or activations are quantised, fp16 or bf16 where an op (but ``Cast``) gives such values."""
    nodes = [node for graph in graphs(model.ir) for node in graph]
    found = {
        _FLOATS[value.dtype]
        for node in nodes
        for value in (node.outputs if node.op_type not in ("Cast", "Constant") else ())
        if value.dtype in _FLOATS
    }
    if model.quantised:
        types = {tensor.dtype for tensor in tensors(model.ir)}
        if types & _NARROW:
            found.add(Precision.INT4)
        if types & _BYTES or not types & _NARROW:
            found.add(Precision.INT8)
    return frozenset(found)
