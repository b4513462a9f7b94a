"""Binding input shapes, and inferring the shapes of everything else.

``onnx.shape_inference`` with data propagation does most of the work, on a copy of the model
without its weights. Where it stops, at shapes computed by ops it can't follow and at ``If`` with a
condition that follows from the shapes, the small constant computations are evaluated with
``onnx.reference`` and inference goes on, until nothing new is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx.defs
import onnx.shape_inference
import onnx_ir as ir

from dioe.graph.folding import Folded, Path, fold
from dioe.graph.guard import shown
from dioe.graph.tensors import dims, innermost, numpy_dtype, skeleton, spec
from dioe.types import Array, Dim, InputError, TensorSpec

_MAX_PASSES = 12  # inference and folding in turn; real models settle in two to five


@dataclass(frozen=True, slots=True)
class Scope:
    """What inference found in one graph: specs and constants by name, and the same for its bodies.

    ``bodies`` are keyed by (first output of the op, attribute name). ``taken`` names, for an ``If``
    whose condition is known, the attribute of the branch that runs. ``types`` are those in full
    that a spec doesn't tell apart: strings, sequences, optionals, maps.
    """

    specs: Mapping[str, TensorSpec]
    constants: Mapping[str, Array]
    bodies: Mapping[tuple[str, str], Scope] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, onnx.TypeProto] = field(default_factory=dict)


def input_specs(model: ir.Model) -> tuple[TensorSpec, ...]:
    """Specs of the inputs that a caller has to give: initializers are defaults, not inputs."""
    return tuple(spec(v) for v in model.graph.inputs if v.name not in model.graph.initializers)


def bind_dims(
    specs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[Dim]]
) -> dict[str, tuple[Dim, ...] | None]:
    """Shapes of all inputs once ``shapes`` are given, symbols bound alike everywhere.

    A given dimension of None or a symbol leaves the declared one. Raises InputError for an unknown
    name, what is no shape (dimensions are int64 in ONNX), another rank, a contradiction to a fixed
    dimension, or a symbol bound twice differently.
    """
    known = {s.name: s for s in specs}
    symbols: dict[str, tuple[int, str]] = {}
    bound: dict[str, tuple[Dim, ...] | None] = {s.name: s.shape for s in specs}
    for name, given in shapes.items():
        if name not in known:
            raise InputError(
                f"the model has no input {name!r}",
                fix=f"its inputs are {', '.join(map(shown, known))}",
            )
        declared = known[name].shape
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise InputError(
                f"{given!r} is no shape of input {name!r}", fix="give a sequence of dimensions"
            )
        new = tuple(_dim(name, dim) for dim in given)
        if declared is None:
            bound[name] = new
            continue
        if len(new) != len(declared):
            raise InputError(
                f"input {name!r} has rank {len(declared)}, the shape given has {len(new)}",
                fix=f"give {len(declared)} dimensions: {_text(declared)}",
            )
        merged = list(declared)
        for axis, (dim, old) in enumerate(zip(new, declared, strict=True)):
            if not isinstance(dim, int):
                continue
            if isinstance(old, int) and dim != old:
                raise InputError(
                    f"dimension {axis} of input {name!r} is {old}, not {dim}",
                    fix=f"the model's shape is {_text(declared)}",
                )
            if isinstance(old, str):
                first, where = symbols.setdefault(old, (dim, f"{name!r}"))
                if first != dim:
                    raise InputError(
                        f"dimension {old!r} is {first} in input {where} and {dim} in {name!r}",
                        fix="give the same number for both",
                    )
            merged[axis] = dim
        bound[name] = tuple(merged)
    return {
        name: None
        if shape is None
        else tuple(symbols[d][0] if isinstance(d, str) and d in symbols else d for d in shape)
        for name, shape in bound.items()
    }


def _dim(name: str, dim: Dim) -> Dim:
    if dim is None or isinstance(dim, str):
        return None
    if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or not 0 <= dim < 2**63:
        raise InputError(
            f"{dim!r} is no dimension of input {name!r}",
            fix="give whole numbers from 0 to 2^63 - 1",
        )
    return int(dim)


def _text(shape: Sequence[Dim]) -> str:
    return ",".join("?" if dim is None else shown(str(dim)) for dim in shape)


def bind(model: ir.Model, bound: Mapping[str, tuple[Dim, ...] | None]) -> tuple[ir.Model, Scope]:
    """A copy of ``model`` with bound input shapes and all others inferred; and what was inferred.

    ``bound`` is what ``bind_dims`` gives. Weights are shared. What can't be inferred keeps only the
    numbers that it declared, if it is an output, and nothing if it is not.
    """
    copy = model.clone()
    for value in copy.graph.inputs:
        shape = bound.get(value.name or "")
        if shape is not None:
            value.shape = ir.Shape(shape)
    outputs = set(copy.graph.outputs)
    declared = {value.name: dims(value.shape) for value in outputs}
    for graph in (copy.graph, *copy.graph.subgraphs()):
        for node in graph:
            for value in node.outputs:
                value.shape = None
    scope = infer(copy)
    for node in copy.graph:
        for value in node.outputs:
            found = scope.specs.get(value.name or "")
            if found is not None and found.shape is not None:
                if value.type is None and found.kind == "tensor" and found.dtype != object:
                    value.type = ir.TensorType(ir.DataType.from_numpy(found.dtype))
                if value.type is not None:
                    value.shape = ir.Shape([d if isinstance(d, int) else None for d in found.shape])
            elif value in outputs and (old := declared[value.name]) is not None:
                value.shape = ir.Shape([d if isinstance(d, int) else None for d in old])
    return copy, scope


def infer(model: ir.Model) -> Scope:
    """Specs of all values of a model, bodies included, and the constants that shapes give."""
    proto = skeleton(model)
    found = Folded()
    inferred = proto
    for _ in range(_MAX_PASSES):
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        if not fold(proto, inferred, found):
            break
    scope = _scope(inferred.graph, found, ())
    specs, types = dict(scope.specs), dict(scope.types)
    for node in model.graph:
        _fill_types(node, specs, types, model.opset_imports)
    return replace(scope, specs=specs, types=types)


def _fill_types(
    node: ir.Node,
    specs: dict[str, TensorSpec],
    full: dict[str, onnx.TypeProto],
    opsets: Mapping[str, int],
) -> None:
    """Types that inference left out (it drops them where a shape fails), by the op's schema."""
    unknown = [
        (position, value.name)
        for position, value in enumerate(node.outputs)
        if value.name
        and value.name not in full
        and (value.name not in specs or specs[value.name].dtype.kind == "O")
    ]
    if not unknown or not onnx.defs.has(node.op_type, opsets.get(node.domain, 1), node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    alike: dict[str, TensorSpec] = {}
    for position, value in enumerate(node.inputs):
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        if value is not None and (known := specs.get(value.name or "")) is not None:
            alike.setdefault(formal.type_str, known)
    for position, name in unknown:
        formal = schema.outputs[min(position, len(schema.outputs) - 1)]
        source = alike.get(formal.type_str)
        if node.op_type == "Cast":
            element = ir.DataType(node.attributes["to"].as_int())
            source = TensorSpec(name, numpy_dtype(element), None)
            if element is ir.DataType.STRING:
                full[name] = onnx.helper.make_tensor_type_proto(element.value, None)
        elif source is None and formal.type_str in _FIXED_TYPES:
            source = TensorSpec(name, np.dtype(_FIXED_TYPES[formal.type_str]), None)
        elif source is not None and source.name in full:
            full[name] = full[source.name]
        if source is not None:
            old = specs.get(name, TensorSpec(name, source.dtype, None))
            specs[name] = replace(old, dtype=source.dtype, kind=source.kind)


_FIXED_TYPES = {"tensor(bool)": "bool", "tensor(int64)": "int64", "tensor(float)": "float32"}


def _scope(graph: onnx.GraphProto, found: Folded, path: Path) -> Scope:
    specs: dict[str, TensorSpec] = {}
    for tensor in graph.initializer:
        dtype = numpy_dtype(ir.DataType(tensor.data_type))
        specs[tensor.name] = TensorSpec(tensor.name, dtype, tuple(tensor.dims))
    types: dict[str, onnx.TypeProto] = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        form = info.type.WhichOneof("value")
        if form not in (None, "map_type"):
            specs[info.name] = _spec(info)
        if form is not None and _needs_full(info.type):
            types[info.name] = onnx.TypeProto.FromString(info.type.SerializeToString())
    constants = found.constants.get(path, {})
    for name, array in constants.items():
        specs[name] = TensorSpec(name, array.dtype, array.shape)
    bodies = {}
    for node in graph.node:
        first = next((name for name in node.output if name), "")
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                key = (first, attribute.name)
                bodies[key] = _scope(attribute.g, found, (*path, key))
    return Scope(specs, constants, bodies, found.taken.get(path, {}), types)


def _needs_full(proto: onnx.TypeProto) -> bool:
    """Whether a spec isn't enough to write the type down again; False if it isn't all known."""
    inner = innermost(proto)
    element = inner.tensor_type.elem_type
    if inner is proto and inner.HasField("tensor_type"):
        return bool(element == onnx.TensorProto.STRING)
    return not inner.HasField("tensor_type") or element != onnx.TensorProto.UNDEFINED


def _spec(info: onnx.ValueInfoProto) -> TensorSpec:
    proto, kind = info.type, "tensor"
    while (form := proto.WhichOneof("value")) in ("sequence_type", "optional_type"):
        kind = kind if kind != "tensor" else form.removesuffix("_type")
        proto = getattr(proto, form).elem_type
    tensor = getattr(proto, form) if form in ("tensor_type", "sparse_tensor_type") else None
    if tensor is None:
        return TensorSpec(info.name, np.dtype(object), None, kind)
    shape: tuple[Dim, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            getattr(dim, which) if (which := dim.WhichOneof("value")) else None
            for dim in tensor.shape.dim
        )
    return TensorSpec(info.name, numpy_dtype(ir.DataType(tensor.elem_type)), shape, kind)
