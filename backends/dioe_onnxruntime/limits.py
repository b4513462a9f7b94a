"""What a provider claims as a session is made and fails in the run: refused before that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from dioe.types import StageModel
from dioe_onnxruntime.sessions import Placed, proto_of

if TYPE_CHECKING:
    import onnx_ir as ir

HALF = int(TensorProto.FLOAT16)

HANDED_ON = frozenset(
    {"Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"}
)
"""Ops that compute nothing of their input: its dtype doesn't matter."""


def refusals(model: StageModel, placed: Placed) -> dict[str, str]:
    """The ops (by id) that fail in a run on the device, with a reason for each."""
    provider, nodes = placed.provider, list(model.ir.graph)
    found: dict[str, str] = {}
    if provider.fails_on:
        for op, node in zip(model.op_ids, nodes, strict=True):
            for inner in _with_inner([node]):
                key = provider.fails_on.get(inner.op_type, "")
                if key and _integer(inner, key):
                    found[op] = f"{provider.title} computes no {inner.op_type} with {key}"
    if not placed.float16 and _mentions_halves(model):
        graph = onnx.shape_inference.infer_shapes(proto_of(model)[0]).graph
        types = _types(graph, {})
        for op, proto in zip(model.op_ids, graph.node, strict=True):
            if _computes_halves(proto, types):
                found[op] = f"{proto.op_type} of float16: {placed.info.id} computes none"
    return found


def _integer(node: ir.Node, attribute: str) -> int:
    found = node.attributes.get(attribute)
    return found.as_int() if found is not None else 0


def _with_inner(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    """The nodes, and those in their branches."""
    import onnx_ir as ir

    for node in nodes:
        yield node
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _with_inner(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for graph in attribute.as_graphs():
                    yield from _with_inner(graph)


def _mentions_halves(model: StageModel) -> bool:
    """False if no value of the model can be float16, without asking what type each has."""
    import onnx_ir as ir

    graph = model.ir.graph
    nodes = list(_with_inner(graph))
    read = (value for node in nodes for value in node.inputs if value is not None)
    if any(value.dtype == ir.DataType.FLOAT16 for value in (*graph.inputs, *read)):
        return True
    for node in nodes:
        for attribute in node.attributes.values():
            kind = attribute.type
            if kind == ir.AttributeType.INT and attribute.as_int() == HALF:
                return True  # as Cast's "to"; any other attribute of that value costs time only
            if kind == ir.AttributeType.TENSOR and (
                attribute.as_tensor().dtype == ir.DataType.FLOAT16
            ):
                return True
    return False


def _computes_halves(node: onnx.NodeProto, types: Mapping[str, int]) -> bool:
    """True if the node, or one in its branches, computes on float16 or gives it."""
    own = {types.get(name) for name in (*node.input, *node.output)}
    if HALF in own and node.op_type not in HANDED_ON:
        return True
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inner = _types(graph, types)
            if any(_computes_halves(child, inner) for child in graph.node):
                return True
    return False


def _types(graph: onnx.GraphProto, outer: Mapping[str, int]) -> dict[str, int]:
    """Element types of values by name, those of the graphs around it too."""
    found = dict(outer)
    for value in (*graph.input, *graph.output, *graph.value_info):
        found[value.name] = value.type.tensor_type.elem_type
    found.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    return found
