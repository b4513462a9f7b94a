"""Which ops a modelled device takes: those that real accelerators take as a rule."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.defs
import onnx_ir as ir

from dioe.host_backend import tensor_specs
from dioe.types import DioeError, StageModel
from dioe_null.shapes import Shapes


def refusals(model: StageModel, *, dynamic_shapes: bool) -> dict[str, str]:
    """A reason for each op, by id, that can't run here; empty if all can."""
    if not dynamic_shapes:
        inputs, _ = tensor_specs(model)
        if open_ones := [spec.name for spec in inputs if not spec.static]:
            reason = f"takes fixed shapes only, and that of input {open_ones[0]!r} is open"
            return dict.fromkeys(model.op_ids, reason)
    try:
        types = Shapes(model).declared_types()
    except DioeError as error:
        return dict.fromkeys(model.op_ids, error.cause)
    found = {}
    for op, node in zip(model.op_ids, model.ir.graph, strict=True):
        reason = next(_reasons(node, model.ir, types), "")
        if reason:
            found[op] = reason
    return found


def _reasons(node: ir.Node, model: ir.Model, types: dict[str, onnx.TypeProto]) -> Iterator[str]:
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if any(a.type in _BODIES for a in node.attributes.values()):
        yield f"{kind} has a body, and control flow doesn't run on the device"
    called = any(
        (f.domain, f.name) == (node.domain, node.op_type) for f in model.functions.values()
    )
    opset = model.opset_imports.get(node.domain, 1)
    if not called and not onnx.defs.has(node.op_type, opset, node.domain):
        yield f"{kind} is no op of the standard"
    for value in (*node.inputs, *node.outputs):
        if value is None or not value.name:
            continue
        found = types.get(value.name)
        if found is None or found.WhichOneof("value") is None:
            yield f"the type of {value.name!r} isn't known"
        elif not found.HasField("tensor_type"):
            yield f"{kind} works on {found.WhichOneof('value').removesuffix('_type')}s"
        elif found.tensor_type.elem_type == onnx.TensorProto.STRING:
            yield f"{kind} works on strings"
        elif not found.tensor_type.elem_type:
            yield f"the type of {value.name!r} isn't known"


_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
