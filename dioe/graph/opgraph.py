"""The OpGraph: a model's ops with shapes, FLOPs and bytes, as networkx and as integer indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import onnx_ir as ir

from dioe.flops import bytes_read, total
from dioe.graph.folding import RANDOM
from dioe.graph.guard import reading
from dioe.graph.model import Model, is_placed
from dioe.graph.opcosts import OpCosts
from dioe.graph.shapes import Scope
from dioe.graph.tensors import Tensor, constant_tensor, nbytes, spec
from dioe.types import Dim, TensorSpec


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A value of the main graph. ``nbytes`` is None where a dimension is unknown."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class OpInfo:
    """One op, with what a run of it costs; None where shapes or the op's family are unknown.

    ``inputs`` and ``outputs`` are value names, absent optional ones left out; ``captured`` are the
    values that its bodies (``If``, ``Loop``, ``Scan``) read from outside. ``parameters`` are the
    constant elements it reads, ``parameter_bytes`` their size: part of ``bytes_read``, and counted
    for each op that shares them. Conventions: ``dioe.flops``.
    """

    id: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...]
    flops: int | None
    bytes_read: int | None
    bytes_written: int | None
    parameters: int
    parameter_bytes: int

    @property
    def reads(self) -> tuple[str, ...]:
        """Inputs and captured values, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.captured)))


