"""Ops whose results OpenVINO's CPU plugin gets wrong, because it computes in other dtypes.

Seen with OpenVINO 2026.4.1, op by op against ``onnx.reference``: float64 is computed (and moved)
in float32; 64-bit and unsigned 32-bit integers in int32; some int32 ops in float32; int8 and uint8
arithmetic saturates where ONNX wraps. It says nothing about any of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dioe.types import StageModel
from dioe_openvino.deviations import deviation
from dioe_openvino.dtypes import DTypes, bodies

D = ir.DataType
_WIDE = frozenset({D.INT64, D.UINT64, D.UINT32})
_UNSIGNED = frozenset({D.UINT32, D.UINT64})
_WALKED = _WIDE | {D.INT32, D.DOUBLE}
_SIGNED = frozenset({D.INT8, D.INT16, D.INT32, D.INT64})
_FLOAT8 = frozenset({D.FLOAT8E4M3FN, D.FLOAT8E4M3FNUZ, D.FLOAT8E5M2, D.FLOAT8E5M2FNUZ})
_NARROW_FLOATS = frozenset({D.FLOAT, D.FLOAT16, D.BFLOAT16})
_EXACT_AS_FLOAT = _NARROW_FLOATS | {D.BOOL, D.INT8, D.UINT8, D.INT16, D.UINT16}

_DATA_INPUTS: Mapping[str, tuple[int, ...] | None] = {
    "CenterCropPad": (0,),
    "Compress": (0,),
    "Concat": None,
    "DepthToSpace": (0,),
    "Dropout": (0,),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Identity": (0,),
    "OneHot": (2,),
    "Pad": (0, 2),
    "Reshape": (0,),
    "ReverseSequence": (0,),
    "Scatter": (0, 2),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Slice": (0,),
    "SpaceToDepth": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Trilu": (0,),
    "Unsqueeze": (0,),
    "Upsample": (0,),
    "Where": (1, 2),
}
"""Ops that move data, and the inputs they move it from (None: all)."""

_MADE = frozenset({"Constant", "ConstantOfShape", "Shape", "Size"})
_REDUCTIONS = frozenset(
    {
        "ReduceL1",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    }
)
_AS_FLOAT = _REDUCTIONS | frozenset(
    {
        "ConvInteger",
        "Gemm",
        "MatMul",
        "MatMulInteger",
        "Mean",
        "Mod",
        "PRelu",
        "Pow",
        "Relu",
    }
)
"""Ops on int32 that are computed in float32, which is exact up to 2**24."""
_ARITHMETIC = _AS_FLOAT | frozenset(
    {
        "Abs",
        "Add",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Clip",
        "CumSum",
        "Div",
        "Einsum",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Sign",
        "Sub",
        "Sum",
    }
)
_SATURATING = frozenset(
    {
        "Add",
        "BitShift",
        "MatMul",
        "Mean",
        "Mul",
        "Neg",
        "PRelu",
        "Pow",
        "ReduceMean",
        "ReduceProd",
        "Sub",
        "Sum",
    }
)


class Exactness:
    """Why ops of a model (by id) are refused, one rule a method."""

    def __init__(self, model: StageModel) -> None:
        self._graph = model.ir.graph
        self._dtypes = DTypes(model.ir)
        self._opset = model.ir.opset_imports.get("", 0)
        self._nodes: list[tuple[str, ir.Node]] = []
        for op, node in zip(model.op_ids, self._graph, strict=True):
            self._add(op, node)
        self._op_of = {id(node): op for op, node in self._nodes}

    def _add(self, op: str, node: ir.Node) -> None:
        self._nodes.append((op, node))
        for body in bodies(node):
            for inner in body:
                self._add(op, inner)

    def by_op(self) -> dict[str, str]:
        """Ops that are wrong wherever they are: float64 and int8 arithmetic, casts that don't
        saturate, and what ``deviations`` knows."""
        refused: dict[str, str] = {}
        for op, node in self._nodes:
            values = (*node.inputs, *node.outputs)
            dtypes = {self._dtypes.of(v) for v in values if v is not None}
            if D.DOUBLE in dtypes and not self._keeps_doubles(node):
                refused[op] = f"OpenVINO computes {node.op_type!r} of float64 in float32"
            result = self._dtypes.of(node.outputs[0]) if node.outputs else None
            if result in (D.INT8, D.UINT8) and not node.domain and node.op_type in _SATURATING:
                name = result.name.lower()
                refused[op] = f"OpenVINO saturates {node.op_type!r} of {name}, which has to wrap"
            if result in _FLOAT8 and self._saturates(node):
                refused[op] = (
                    f"OpenVINO doesn't saturate in {node.op_type!r} to {result.name.lower()}: what "
                    "is out of range becomes NaN or infinite"
                )
            if result in _SIGNED and node.op_type == "BitShift" and not node.domain:
                refused[op] = "OpenVINO shifts signed integers as if they were unsigned"
            if reason := deviation(node, self._opset):
                refused[op] = reason
        return refused

    @staticmethod
    def _saturates(node: ir.Node) -> bool:
        """Whether a cast has to bring what is out of range to the largest finite number."""
        if node.domain or node.op_type not in ("Cast", "CastLike"):
            return False
        attribute = node.attributes.get("saturate")
        return attribute is None or bool(attribute.as_int())

    def _keeps_doubles(self, node: ir.Node) -> bool:
        if node.domain:
            return False
        if node.op_type in ("Cast", "CastLike"):
            source, target = self._dtypes.of(node.inputs[0]), self._dtypes.of(node.outputs[0])
            if source is D.DOUBLE:
                return target is None or target is D.DOUBLE or target in _NARROW_FLOATS
            return source is None or source in _EXACT_AS_FLOAT
        moves = node.op_type in _DATA_INPUTS or node.op_type in _MADE
        return moves or any(True for _ in bodies(node))

    def by_outputs(self) -> dict[str, str]:
        """Ops whose inexact results reach an output of the model without leaving their dtypes.

        Shapes, indices, masks and positions inside a model stay far below 2**31 and are left
        alone; so are 64-bit integers that are only moved, for that is how token ids come and go.
        """
        refused: dict[str, str] = {}
        waiting: list[ir.Value | None] = list(self._graph.outputs)
        seen: set[int] = set()
        while waiting:
            value = waiting.pop()
            dtype = self._dtypes.of(value)
            if value is None or id(value) in seen or dtype not in _WALKED:
                continue
            seen.add(id(value))
            node = value.producer()
            if node is None:
                continue
            inner = list(bodies(node))
            if inner:
                waiting.extend(v for body in inner for v in body.outputs)
                waiting.extend(node.inputs[2:] if node.op_type == "Loop" else node.inputs)
                continue
            if node.domain:
                continue
            reason = self._inexact(node, dtype)
            if reason:
                refused.setdefault(self._op_of[id(node)], f"{reason}, and an output shows it")
            if node.op_type in _DATA_INPUTS:
                which = _DATA_INPUTS[node.op_type]
                waiting.extend(v for i, v in enumerate(node.inputs) if which is None or i in which)
            elif node.op_type in ("Cast", "CastLike", "TopK"):
                waiting.append(node.inputs[0])
            elif node.op_type in _ARITHMETIC:
                waiting.extend(node.inputs)
        return refused

    def _inexact(self, node: ir.Node, dtype: ir.DataType) -> str:
        op = repr(node.op_type)
        name = dtype.name.lower()
        if dtype is D.DOUBLE:
            # Identity is the one op of float64 that keeps all its bits.
            moved = node.op_type in _DATA_INPUTS and node.op_type != "Identity"
            return f"OpenVINO moves float64 as float32 in {op}" if moved else ""
        if node.op_type in ("Cast", "CastLike"):
            source = self._dtypes.of(node.inputs[0])
            floats = dtype in _UNSIGNED and source in _NARROW_FLOATS
            if dtype in _WIDE and (
                source is D.UINT32 or source is D.UINT64 or dtype is D.UINT32 or floats
            ):
                known = "another dtype" if source is None else source.name.lower()
                return f"OpenVINO casts {known} to {name} through int32"
            return ""
        if dtype is D.INT32:
            wrong = node.op_type in _AS_FLOAT
            return f"OpenVINO computes {op} of int32 in float32" if wrong else ""
        if node.op_type in _ARITHMETIC:
            return f"OpenVINO computes {op} of {name} in 32 bits"
        return ""
