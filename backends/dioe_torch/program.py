"""Models as the plain data that lowerings run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from dioe.types import Array, Precision, Precisions, StageModel, UnsupportedError
from dioe_torch.lowerings import Constant, Op, Program

PLACE = "torch"

_RAW = {1: np.uint8, 2: np.uint16}

_CALLED_BY = "dioe.op"


def program_of(model: StageModel, precisions: Precisions | None = None) -> Program:
    """``model`` as a program; Constant nodes become constants, functions are inlined.

    Raises UnsupportedError for what no torch tensor can hold and for sparse tensors.
    """
    found = _inlined(model) if model.ir.functions else model.ir
    if model.ir.functions:
        ids = {id(node): node.metadata_props[_CALLED_BY] for node in found.graph}
    else:
        ids = {id(node): op for node, op in zip(found.graph, model.op_ids, strict=True)}
    return _Reader(found, ids, precisions or Precisions()).graph(found.graph)


def _inlined(model: StageModel) -> ir.Model:
    """A copy without functions; its nodes say of which op they are."""
    from onnx_ir.passes.common import InlinePass

    copied = ir.from_proto(ir.to_proto(model.ir))
    for node, op in zip(copied.graph, model.op_ids, strict=True):
        node.metadata_props[_CALLED_BY] = op  # what a call becomes inherits it
    InlinePass()(copied)
    return copied


class _Reader:
    def __init__(self, model: ir.Model, ids: Mapping[int, str], precisions: Precisions) -> None:
        self._versions = {name or "": n for name, n in model.opset_imports.items()}
        self._ids, self._precisions = ids, precisions

    def graph(self, graph: ir.Graph, precision: Precision | None = None) -> Program:
        """A graph; ``precision`` is that of the op whose sub-graph it is."""
        constants = {
            name: constant_of(value.const_value)
            for name, value in graph.initializers.items()
            if value.const_value is not None
        }
        inputs = tuple(v.name or "" for v in graph.inputs if v.name not in constants)
        ops: list[Op] = []
        for node in graph:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                constants[node.outputs[0].name or ""] = _constant_node(node)
            else:
                ops.append(self._op(node, precision))
        outputs = tuple(v.name or "" for v in graph.outputs)
        dtypes = tuple(
            v.dtype.name.lower() if isinstance(v.type, ir.TensorType) and v.dtype else ""
            for v in graph.outputs
        )
        shapes = tuple(
            None
            if v.shape is None
            else tuple(size if isinstance(size, int) else -1 for size in v.shape)
            for v in graph.outputs
        )
        made = {name for op in ops for name in op.outputs} | constants.keys() | set(inputs)
        read = dict.fromkeys(
            [name for op in ops for name in (*op.inputs, *_captures(op))] + list(outputs)
        )
        captures = tuple(name for name in read if name and name not in made)
        return Program(inputs, outputs, tuple(ops), constants, captures, dtypes, shapes)

    def _op(self, node: ir.Node, outer: Precision | None) -> Op:
        op_id = self._ids.get(id(node), node.name or "")
        domain = "" if node.domain == "ai.onnx" else node.domain
        precision = outer or self._precisions.of(op_id)
        attributes = {
            name: self._attribute(attribute, precision)
            for name, attribute in node.attributes.items()
        }
        return Op(
            op_id,
            domain,
            node.op_type,
            node.version or self._versions.get(domain, 1),
            tuple("" if v is None else v.name or "" for v in node.inputs),
            tuple(v.name or "" for v in node.outputs),
            attributes,
            str(precision),
        )

    def _attribute(self, attribute: ir.Attr, precision: Precision) -> Any:
        kind = attribute.type
        if kind == ir.AttributeType.GRAPH:
            return self.graph(attribute.as_graph(), precision)
        if kind == ir.AttributeType.TENSOR:
            return constant_of(attribute.as_tensor())
        if kind == ir.AttributeType.TENSORS:
            return tuple(constant_of(tensor) for tensor in attribute.as_tensors())
        if kind in (ir.AttributeType.TYPE_PROTO, ir.AttributeType.SPARSE_TENSOR):
            return str(attribute.value)  # no lowering needs them
        if kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
            return tuple(attribute.value)
        if kind in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING):
            return attribute.value
        raise UnsupportedError(f"an attribute of type {kind.name}", place=f"{attribute.name!r}")


def _captures(op: Op) -> tuple[str, ...]:
    return tuple(
        name
        for value in op.attributes.values()
        if isinstance(value, Program)
        for name in value.captures
    )


def _constant_node(node: ir.Node) -> Constant:
    (attribute,) = node.attributes.values()
    value = attribute.value
    match attribute.name:
        case "value":
            return constant_of(attribute.as_tensor())
        case "value_float" | "value_floats":
            return Constant("float", np.asarray(value, np.float32))
        case "value_int" | "value_ints":
            return Constant("int64", np.asarray(value, np.int64))
        case "value_string" | "value_strings":
            return Constant("string", np.asarray(value, object))
    raise UnsupportedError(f"Constant with {attribute.name}", place=node.name or "")


def constant_of(tensor: ir.TensorProtocol | None) -> Constant:
    """A tensor of a model as a constant; weights stay mapped where they are."""
    if tensor is None:
        raise UnsupportedError("an initializer without a value")
    if tensor.dtype == ir.DataType.STRING:
        return Constant("string", np.asarray(tensor.numpy(), object))
    return raw_constant(tensor.dtype.name.lower(), tensor.numpy())


def raw_constant(dtype: str, array: Array) -> Constant:
    """``array`` under the ONNX name of its type; types of ml_dtypes as raw bits."""
    if array.dtype.isbuiltin == 2:  # a registered type, not one of numpy's own
        array = array.view(_RAW[array.dtype.itemsize])
    return Constant(dtype, array)