class OpGraph:
    """A model's ops as a directed graph; make one with ``build``, and treat it as read-only.

    Nodes are op ids. ``Constant`` nodes are parameters of their consumers and no nodes here, unless
    their output is one of the model's. Calls of model-local functions are single ops. ``ops`` is in
    topological order, and so are the integer indices that the fast parts use: ``index`` of an op
    id, ``successors`` and ``predecessors`` of an index.
    """

    def __init__(
        self, model: Model, ops: Mapping[str, OpInfo], values: Mapping[str, ValueInfo]
    ) -> None:
        """Wrap what ``build`` found."""
        self.model = model
        self.ops = ops
        self.values = values
        self.ids = tuple(ops)
        self.index = {op: i for i, op in enumerate(self.ids)}
        self.producers = {
            name: op.id for op in ops.values() if op.op_type != "Constant" for name in op.outputs
        }

    @classmethod
    def build(cls, model: Model, shapes: Mapping[str, Sequence[Dim]] | None = None) -> OpGraph:
        """The graph of a model, with its input shapes bound first where some are given.

        ``model`` of the result is then the shape-bound copy, of the same hash. Raises InputError as
        ``Model.with_shapes`` does, ModelError for a malformed model.
        """
        if shapes:
            model = model.with_shapes(shapes)
        with reading(model.place):
            return cls._of(model)

    @classmethod
    def _of(cls, model: Model) -> OpGraph:
        scope = model.inferred
        values = {name: _value(found) for name, found in scope.specs.items()}
        for value in _top_level(model.ir.graph):
            name = value.name or ""
            known = values.get(name)
            if known is None or known.shape is None:
                declared = spec(value)
                # Inference knows types better than the file does, and shapes only if it says so.
                if known is not None and known.dtype.kind != "O":
                    declared = replace(declared, dtype=known.dtype)
                values[name] = _value(declared)
        costs = OpCosts(model)
        constants = _constants(model.ir)
        ops = {
            node.name or "": _op(node, costs, values, constants)
            for node in model.ir.graph
            if is_placed(node)
        }
        return cls(model, ops, values)

    @property
    def inferred(self) -> Scope:
        """What shape inference found, bodies included."""
        return self.model.inferred

    @cached_property
    def constants(self) -> Mapping[str, Tensor]:
        """Tensors of initializers and ``Constant`` nodes of the main graph, by value name."""
        return _constants(self.model.ir)

    @cached_property
    def nodes(self) -> Mapping[str, ir.Node]:
        """The ``onnx_ir`` node of each op."""
        return {node.name or "": node for node in self.model.ir.graph if node.name in self.ops}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """The ops that read a value, captured ones included, by value name, in order."""
        readers: dict[str, list[str]] = {}
        for op in self.ops.values():
            for name in op.reads:
                readers.setdefault(name, []).append(op.id)
        return {name: tuple(ops) for name, ops in readers.items()}

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the model's outputs."""
        return frozenset(value.name or "" for value in self.model.ir.graph.outputs)

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the ops that read an op's outputs, by its index, ascending."""
        found: list[set[int]] = [set() for _ in self.ids]
        for source, target, _ in self._edges():
            found[self.index[source]].add(self.index[target])
        return tuple(tuple(sorted(targets)) for targets in found)

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the ops whose outputs an op reads, by its index, ascending."""
        found: list[list[int]] = [[] for _ in self.ids]
        for source, targets in enumerate(self.successors):
            for target in targets:
                found[target].append(source)
        return tuple(map(tuple, found))

    @cached_property
    def is_static(self) -> tuple[bool, ...]:
        """Whether an op depends on constants only, by its index; what draws lots doesn't."""
        inputs = {value.name for value in self.model.ir.graph.inputs} - set(self.constants)
        static: list[bool] = []
        for index, info in enumerate(self.ops.values()):
            before = all(static[i] for i in self.predecessors[index])
            drawn = info.op_type in RANDOM
            static.append(before and not drawn and not inputs.intersection(info.reads))
        return tuple(static)

    @cached_property
    def digraph(self) -> nx.DiGraph[str]:
        """As networkx: nodes are op ids with attribute ``op`` (OpInfo), edges have ``values``."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for op in self.ops.values():
            graph.add_node(op.id, op=op)
        edges: dict[tuple[str, str], list[str]] = {}
        for source, target, name in self._edges():
            edges.setdefault((source, target), []).append(name)
        for (source, target), names in edges.items():
            graph.add_edge(source, target, values=tuple(names))
        return graph

    def _edges(self) -> Iterator[tuple[str, str, str]]:
        for op in self.ops.values():
            for name in op.reads:
                source = self.producers.get(name)
                if source is not None:
                    yield source, op.id, name

    def __repr__(self) -> str:
        return f"OpGraph({self.model.place!r}, {len(self.ops)} ops)"


def _top_level(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from (value for value in node.outputs if value.name)


def _value(found: TensorSpec) -> ValueInfo:
    size = nbytes(found.dtype, found.shape) if found.kind == "tensor" else None
    return ValueInfo(found.name, found.dtype, found.shape, size)


def _constants(model: ir.Model) -> dict[str, Tensor]:
    found = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    for node in model.graph:
        if node.op_type == "Constant" and not node.domain:
            tensor = constant_tensor(node)
            if tensor is not None:
                found[node.outputs[0].name or ""] = tensor
    return found


def captured_values(node: ir.Node) -> tuple[ir.Value, ...]:
    """The values that a node's bodies read from outside, in the order they are met."""
    found: dict[ir.Value, None] = {}
    for body in bodies(node):
        inside = {id(graph) for graph in (body, *body.subgraphs())}
        for graph in (body, *body.subgraphs()):
            used = [value for inner in graph for value in inner.inputs if value is not None]
            for value in (*used, *graph.outputs):
                owner = value.graph
                if owner is not None and id(owner) not in inside:
                    found[value] = None
    return tuple(found)


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs among a node's attributes."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def _op(
    node: ir.Node,
    costs: OpCosts,
    values: Mapping[str, ValueInfo],
    constants: Mapping[str, Tensor],
) -> OpInfo:
    inputs = tuple(value.name or "" for value in node.inputs if value is not None and value.name)
    outputs = tuple(value.name for value in node.outputs if value.name)
    captured = tuple(value.name or "" for value in captured_values(node))
    reads = tuple(dict.fromkeys((*inputs, *captured)))
    weights = [constants[name] for name in reads if name in constants]
    inside = [
        value.const_value
        for body in bodies(node)
        for graph in (body, *body.subgraphs())
        for value in graph.initializers.values()
        if value.const_value is not None
    ] + [
        tensor
        for body in bodies(node)
        for graph in (body, *body.subgraphs())
        for inner in graph
        if inner.op_type == "Constant" and (tensor := constant_tensor(inner)) is not None
    ]
    read = bytes_read(
        node.op_type,
        [values[name].nbytes for name in reads],
        written := [values[name].nbytes for name in outputs],
    )
    inner_bytes = sum(tensor.nbytes for tensor in inside)
    return OpInfo(
        id=node.name or "",
        op_type=node.op_type,
        domain=node.domain,
        inputs=inputs,
        outputs=outputs,
        captured=captured,
        flops=costs.flops(node),
        bytes_read=None if read is None else read + inner_bytes,
        bytes_written=total(written),
        parameters=sum(tensor.size for tensor in (*weights, *inside)),
        parameter_bytes=sum(tensor.nbytes for tensor in weights) + inner_bytes,
    )
