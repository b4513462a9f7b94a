"""Whether a ``TensorProto`` holds the data that its type and dimensions promise."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir
from onnx import TensorProto

TYPES = frozenset(int(dtype) for dtype in ir.DataType) - {int(ir.DataType.UNDEFINED)}
"""Numbers of the data types that a tensor can have."""

_INT64_MAX = 2**63 - 1

# The field of values that aren't raw bytes, and how many of them one element takes (onnx.proto);
# all other types lie in int32_data.
_FIELDS: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1),
    TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1),
    TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1),
    TensorProto.STRING: ("string_data", 1),
}


def fault(tensor: onnx.TensorProto) -> str | None:
    """What is wrong with a tensor's type, dimensions or data, in words; None if nothing is.

    Of external data only the place is looked at, not the file.
    """
    if tensor.data_type not in TYPES:
        return f"has the data type {tensor.data_type}, which doesn't exist"
    dtype = ir.DataType(tensor.data_type)
    if any(dim < 0 for dim in tensor.dims):
        return f"has a negative dimension: {list(tensor.dims)}"
    count = math.prod(tensor.dims)
    what = f"{dtype.name}{list(tensor.dims)}"
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external_fault(tensor, dtype)
    if dtype != ir.DataType.STRING and tensor.HasField("raw_data"):
        wanted = (count * dtype.bitwidth + 7) // 8
        held = len(tensor.raw_data)
        return None if held == wanted else f"is {what}, {wanted} bytes, and holds {held}"
    field, each = _FIELDS.get(tensor.data_type, ("int32_data", 1))
    wanted = count * each
    if field == "int32_data" and dtype.bitwidth in (2, 4):
        wanted = (count * dtype.bitwidth + 7) // 8  # packed into bytes
    held = len(getattr(tensor, field))
    return None if held == wanted else f"is {what}, {wanted} values in {field}, and holds {held}"


def _external_fault(tensor: onnx.TensorProto, dtype: ir.DataType) -> str | None:
    if dtype == ir.DataType.STRING:
        return "holds strings, which external data can't"
    for entry in tensor.external_data:
        if entry.key in ("offset", "length") and not _is_size(entry.value):
            return f"has external data with the {entry.key} {entry.value[:40]!r}, which is no size"
    return None


def _is_size(text: str) -> bool:
    plain = text.isascii() and text.isdecimal() and len(text) <= 19
    return plain and int(text) <= _INT64_MAX
