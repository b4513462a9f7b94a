"""Checks of a model's protobuf that name the op at fault, before anything else looks at it.

``onnx.checker`` stops at shapes and types it can't prove and needs the weights; these checks find
what makes a model unusable: unknown ops, names defined twice or never, missing opsets, tensors
whose data isn't what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import onnx
import onnx.defs

from dioe.graph.guard import shown
from dioe.graph.payload import TYPES, fault
from dioe.types import ModelError

_INT32_MAX = 2**31 - 1  # opset versions are C ints in onnx


def check_proto(proto: onnx.ModelProto, place: str) -> bool:
    """Check a model; True if its nodes are in topological order. Raises ModelError.

    Custom domains are left to the backends, which may know them (``com.microsoft``); an op of a
    standard domain must exist in the imported opset, or be a function of the model.
    """
    functions = frozenset((f.domain, f.name) for f in proto.functions)
    opsets = _opsets(proto.opset_import)
    if not opsets and proto.graph.node:
        raise ModelError(
            "names no opset", place=place, fix="export the model again with an opset_import"
        )
    check = _Check(place, opsets, functions)
    check.opset_versions()
    check.ends(proto.graph)
    in_order = check.graph(proto.graph, frozenset())
    for function in proto.functions:
        body = onnx.GraphProto(name=function.name, node=function.node)
        body.input.extend(onnx.ValueInfoProto(name=name) for name in function.input)
        body.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
        inner = _Check(
            f"{place}, function {function.name!r}", _opsets(function.opset_import), functions
        )
        inner.opset_versions()
        in_order &= inner.graph(body, frozenset())
    return in_order


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {_domain(opset.domain): opset.version for opset in imports}


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


@cache
def _standard_domains() -> frozenset[str]:
    return frozenset(schema.domain for schema in onnx.defs.get_all_schemas())


@dataclass(frozen=True)
class _Check:
    place: str
    opsets: Mapping[str, int]
    functions: frozenset[tuple[str, str]]

    def opset_versions(self) -> None:
        """Check that every imported version can exist, and that onnx knows the default domain's."""
        for domain, version in self.opsets.items():
            newest = _INT32_MAX if domain else onnx.defs.onnx_opset_version()
            if not 1 <= version <= newest:
                known = "" if domain and version > 0 else f"; known are 1 to {newest}"
                raise self._error(
                    f"imports opset {version} of domain {domain or 'ai.onnx'!r}{known}",
                    "export the model with an opset that is known, or upgrade onnx",
                )

    def ends(self, graph: onnx.GraphProto) -> None:
        """Check that the main graph makes something, and says of which type its inputs are."""
        if not graph.output:
            raise self._error("has no outputs", "export the model again")
        defaults = {tensor.name for tensor in graph.initializer}
        for info in graph.input:
            if info.name not in defaults and _element(info.type) == 0:
                raise self._error(
                    f"input {info.name!r} has no type", "export the model with typed inputs"
                )

    def graph(self, graph: onnx.GraphProto, outer: frozenset[str]) -> bool:
        """Check one graph, given the names of the graphs around it; True if it is in order."""
        if graph.sparse_initializer:
            raise self._error(
                "has sparse initializers, which are not supported", "store them as dense tensors"
            )
        self._text(graph)
        self._data(graph)
        known = self._given(graph)
        later = self._produced(graph, known)
        in_order = True
        for node in graph.node:
            self._op(node)
            for name in node.input:
                if not name or name in known or name in outer:
                    continue
                if name not in later:
                    raise self._error(
                        f"{_label(node)} reads {name!r}, which nothing makes",
                        "export the model again",
                    )
                in_order = False
            for attribute in node.attribute:
                inner = [attribute.g] if attribute.HasField("g") else attribute.graphs
                for body in inner:
                    visible = outer | known | later
                    in_order &= self.graph(body, visible)
                    in_order &= not (_free_names(body) & (later - known))
            known.update(name for name in node.output if name)
        for output in graph.output:
            if output.name not in known and output.name not in outer:
                raise self._error(
                    f"output {output.name!r} is made by nothing", "export the model again"
                )
        return in_order

    def _text(self, graph: onnx.GraphProto) -> None:
        """Check that names are UTF-8; protobuf hands out those that aren't as bytes."""
        for name in _names(graph):
            if not isinstance(name, str):
                raise self._error(
                    f"has a name that is not UTF-8: {name!r}", "export or download the model again"
                )

    def _data(self, graph: onnx.GraphProto) -> None:
        """Check the types of a graph's values and all its tensors, those of its bodies excepted."""
        for info in (*graph.input, *graph.output, *graph.value_info):
            element = _element(info.type)
            if element not in TYPES and element:
                raise self._error(
                    f"value {info.name!r} has the data type {element}, which doesn't exist",
                    "export the model again",
                )
        for tensor in graph.initializer:
            self._tensor(f"initializer {tensor.name!r}", tensor)
        for node in graph.node:
            for attribute in node.attribute:
                for tensor in _attribute_tensors(attribute):
                    self._tensor(f"attribute {attribute.name!r} of {_label(node)}", tensor)

    def _tensor(self, what: str, tensor: onnx.TensorProto) -> None:
        wrong = fault(tensor)
        if wrong is not None:
            raise self._error(f"{what} {wrong}", "export or download the model again")

    def _given(self, graph: onnx.GraphProto) -> set[str]:
        known: set[str] = set()
        for what, names in (
            ("input", [info.name for info in graph.input]),
            ("initializer", [tensor.name for tensor in graph.initializer]),
        ):
            seen: set[str] = set()
            for name in names:
                if name in seen:
                    raise self._error(f"{what} {name!r} is there twice", "export the model again")
                if not name:
                    raise self._error(f"an {what} has no name", "export the model again")
                seen.add(name)
            known |= seen  # an initializer may be an input too: its default value
        return known

    def _produced(self, graph: onnx.GraphProto, given: set[str]) -> set[str]:
        produced: set[str] = set()
        for node in graph.node:
            for name in node.output:
                if name and (name in produced or name in given):
                    raise self._error(
                        f"{_label(node)} makes {name!r}, which exists already",
                        "export the model again",
                    )
                if name:
                    produced.add(name)
        return produced

    def _op(self, node: onnx.NodeProto) -> None:
        domain = _domain(node.domain)
        if (node.domain, node.op_type) in self.functions:
            return
        if domain not in self.opsets:
            raise self._error(
                f"{_label(node)} is of domain {domain or 'ai.onnx'!r}, which isn't imported",
                "add the domain to opset_import",
            )
        if domain not in _standard_domains():
            return
        if not _exists(node.op_type, domain, self.opsets[domain]):
            raise self._error(
                f"{_label(node)}: domain {domain or 'ai.onnx'!r} has no op {node.op_type!r} "
                f"at opset {self.opsets[domain]}",
                "check the op's name, domain and opset_import",
            )

    def _error(self, cause: str, fix: str) -> ModelError:
        return ModelError(cause, place=self.place, fix=fix)


