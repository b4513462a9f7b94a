"""Which ops of a model can be lowered."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dioe.types import Precisions, StageModel, Support, UnsupportedError
from dioe_torch.devices import computed
from dioe_torch.lowerings import Program, Unsupported, check
from dioe_torch.program import program_of
from dioe_torch.tensors import torch_dtype


def read(model: StageModel, refused: dict[str, str]) -> Program | None:
    """``model`` as a program; None, with all ops in ``refused``, where it can't be one."""
    try:
        return program_of(model)
    except UnsupportedError as error:
        refused.update(dict.fromkeys(model.op_ids, error.cause))
    except Unsupported as error:
        refused.update(dict.fromkeys(model.op_ids, str(error)))
    return None


def support(model: StageModel) -> Support:
    """What can be lowered, with a reason for each op that can't: its type, its attributes, or a
    type of its values that torch has no tensors of."""
    refused: dict[str, str] = {}
    program = read(model, refused)
    if program is not None:
        for op in program.ops:
            try:
                check(op, program.constants)
            except Unsupported as error:
                refused[op.id] = str(error)
        for op_id, node in zip(model.op_ids, model.ir.graph, strict=True):
            for value in (*node.inputs, *node.outputs):
                reason = "" if value is None else _unheld(value)
                if reason:
                    refused.setdefault(op_id, reason)
    return Support(frozenset(model.op_ids) - refused.keys(), refused)


def _unheld(value: ir.Value) -> str:
    """Why torch can't hold a value; empty if it can, or its type isn't known."""
    dtype = value.dtype
    if dtype is None and value.const_value is not None:
        dtype = value.const_value.dtype
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return ""
    if dtype == ir.DataType.STRING:
        return f"{value.name!r} is text: torch has tensors of numbers only"
    if torch_dtype(np.dtype(dtype.numpy())) is None:
        return f"{value.name!r} is {dtype.name.lower()}: torch has no such tensors"
    return ""


def refusal_of(precisions: Precisions, native: str, place: str) -> None:
    """Raise UnsupportedError unless the device computes in all of ``precisions``."""
    missing = set(precisions.used) - computed(native)
    if missing:
        raise UnsupportedError(
            f"torch doesn't compute {', '.join(sorted(missing))} on {native}", place=place
        )
