"""Which ops a runtime takes, found by asking it: the whole model first, then op by op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from dioe.types import DioeError, ModelError, StageModel, Support

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MAX_EMBEDDED_BYTES = 1 << 20
"""Constants up to this size go into an op's trial model, since kernels may insist on constants."""

MAX_KEYED_BYTES = 256
"""Constants up to this size are likely axes, pads or shapes, whose values decide what is taken."""


def support_by_trial(
    model: StageModel,
    whole: Callable[[StageModel], None],
    single: Callable[[bytes], None],
    named: Callable[[str], Iterable[str]] = lambda _: (),
) -> Support:
    """What a runtime that can only be tried supports of ``model``.

    ``whole`` and ``single`` try to compile and raise a DioeError with the reason if they can't.
    Where the model fails as a whole, each distinct op is tried as a model of its own. Where all
    of those pass, the ops that the whole model's error names are refused (``named`` finds names
    of nodes in its text); where there are none, all ops are: claiming support that isn't there
    would be worse.
    """
    ops = model.op_ids
    try:
        whole(model)
    except DioeError as error:
        reason = error.cause
    else:
        return Support(frozenset(ops))
    refused: dict[str, str] = {}
    seen: dict[bytes, str | None] = {}
    for op, (key, proto) in zip(ops, _single_op_models(model), strict=True):
        if key not in seen:
            seen[key] = None if proto is None else _reason(single, proto)
        why = seen[key]
        if why is not None:
            refused[op] = why
    if not refused:
        blamed = set(named(reason))
        refused = {
            op: reason
            for op, node in zip(ops, model.ir.graph, strict=True)
            if blamed & {node.name, op, *(v.name for v in node.outputs)}
        }
    if not refused:
        refused = dict.fromkeys(ops, f"the model fails as a whole: {reason}")
    return Support(frozenset(ops) - refused.keys(), refused)


def _reason(single: Callable[[bytes], None], proto: onnx.ModelProto) -> str | None:
    try:
        single(proto.SerializeToString())
    except DioeError as error:
        return error.cause
    return None


def _single_op_models(model: StageModel) -> Iterator[tuple[bytes, onnx.ModelProto | None]]:
    """For each op a model of it alone (None where a type is unknown) and a key that ops which
    differ only in the values of larger constants share."""
    import onnx_ir as ir
    from onnx import helper

    source = model.ir
    opsets = [helper.make_opsetid(domain, v) for domain, v in source.opset_imports.items()]
    functions = [ir.to_proto(f) for f in source.functions.values()]
    inferred = _inferred(model)
    for node in source.graph:
        proto = ir.to_proto(node)
        names: dict[str, str] = {}
        inputs: list[ir.Value] = []
        constants: list[onnx.TensorProto] = []
        for value in _read_values(node):
            if not value.name or value.name in names:
                continue
            names[value.name] = f"i{len(names)}"
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is not None and tensor.nbytes <= MAX_EMBEDDED_BYTES:
                constant = ir.to_proto(tensor)
                constant.name = value.name
                constants.append(constant)
            else:
                inputs.append(value)
        if any(value.type is None and value.name not in inferred for value in inputs):
            yield b"", None
            continue
        if _bodies(node):
            names = {name: name for name in names}
        else:
            _rename(proto, constants, names)
        outputs = [
            _value_info(value, proto.output[i], inferred)
            for i, value in enumerate(node.outputs)
            if proto.output[i]
        ]
        infos = [_value_info(value, names[value.name or ""], inferred) for value in inputs]
        graph = helper.make_graph([proto], "op", infos, outputs)
        single = helper.make_model(
            graph, opset_imports=opsets, functions=functions, ir_version=source.ir_version
        )
        key = [single.SerializeToString(deterministic=True)]
        for constant in constants:
            small = constant.ByteSize() <= MAX_KEYED_BYTES
            key.append(
                constant.SerializeToString(deterministic=True)
                if small
                else f"{constant.name}{constant.data_type}{list(constant.dims)}".encode()
            )
        single.graph.initializer.extend(constants)
        yield b"|".join(key), single


def _rename(
    proto: onnx.NodeProto, constants: list[onnx.TensorProto], names: dict[str, str]
) -> None:
    """Give an op and its values neutral names, so that equal ops give equal models."""
    proto.name = ""
    proto.doc_string = ""
    del proto.metadata_props[:]
    for i, name in enumerate(proto.input):
        proto.input[i] = names.get(name, name)
    for i, name in enumerate(proto.output):
        proto.output[i] = f"o{i}" if name else ""
    for tensor in constants:
        tensor.name = names[tensor.name]


def _inferred(model: StageModel) -> dict[str, onnx.ValueInfoProto]:
    """Types of inner values by name, as far as ONNX can tell; none for models above 2 GiB."""
    import onnx

    try:
        proto = onnx.load_from_string(model.to_bytes())
    except ModelError:
        return {}
    return {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.value_info}


def _value_info(
    value: ir.Value, name: str, inferred: dict[str, onnx.ValueInfoProto]
) -> onnx.ValueInfoProto:
    import onnx
    import onnx_ir as ir

    proto = onnx.ValueInfoProto()
    known = inferred.get(value.name or "")
    proto.CopyFrom(ir.to_proto(value) if known is None or value.type is not None else known)
    proto.name = name
    del proto.metadata_props[:]
    return proto


def _read_values(node: ir.Node) -> Iterator[ir.Value]:
    """Inputs of a node and what its sub-graphs capture from outside."""
    yield from (v for v in node.inputs if v is not None)
    inner: set[int] = set()
    captured: list[ir.Value] = []
    for graph in _bodies(node):
        inner.update(id(v) for v in graph.inputs)
        inner.update(id(v) for v in graph.initializers.values())
        captured.extend(graph.outputs)
        for child in graph:
            inner.update(id(v) for v in child.outputs)
            captured.extend(v for v in child.inputs if v is not None)
    yield from (v for v in captured if id(v) not in inner)


def _bodies(node: ir.Node) -> list[ir.Graph]:
    """Sub-graphs of a node, nested ones too."""
    import onnx_ir as ir

    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        else:
            continue
        for graph in graphs:
            found.append(graph)
            for child in graph:
                found.extend(_bodies(child))
    return found