@cache
def _exists(op_type: str, domain: str, opset: int) -> bool:
    return bool(onnx.defs.has(op_type, opset, domain))


def _free_names(graph: onnx.GraphProto) -> set[str]:
    """Names a sub-graph reads from outside."""
    own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    used = {name for node in graph.node for name in node.input if name}
    used |= {info.name for info in graph.output}
    for node in graph.node:
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                used |= _free_names(body)
    return used - own


def _label(node: onnx.NodeProto) -> str:
    return f"op {node.name or next(iter(node.output), '')!r} ({shown(node.op_type)})"


def _names(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (tensor.name for tensor in graph.initializer)
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield info.name
        yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)


def _attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.ref_attr_name:
        return
    if attribute.type == onnx.AttributeProto.TENSOR:
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for tensor in (*sparse, *attribute.sparse_tensors):
        yield tensor.values
        yield tensor.indices


def _element(proto: onnx.TypeProto) -> int | None:
    """The element type of a tensor, or of those in a sequence or optional; 0 if it has none.

    None for maps and opaque types.
    """
    while (form := proto.WhichOneof("value")) in ("sequence_type", "optional_type"):
        proto = getattr(proto, form).elem_type
    if form is None:
        return 0
    if form not in ("tensor_type", "sparse_tensor_type"):
        return None
    return int(getattr(proto, form).elem_type)
