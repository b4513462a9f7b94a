"""Cutting a model into stages: what crosses a cut, and the model of one side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from dioe.graph.guard import shown
from dioe.graph.model import Model
from dioe.graph.opgraph import OpGraph
from dioe.graph.tensors import MAP_TYPE, has_map
from dioe.types import Boundary, Stage, UnsupportedError

_FIRST_IR_VERSION = 4  # from it on, initializers need not be inputs as well


class GraphError(UnsupportedError):
    """A model can't be cut there."""


def stage_io(graph: OpGraph, ops: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the values that go into a group of ops and that come out of it.

    Inputs in the order they are read, constants left out; outputs, what others or the caller need,
    in the order they are made. Raises ValueError for an unknown op.
    """
    inside = set(ops)
    unknown = sorted(op for op in inside if op not in graph.ops)
    if unknown:
        raise ValueError(f"the graph has no op {unknown[0]!r}")
    chosen = [graph.ops[op] for op in sorted(inside, key=graph.index.__getitem__)]
    made = {name for op in chosen for name in op.outputs}
    inputs = {
        name: None
        for op in chosen
        for name in op.reads
        if name not in made and name not in graph.constants
    }
    outputs = {
        name: None
        for op in chosen
        for name in op.outputs
        if name in graph.outputs
        or any(user not in inside for user in graph.consumers.get(name, ()))
    }
    return tuple(inputs), tuple(outputs)


def extract(graph: OpGraph, ops: Iterable[str], name: str) -> Model:
    """The model of some ops: what they read from outside as inputs, what others need as outputs.

    Initializers and ``Constant`` nodes that they read come along, their data shared; so do opsets
    and functions. Ops keep their ids; shapes and types stand on inputs and outputs where known.
    Raises ValueError for an unknown op, or if ``ops`` has no outputs; GraphError if the type of
    what they read is unknown (made by a custom op, and not declared): no backend takes that.
    """
    inside = set(ops)
    inputs, outputs = stage_io(graph, inside)
    if not outputs:
        raise ValueError(f"the ops of {name!r} make nothing that is needed")
    source = graph.model.ir
    values = {value.name or "": value for value in source.graph.inputs}
    for node in source.graph:
        values.update((value.name or "", value) for value in node.outputs)
    read = {value for op in inside for value in graph.ops[op].reads}
    nodes = [
        node
        for node in source.graph
        if node.name in inside
        or (node.op_type == "Constant" and not node.domain and node.outputs[0].name in read)
    ]
    view = ir.GraphView(
        [values[value] for value in inputs],
        [values[value] for value in outputs],
        nodes=nodes,
        initializers=[v for n, v in source.graph.initializers.items() if n in read],
        opset_imports=dict(source.graph.opset_imports),
        name=name,
    )
    part = view.clone()
    for value in (*part.inputs, *part.outputs):
        _describe(value, graph)
    untyped = [v.name or "" for v in part.inputs if v.type is None and MAP_TYPE not in v.meta]
    if untyped:
        maker = graph.producers.get(untyped[0])
        made = "" if maker is None else f", made by {graph.ops[maker].op_type} {shown(maker)},"
        raise GraphError(
            f"{shown(name)} can't be a model of its own: the type of {shown(untyped[0])}{made} is "
            "neither declared nor known",
            place=graph.model.place,
            fix="declare it in the model's value_info, or keep the ops around it together",
        )
    functions = [function.clone() for function in source.functions.values()]
    version = max(source.ir_version, _FIRST_IR_VERSION)
    return Model(ir.Model(part, ir_version=version, functions=functions))


def _describe(value: ir.Value, graph: OpGraph) -> None:
    """Put the inferred type and shape on an input or output of a stage."""
    name = value.name or ""
    known, full = graph.values.get(name), graph.inferred.types.get(name)
    if known is None or MAP_TYPE in value.meta:
        return
    if value.type is None and full is not None:
        if has_map(full):
            value.meta[MAP_TYPE] = full
            return
        value.type = ir.serde.deserialize_type_proto_for_type(full)
    elif value.type is None and known.dtype.kind != "O":
        value.type = ir.TensorType(ir.DataType.from_numpy(known.dtype))
    if value.type is None or known.shape is None:
        return
    # "unk__0" and the like are names that inference made up.
    made_up = [isinstance(dim, str) and dim.startswith("unk__") for dim in known.shape]
    value.shape = ir.Shape(
        None if hidden else dim for hidden, dim in zip(made_up, known.shape, strict=True)
    )


def boundaries(graph: OpGraph, stages: Sequence[Stage]) -> tuple[Boundary, ...]:
    """The values that go from one stage to another, once for each reader, in the order made."""
    stage_of = {op: stage.name for stage in stages for op in stage.ops}
    found: dict[tuple[str, str, str], Boundary] = {}
    for op in graph.ops.values():
        source = stage_of.get(op.id)
        for value in op.outputs:
            if value in graph.constants:
                continue  # comes along with each reader
            for user in graph.consumers.get(value, ()):
                target = stage_of.get(user)
                if source is None or target is None or source == target:
                    continue
                size = graph.values[value].nbytes
                found.setdefault(
                    (value, source, target), Boundary(value, source, target, nbytes=size)
                )
    return tuple(found.values())
