"""Ops that ``onnx.reference`` computes otherwise than the ONNX specification says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from dioe.types import Array


class BatchNormalization(OpRun):
    """BatchNormalization of opsets 7 to 13 with one output, which is inference.

    onnx.reference 1.23 mixes statistics of the input in: an error of 1 % after one layer.
    """

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **attributes: Any
    ) -> tuple[Array]:
        epsilon = attributes.get("epsilon")
        shape = (-1, *(1,) * (x.ndim - 2))
        factor = scale / np.sqrt(var + (1e-5 if epsilon is None else epsilon))
        y = (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)
        return (y.astype(x.dtype),)


class GlobalMaxPool(OpRun):
    """GlobalMaxPool over all axes but the first two.

    onnx.reference 1.23 is right for two of them only: of one, it takes the channels along.
    """

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        return (np.asarray(x.max(axis=tuple(range(2, x.ndim)), keepdims=True)),)


def corrections(model: onnx.ModelProto) -> list[type[OpRun]]:
    """Ops of ours to use for ``model``."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization" and not n.domain]
    inference = all(sum(map(bool, node.output)) == 1 for node in norms)
    found: list[type[OpRun]] = [GlobalMaxPool]
    if norms and 7 <= opset < 14 and inference:
        found.append(BatchNormalization)
    return found
