"""Tensors and types of an ``onnx_ir`` model: specs, traversal, replacement, stripped copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from dioe.types import Dim, TensorSpec

MAP_TYPE = "dioe.map_type"
"""Key in ``ir.Value.meta`` of the ``TypeProto`` of a map, which ``onnx_ir`` can't represent."""

Tensor = ir.TensorProtocol


def numpy_dtype(dtype: ir.DataType | None) -> np.dtype[Any]:
    """numpy's dtype (ml_dtypes for bf16, fp8, int4); ``object`` for strings and unknown types."""
    if dtype is None or dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return np.dtype(object)
    return dtype.numpy()


def dims(shape: ir.Shape | None) -> tuple[Dim, ...] | None:
    """A shape as plain numbers, symbols and None."""
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape)


def nbytes(dtype: np.dtype[Any], shape: tuple[Dim, ...] | None) -> int | None:
    """Size of a tensor in bytes; None where a dimension is unknown or the elements are strings.

    Sub-byte types count packed, two int4 to a byte.
    """
    if shape is None or dtype.kind == "O":
        return None
    count = elements(shape)
    if count is None:
        return None
    return (count * ir.DataType.from_numpy(dtype).bitwidth + 7) // 8


def elements(shape: tuple[Dim, ...] | None) -> int | None:
    """Number of elements of a shape; None where a dimension is unknown."""
    if shape is None:
        return None
    count = 1
    for dim in shape:
        if not isinstance(dim, int):
            return None
        count *= dim
    return count


def spec(value: ir.Value) -> TensorSpec:
    """The TensorSpec of a value: sequences, optionals and maps by their elements."""
    name = value.name or ""
    if MAP_TYPE in value.meta:
        return _map_spec(name, value.meta[MAP_TYPE])
    kind, inner = "tensor", value.type
    if isinstance(inner, ir.SequenceType):
        kind = "sequence"
    elif isinstance(inner, ir.OptionalType):
        kind = "optional"
    while isinstance(inner, ir.SequenceType | ir.OptionalType):
        inner = inner.elem_type
    dtype = numpy_dtype(inner.dtype if inner is not None else None)
    return TensorSpec(name, dtype, dims(value.shape), kind)


def _map_spec(name: str, proto: onnx.TypeProto) -> TensorSpec:
    """Spec of a map, or of a sequence of maps; ``dtype`` is that of the map's values."""
    kind = (proto.WhichOneof("value") or "map_type").removesuffix("_type")
    element = innermost(proto).map_type.value_type.tensor_type.elem_type
    return TensorSpec(name, numpy_dtype(ir.DataType(element)), None, kind)


def innermost(proto: onnx.TypeProto) -> onnx.TypeProto:
    """The type of what is in a sequence or an optional, however nested; else the type itself."""
    while (form := proto.WhichOneof("value")) in ("sequence_type", "optional_type"):
        proto = getattr(proto, form).elem_type
    return proto


def has_map(proto: onnx.TypeProto) -> bool:
    """Whether it is a map, or a sequence or an optional of maps."""
    return bool(innermost(proto).HasField("map_type"))


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, all sub-graphs, and the bodies of model-local functions."""
    yield model.graph
    yield from model.graph.subgraphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.graph.subgraphs()


def tensors(model: ir.Model) -> Iterator[Tensor]:
    """Every tensor: initializers and tensor attributes of all graphs."""
    for graph in graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor()
                elif attribute.type == ir.AttributeType.TENSORS:
                    yield from attribute.as_tensors()


def replace_tensors(model: ir.Model, change: Callable[[Tensor], Tensor]) -> None:
    """Put ``change(tensor)`` in place of every tensor of ``model``."""
    for graph in graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = change(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    old = attribute.as_tensor()
                    new = change(old)
                    if new is not old:
                        node.attributes[name] = ir.AttrTensor(name, new)
                elif attribute.type == ir.AttributeType.TENSORS:
                    changed = [change(tensor) for tensor in attribute.as_tensors()]
                    node.attributes[name] = ir.AttrTensors(name, changed)


def constant(value: ir.Value | None) -> Tensor | None:
    """The tensor of a value that is an initializer or the output of a ``Constant`` node."""
    if value is None:
        return None
    node = value.producer()
    if node is None:
        return value.const_value if value.is_initializer() else None
    if node.op_type != "Constant" or node.domain:
        return None
    return constant_tensor(node)


_CONSTANT_FORMS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def constant_tensor(node: ir.Node) -> Tensor | None:
    """The tensor that a ``Constant`` node makes; None for strings and sparse tensors."""
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if name == "value":
            return attribute.as_tensor()
        if name in _CONSTANT_FORMS:
            return ir.tensor(np.asarray(attribute.value, dtype=_CONSTANT_FORMS[name]))
    return None


def serialize(model: ir.Model) -> onnx.ModelProto:
    """The protobuf of a model, map types put back."""
    proto = ir.to_proto(model)
    for infos, values in (
        (proto.graph.input, model.graph.inputs),
        (proto.graph.output, model.graph.outputs),
    ):
        for info, value in zip(infos, values, strict=True):
            if MAP_TYPE in value.meta:
                info.type.CopyFrom(value.meta[MAP_TYPE])
    return proto


def skeleton(model: ir.Model, keep_elements: int = 4096) -> onnx.ModelProto:
    """The protobuf without the data of tensors above ``keep_elements``: shapes and types stay.

    Small however large the model is; for shape inference and checks, not for running.
    """

    def strip(tensor: Tensor) -> Tensor:
        if tensor.size <= keep_elements:
            return tensor
        return ir.ExternalTensor(
            "stripped",
            0,
            0,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name or "",
        )

    copy = model.clone()
    replace_tensors(copy, strip)
    return serialize(copy)
