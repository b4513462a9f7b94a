"""What the ops that read an input say about the values it may hold.

Ops that only move data are looked through; a ``Gather`` bounds indices, an ``Equal`` names the
values it knows, logic makes a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dioe.graph.tensors import constant
from dioe.types import Array

_CARRIERS = frozenset(
    {"Cast", "CastLike", "Identity", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
    | {"Transpose", "Expand", "Concat", "Split", "Pad", "Tile", "Clip", "Max", "Min"}
    | {"DepthToSpace", "SpaceToDepth"}
)
_LOGIC = frozenset({"And", "Or", "Not", "Xor"})

# Ops on whole numbers that take any, by the inputs they take them at (None: all), and whose outputs
# may take any as well if their readers do. Not here: what divides or shifts by them, compares them
# (lengths, thresholds), counts, or looks something up.
_ARITHMETIC: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Neg", "Abs", "Sign", "Sum", "Max", "Min", "MatMul")),
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Concat")),
    **dict.fromkeys(("Div", "Mod", "Clip", "ReduceSum", "ReduceMax", "ReduceMin", "CumSum"), (0,)),
    **dict.fromkeys(("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose"), (0,)),
    **dict.fromkeys(("Expand", "Split", "Pad", "Tile", "Slice", "Trilu", "Compress"), (0,)),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "DepthToSpace"), (0,)),
    **dict.fromkeys(("ScatterElements", "ScatterND"), (0, 2)),
    "SpaceToDepth": (0,),
    "Where": (1, 2),
}
# Ops whose outputs don't have the values of their inputs any more: a shape, or products of bytes.
_ENDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Shape", "Size", "ArgMax", "ArgMin"), (0,)),
    **dict.fromkeys(("MatMulInteger", "ConvInteger"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
}


@dataclass(slots=True)
class Role:
    """What the readers of an input say about its values."""

    limit: int | None = None  # indices lie below it
    compared: list[Array] = field(default_factory=list)
    mask: bool = False
    control: bool = False  # a shape, axis or count: 1 is the safest guess
    positive: bool = False  # goes into a logarithm or a root
    arithmetic: bool = False  # whole numbers that are only calculated with: any will do


def role_of(value: ir.Value, graph: ir.Graph) -> Role:
    """What the readers of ``value``, an input of ``graph``, say; those in bodies included."""
    role = Role()
    name = (value.name or "").lower()
    role.mask = "mask" in name and "token" not in name
    seen = {value}
    queue = [value]
    while queue:
        current = queue.pop()
        for user in list(current.uses()):
            for carried in _look(role, user.node, user.idx):
                if carried not in seen:
                    seen.add(carried)
                    queue.append(carried)
    role.arithmetic = _is_arithmetic(value, graph)
    return role


def _look(role: Role, node: ir.Node, index: int) -> Sequence[ir.Value]:
    """Note what one reader says; return the values through which the input lives on."""
    op = node.op_type
    if op in ("Gather", "GatherElements", "GatherND", "Embedding", "OneHot"):
        return _look_gather(role, node, index)
    if op == "EmbedLayerNormalization":
        if index in (0, 1) and len(node.inputs) > index + 2:
            _lower(role, _rows(node.inputs[index + 2], 0))
        return ()
    if op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        tensor = constant(node.inputs[1 - index])
        if op == "Equal" and tensor is not None and tensor.size <= 4096:
            role.compared.append(np.asarray(tensor.numpy()).reshape(-1))
        return ()
    if op in _LOGIC or (op == "Where" and index == 0):
        role.mask = True
        return ()
    if op == "Sub" and index == 1 and _is_one(node.inputs[0]):
        role.mask = True  # 1 - mask, as attention masks are turned into a bias
        return ()
    if op in ("Log", "Sqrt"):
        role.positive = True
        return ()
    if index > 0 and op in ("Reshape", "Expand", "Tile", "Slice", "TopK", "Pad", "Resize"):
        role.control = True
        return ()
    if op in ("ConstantOfShape", "Range"):
        role.control = True
        return ()
    if op in _CARRIERS and not (op in ("Slice", "Reshape", "Expand", "Tile", "Pad") and index):
        if op == "Cast" and node.attributes["to"].as_int() == ir.DataType.BOOL:
            role.mask = True
        return node.outputs
    return ()


def _look_gather(role: Role, node: ir.Node, index: int) -> Sequence[ir.Value]:
    if index == 0 and node.op_type != "OneHot":
        return node.outputs  # elements of the input are picked
    if node.op_type == "OneHot":
        depth = constant(node.inputs[1]) if index == 0 else None
        if depth is not None:
            _lower(role, int(np.asarray(depth.numpy()).reshape(-1)[0]))
        return ()
    if node.op_type == "GatherND":
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        sizes = [dim for dim in shape or () if isinstance(dim, int)]
        _lower(role, min(sizes, default=1))
        return ()
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    _lower(role, _rows(node.inputs[0], axis))
    return ()


def _rows(table: ir.Value | None, axis: int) -> int | None:
    """Size of a table along an axis; through a dequantisation, whose table has the same rows."""
    for _ in range(6):
        if table is None:
            return None
        tensor = constant(table)
        shape = tensor.shape if tensor is not None else table.shape
        if shape is not None and -len(shape) <= axis < len(shape):
            size = shape[axis]
            if isinstance(size, int):
                return size
        producer = table.producer()
        if producer is None:
            return None
        table = producer.inputs[0]
    return None


def _lower(role: Role, limit: int | None) -> None:
    if limit is not None:
        role.limit = limit if role.limit is None else min(role.limit, limit)


def _is_one(value: ir.Value | None) -> bool:
    tensor = constant(value)
    return tensor is not None and tensor.size == 1 and float(tensor.numpy().reshape(-1)[0]) == 1.0


def _is_arithmetic(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether whole numbers are only calculated with, on their way to ``graph``'s outputs.

    Bytes may become floats, as pictures do; wider numbers that do are times, positions or counts,
    which large ones would make nonsense of.
    """
    if value.dtype is None or not value.dtype.is_integer():
        return False
    outputs = set(graph.outputs)
    is_byte = value.dtype.bitwidth <= 8
    seen = {value}
    queue = [value]
    while queue:
        current = queue.pop()
        if current.is_graph_output() and current not in outputs:
            return False  # leaves a body, and who knows where to
        for user in current.uses():
            node = user.node
            op = "" if node.domain else node.op_type
            if user.idx in _ENDS.get(op, ()):
                continue
            if op == "DequantizeLinear" or (op == "Cast" and not _is_integer(node)):
                if is_byte and user.idx == 0:
                    continue
                return False
            indices = _ARITHMETIC.get(op, ()) if op != "Cast" else (0,)
            if indices is not None and user.idx not in indices:
                return False
            new = [output for output in node.outputs if output not in seen]
            seen.update(new)
            queue.extend(new)
    return bool(value.uses())


def _is_integer(cast: ir.Node) -> bool:
    return ir.DataType(cast.attributes["to"].as_int()).is_integer()
