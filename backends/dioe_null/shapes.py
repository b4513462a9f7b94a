"""Shapes and types of a model's values for given input shapes.

``onnx.shape_inference`` with data propagation does it, on a copy without large weights. What
depends on data that nobody computes here is 1: a dimension that neither inference nor the model
tells, and the one dimension of a value of unknown rank. So nothing gets empty, and nothing huge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir
from onnx import helper

from dioe.types import InputError, StageModel, TensorSpec, UnsupportedError
from dioe_null.descriptors import PLACE

UNKNOWN_DIM = 1
"""A dimension that depends on data."""

_KEPT_ELEMENTS = 4096
"""Constants up to this size may decide shapes; of larger ones only the shape is kept."""

_MAX_PASSES = 24
"""Each settles what depends on data one op further; then the rest is settled at once."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ValueType:
    """Element type and shape of a tensor."""

    element: ir.DataType
    shape: Shape

    @property
    def elements(self) -> int:
        """How many."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Its size, small types packed."""
        return (self.elements * self.element.bitwidth + 7) // 8


@dataclass(frozen=True, slots=True)
class Inferred:
    """The types of all values by name, weights included, and the calls of functions spelt out.

    ``values`` lacks those that are no tensors of numbers. ``inside`` has, for the first output of
    an op that calls a function of the model, what the function consists of.
    """

    values: Mapping[str, ValueType]
    inside: Mapping[str, tuple[Sequence[ir.Node], Inferred]]


def check_symbols(specs: Sequence[TensorSpec], shapes: Mapping[str, Shape]) -> None:
    """Raise InputError where one symbol stands for two numbers."""
    bound: dict[str, tuple[int, str]] = {}
    for spec in specs:
        for dim, number in zip(spec.shape or (), shapes[spec.name], strict=False):
            if not isinstance(dim, str):
                continue
            first, where = bound.setdefault(dim, (number, spec.name))
            if first != number:
                raise InputError(
                    f"dimension {dim!r} is {first} in {where!r} and {number} in {spec.name!r}",
                    fix="give the same number for both",
                )


