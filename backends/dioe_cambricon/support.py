"""What no card holds, and so no op can read or give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dioe.types import StageModel

if TYPE_CHECKING:
    import onnx_ir as ir

MAGICMIND = frozenset(
    ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32")
)
"""What may go to the card and come from it: MagicMind's ``DataType``, and int64, which it computes
in 32 bits (``type64to32_conversion``). float64 would lose half of its digits there."""

TORCH = frozenset(
    ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
)
"""What torch_mlu gets: of the types of old torches those that numpy has by itself."""


def unholdable(model: StageModel, held: frozenset[str]) -> dict[str, str]:
    """Ops that read or give other than tensors of the types ``held``, each with the reason."""
    found: dict[str, str] = {}
    for op, node in zip(model.op_ids, model.ir.graph, strict=True):
        reasons = (_why_not(v, held) for v in (*node.inputs, *node.outputs) if v is not None)
        reason = next(filter(None, reasons), "")
        if reason:
            found[op] = reason
    return found


def _why_not(value: ir.Value, held: frozenset[str]) -> str:
    import onnx_ir as ir

    if isinstance(value.type, ir.SequenceType | ir.OptionalType):
        return "sequences and optional values don't go to the card"
    dtype = value.dtype
    if dtype is None:
        return ""
    name = "strings" if dtype is ir.DataType.STRING else dtype.numpy().name
    return "" if name in held else f"{name} isn't computed by the card"
