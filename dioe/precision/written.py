"""The precisions that a model is written in, which it computes in wherever it runs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from dioe.graph import Model, OpGraph
from dioe.graph.tensors import tensors
from dioe.types import Precision

_NARROW = frozenset({ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT2, ir.DataType.UINT2})
_BYTES = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_FLOATS = {
    np.dtype(np.float16): Precision.FP16,
    np.dtype(ml_dtypes.bfloat16): Precision.BF16,
}


def written_precisions(model: Model) -> frozenset[Precision]:
    """The precisions below fp32 that parts of the model are written in: int8 or int4 where weights
    or activations are quantised, fp16 or bf16 where an op (but ``Cast``) gives such values. The
    bodies of ``If``, ``Loop`` and ``Scan`` aren't looked at for the latter."""
    graph = OpGraph.build(model)
    ops = [op for op in graph.ops.values() if op.op_type not in ("Cast", "Constant")]
    types = {graph.values[name].dtype for op in ops for name in op.outputs if name in graph.values}
    found = {_FLOATS[dtype] for dtype in types & _FLOATS.keys()}
    if model.quantised:
        stored = {tensor.dtype for tensor in tensors(model.ir)}
        if stored & _NARROW:
            found.add(Precision.INT4)
        if stored & _BYTES or not stored & _NARROW:
            found.add(Precision.INT8)
    return frozenset(found)