class Shapes:
    """Shape inference of one model."""

    def __init__(self, model: StageModel) -> None:
        """Make the copy that shapes are inferred in."""
        self._ir = model.ir
        self._functions = [ir.to_proto(f) for f in self._ir.functions.values()]
        self._callable = {(f.domain, f.name) for f in self._functions}
        self._opsets = [helper.make_opsetid(d, v) for d, v in self._ir.opset_imports.items()]
        self._proto = self._skeleton()

    def _skeleton(self) -> onnx.ModelProto:
        graph = self._ir.graph
        kept, types, seen = [], [], set()
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or not value.name:
                continue
            seen.add(value.name)
            if tensor.size <= _KEPT_ELEMENTS:
                proto = ir.to_proto(tensor)
                proto.name = value.name
                kept.append(proto)
            else:
                types.append(_info(value.name, tensor.dtype, tensor.shape.numpy()))
        inputs = [ir.to_proto(value) for value in graph.inputs if value.name not in seen]
        made = helper.make_graph(
            [ir.to_proto(node) for node in graph],
            "shapes",
            [*inputs, *types],
            # of an output that is an input, inference would forget the shape that is fed
            [_numbers_only(value) for value in graph.outputs if not value.is_graph_input()],
            kept,
            value_info=[
                _numbers_only(value)
                for node in graph
                for value in node.outputs
                if value.name and value.type is not None and not value.is_graph_output()
            ],
        )
        return helper.make_model(
            made,
            opset_imports=self._opsets,
            functions=self._functions,
            ir_version=self._ir.ir_version,
        )

    def declared_types(self) -> dict[str, onnx.TypeProto]:
        """The types of all values by name as far as they are known for any input; weights
        included. Raises UnsupportedError like ``infer``."""
        graph = _infer(self._proto).graph
        types = {
            tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            for tensor in graph.initializer
        }
        return types | {i.name: i.type for i in (*graph.input, *graph.value_info, *graph.output)}

    def infer(self, shapes: Mapping[str, Shape]) -> Inferred:
        """The types of all values for these shapes of the model's inputs.

        Raises UnsupportedError where inference finds the model contradicts itself.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        for info in proto.graph.input:
            if info.name in shapes and info.type.HasField("tensor_type"):
                info.type.CopyFrom(
                    helper.make_tensor_type_proto(
                        info.type.tensor_type.elem_type, shapes[info.name]
                    )
                )
        return self._settled(proto)

    def _settled(self, proto: onnx.ModelProto) -> Inferred:
        known: Mapping[str, ValueType] = {}
        for number in range(_MAX_PASSES + 2):
            found = _infer(proto)
            known = _known_types(found.graph)
            in_order = number < _MAX_PASSES and _settle(proto, found, known, everything=False)
            if not in_order and not _settle(proto, found, known, everything=True):
                break
        inside = {
            node.output[0]: self._inside(node, known)
            for node in proto.graph.node
            if (node.domain, node.op_type) in self._callable and node.output
        }
        return Inferred(known, inside)

    def _inside(
        self, call: onnx.NodeProto, known: Mapping[str, ValueType]
    ) -> tuple[Sequence[ir.Node], Inferred]:
        """The ops of a called function, calls in it inlined as well, and their values."""
        inputs = [
            _info(name, known[name].element, known[name].shape)
            for name in dict.fromkeys(call.input)
            if name in known
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in call.output if name]
        single = helper.make_model(
            helper.make_graph([call], "call", inputs, outputs),
            opset_imports=self._opsets,
            functions=self._functions,
            ir_version=self._ir.ir_version,
        )
        inlined = onnx.inliner.inline_local_functions(single)
        return tuple(ir.from_proto(inlined).graph), self._settled(inlined)


def _numbers_only(value: ir.Value) -> onnx.ValueInfoProto:
    """What a model says of a value, without symbols: they may stand for numbers by now."""
    info = ir.to_proto(value)
    for dim in info.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ():
        dim.ClearField("dim_param")
    return info


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # InferenceError, and RuntimeError of a schema's own code
        text = " ".join(str(error).split())
        raise UnsupportedError(f"shapes can't be inferred: {text}", place=PLACE) from error


def _info(name: str, element: ir.DataType, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, int(element), list(shape))


def _types(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto.Tensor]:
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {i.name: i.type.tensor_type for i in infos if i.type.HasField("tensor_type")}


def _known_types(graph: onnx.GraphProto) -> dict[str, ValueType]:
    """Values whose element type and every dimension are known."""
    known = {t.name: ValueType(ir.DataType(t.data_type), tuple(t.dims)) for t in graph.initializer}
    for name, tensor in _types(graph).items():
        dims = tensor.shape.dim
        if not tensor.elem_type or not tensor.HasField("shape"):
            continue
        if all(dim.HasField("dim_value") for dim in dims):
            shape = tuple(dim.dim_value for dim in dims)
            known[name] = ValueType(ir.DataType(tensor.elem_type), shape)
    return known


def _settle(
    proto: onnx.ModelProto,
    found: onnx.ModelProto,
    known: Mapping[str, ValueType],
    *,
    everything: bool,
) -> bool:
    """Write into ``proto`` what depends on data, for ops all of whose inputs are known; True if
    there was something. With ``everything`` also for ops whose inputs aren't."""
    types = _types(found.graph)
    settled: dict[str, Any] = {}
    for node in proto.graph.node:
        if not everything and any(n and n in types and n not in known for n in node.input):
            continue
        for name in node.output:
            if not name or name in known or name not in types or not types[name].elem_type:
                continue
            tensor = types[name]
            dims = tensor.shape.dim if tensor.HasField("shape") else None
            shape = (
                (UNKNOWN_DIM,)
                if dims is None
                else tuple(d.dim_value if d.HasField("dim_value") else UNKNOWN_DIM for d in dims)
            )
            settled[name] = _info(name, ir.DataType(tensor.elem_type), shape)
    outputs = {info.name: info for info in proto.graph.output}
    for name, info in settled.items():
        if name in outputs:
            outputs[name].CopyFrom(info)
        else:
            proto.graph.value_info.append(info)
    return bool(settled)
