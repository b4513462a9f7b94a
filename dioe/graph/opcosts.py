"""FLOPs of the ops of a model, by ``dioe.flops`` on inferred shapes; bodies and functions too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.helper
import onnx.inliner
import onnx_ir as ir

from dioe.flops import OpShapes, attributes, flops, total
from dioe.graph.model import Model
from dioe.graph.shapes import Scope
from dioe.graph.tensors import constant, elements, skeleton
from dioe.types import Array, TensorSpec


class OpCosts:
    """FLOPs of the ops of one model, from what shape inference found."""

    def __init__(self, model: Model) -> None:
        """Cost the ops of ``model``; shapes are inferred if they aren't yet."""
        self._model = model
        self._functions = {(key[0], key[1]) for key in model.ir.functions}
        self._known: dict[tuple[object, ...], int | None] = {}

    def flops(self, node: ir.Node) -> int | None:
        """FLOPs of one run of a top-level op; None where they aren't known."""
        return self._flops(node, (self._model.inferred,))

    def _flops(self, node: ir.Node, scopes: Sequence[Scope]) -> int | None:
        if (node.domain, node.op_type) in self._functions:
            return self._call(node, scopes)
        if not node.domain:
            if node.op_type == "If":
                return self._branch(node, scopes)
            if node.op_type in ("Loop", "Scan"):
                return self._repeated(node, scopes)
        return flops(
            OpShapes(
                f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
                attributes(node),
                [_shape(value, scopes) for value in node.inputs],
                [_shape(value, scopes) for value in node.outputs],
            )
        )

    def _body(self, node: ir.Node, attribute: str, scopes: Sequence[Scope]) -> int | None:
        scope = scopes[0].bodies.get((_first(node), attribute))
        if scope is None or attribute not in node.attributes:
            return None
        graph = node.attributes[attribute].as_graph()
        return total([self._flops(inner, (scope, *scopes)) for inner in graph])

    def _branch(self, node: ir.Node, scopes: Sequence[Scope]) -> int | None:
        taken = scopes[0].taken.get(_first(node))
        if taken is not None:
            return self._body(node, taken, scopes)
        both = [self._body(node, name, scopes) for name in ("then_branch", "else_branch")]
        known = [flops for flops in both if flops is not None]
        return max(known, default=None)

    def _repeated(self, node: ir.Node, scopes: Sequence[Scope]) -> int | None:
        trips = _trips(node, scopes)
        body = self._body(node, "body", scopes)
        return None if trips is None or body is None else trips * body

    def _call(self, node: ir.Node, scopes: Sequence[Scope]) -> int | None:
        """FLOPs of a model-local function: its body inlined, for the shapes of this call."""
        specs = [_spec(value, scopes) for value in node.inputs]
        if any(v is not None and s is None for v, s in zip(node.inputs, specs, strict=True)):
            return None
        shapes = tuple(spec and (spec.dtype.str, spec.shape) for spec in specs)
        values = tuple(sorted((k, str(a)) for k, a in node.attributes.items()))
        key = (node.domain, node.op_type, node.overload, shapes, values)
        if key not in self._known:
            self._known[key] = None  # a function can't call itself, but a bad one could
            inlined = onnx.inliner.inline_local_functions(self._call_proto(node, scopes))
            model = Model(ir.from_proto(inlined))
            inside = OpCosts(model)
            self._known[key] = total([inside.flops(inner) for inner in model.ir.graph])
        return self._known[key]

    def _call_proto(self, node: ir.Node, scopes: Sequence[Scope]) -> onnx.ModelProto:
        proto = skeleton(self._model.ir)
        call = ir.to_proto(node)
        inputs = []
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            spec = _spec(value, scopes)
            if spec is not None and constant(value) is None:
                element = ir.DataType.from_numpy(spec.dtype)
                inputs.append(onnx.helper.make_tensor_value_info(spec.name, element, spec.shape))
        used = set(call.input)
        kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
        makers = [n for n in proto.graph.node if n.op_type == "Constant" and n.output[0] in used]
        outputs = [onnx.ValueInfoProto(name=name) for name in call.output if name]
        graph = onnx.helper.make_graph([*makers, call], "call", inputs, outputs, kept)
        proto.graph.CopyFrom(graph)
        return proto


def _first(node: ir.Node) -> str:
    return next((value.name for value in node.outputs if value.name), "")


def _spec(value: ir.Value | None, scopes: Sequence[Scope]) -> TensorSpec | None:
    """What inference found for a value, in the innermost scope that knows its name."""
    if value is None or value.name is None:
        return None
    return next((s.specs[value.name] for s in scopes if value.name in s.specs), None)


def _shape(value: ir.Value | None, scopes: Sequence[Scope]) -> tuple[int, ...] | None:
    spec = _spec(value, scopes)
    if spec is None or spec.shape is None or elements(spec.shape) is None:
        return None
    return tuple(dim for dim in spec.shape if isinstance(dim, int))


def _trips(node: ir.Node, scopes: Sequence[Scope]) -> int | None:
    """How often a body runs; a ``Loop`` that may stop early counts in full."""
    if node.op_type == "Loop":
        count = _constant(node.inputs[0], scopes)
        return None if count is None else int(count.reshape(-1)[0])
    scanned = node.attributes["num_scan_inputs"].as_int()
    first = _shape(node.inputs[len(node.inputs) - scanned], scopes)
    axes = node.attributes.get("scan_input_axes")
    axis = axes.as_ints()[0] if axes is not None else 0
    return None if first is None else first[axis]


def _constant(value: ir.Value | None, scopes: Sequence[Scope]) -> Array | None:
    if value is None or value.name is None:
        return None
    known = next((s.constants[value.name] for s in scopes if value.name in s.constants), None)
    if known is not None:
        return known
    tensor = constant(value)
    return None if tensor is None else np.asarray(tensor.numpy())
