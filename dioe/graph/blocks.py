"""Blocks: convex groups of ops that are profiled and placed as one unit.

A block is what a backend would fuse anyway, grown around one op that does the work:

1. patterns first (attention, decomposed layer normalisation);
2. every convolution, matrix product, recurrent or control-flow op, normalisation, and op of a
   custom domain starts a block;
3. in topological order, ops that work element by element or only move data join the latest block
   that they read: biases, batch normalisation, activations however decomposed, residual additions,
   reshapes, shape computations. Joining the latest never makes a cycle;
4. ``DequantizeLinear`` and ops that depend on constants only wait for the op that reads them, so
   DQ, op and Q stay together;
5. what is left over and does little work (pooling, reductions, resizing) joins a neighbour, and
   what nothing reads joins any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import onnx_ir as ir

from dioe.graph.guard import reading
from dioe.graph.opgraph import OpGraph, bodies
from dioe.graph.partition import Partition
from dioe.graph.patterns import (
    ATTENTION,
    CONTROL,
    CONV,
    ELEMENTWISE,
    MATMUL,
    MOVEMENT,
    NORM,
    RECURRENT,
    is_quantized,
    matches,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A convex group of ops, in topological order.

    ``structure_hash`` is equal for repeated blocks: same op types, attributes, shapes, dtypes and
    wiring; names and values of weights don't count. ``kind`` is ``conv``, ``matmul``,
    ``attention``, ``layernorm``, ``recurrent``, ``control``, ``quantized``, ``gelu``,
    ``elementwise``, ``movement`` or ``other``, after the work it does.
    """

    id: str
    ops: tuple[str, ...]
    kind: str
    structure_hash: str


_TO_CONSUMER = ("GlobalAveragePool", "GlobalMaxPool", "Reduce", "Arg")  # belong to what uses them


def find_blocks(graph: OpGraph, marks: Mapping[str, str] | None = None) -> tuple[Block, ...]:
    """Blocks that cover each op once, in a topological order of their (acyclic) quotient graph.

    Ops whose ``marks`` (by op id; none is a mark too) differ are never in one block. Raises
    ModelError for a malformed model.
    """
    with reading(graph.model.place):
        return _find(graph, marks or {})


def _find(graph: OpGraph, marks: Mapping[str, str]) -> tuple[Block, ...]:
    grower = _Grower(graph)
    grower.match()
    grower.grow()
    grower.absorb_light()
    grower.absorb_dead()
    hasher = _Hasher(graph)
    blocks: list[Block] = []
    for group in grower.partition.groups():
        indices = sorted(grower.partition.members[group])
        # ops that follow each other in a topological order of a convex group are convex
        for _, run in groupby(indices, key=lambda i: marks.get(graph.ids[i], "")):
            part = list(run)
            ops = tuple(graph.ids[i] for i in part)
            blocks.append(Block(f"block{len(blocks)}", ops, grower.kind(part), hasher.hash(ops)))
    return tuple(blocks)


class _Grower:
    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.partition = Partition(graph)
        self.infos = [graph.ops[op] for op in graph.ids]
        self.patterns: dict[int, str] = {}  # op index -> kind of the pattern it is in
        self.static = graph.is_static

    def match(self) -> None:
        for kind, indices in matches(self.graph):
            if any(i in self.patterns for i in indices):
                continue
            groups = {self.partition.group_of[i] for i in indices}
            if self.partition.merge(groups) is not None:
                self.patterns.update(dict.fromkeys(indices, kind))

    def _heavy(self, index: int) -> bool:
        info = self.infos[index]
        return bool(info.domain) or info.op_type in _STARTERS or index in self.patterns

    def _waits(self, group: int) -> bool:
        """Whether a group is for the first op that reads it to take: dequantised or constant."""
        members = self.partition.members[group]
        if all(self.static[i] for i in members):
            return True
        return len(members) == 1 and self.infos[members[0]].op_type == "DequantizeLinear"

    def grow(self) -> None:
        partition = self.partition
        for index, info in enumerate(self.infos):
            own = partition.group_of[index]
            before = sorted(partition.predecessors[own], key=partition.position)
            waiting = [group for group in before if self._waits(group)]
            joins = not self._heavy(index) and not self.static[index]
            joins &= info.op_type in ELEMENTWISE or info.op_type in MOVEMENT
            settled = [group for group in before if group not in waiting]
            wanted = [own, *waiting, *(settled[-1:] if joins else [])]
            if self.static[index]:
                wanted = [own, *before]
            if partition.merge(wanted) is None:
                # A constant that several blocks share can't always come along.
                for group in wanted[1:]:
                    member = partition.members[group][0]
                    partition.merge([partition.group_of[index], partition.group_of[member]])

    def absorb_light(self) -> None:
        """Give every group without an op that does much work to a neighbour, if it has one."""
        partition = self.partition
        for group in partition.groups():
            if group not in partition.members or self._is_heavy(group):
                continue
            before = sorted(partition.predecessors[group], key=partition.position)
            after = sorted(partition.successors[group], key=partition.position)
            first = self.infos[min(partition.members[group])].op_type
            to_consumer = first.startswith(_TO_CONSUMER) and len(after) == 1
            # The latest group it reads and the earliest that reads it can always be merged with it.
            if before and not to_consumer:
                partition.merge([group, before[-1]])
            elif after:
                partition.merge([group, after[0]])

    def absorb_dead(self) -> None:
        """Give groups that make nothing anyone needs to another one: alone they are no stage."""
        needed = [bool(self.graph.outputs.intersection(info.outputs)) for info in self.infos]
        for index in reversed(range(len(needed))):
            needed[index] |= any(needed[target] for target in self.graph.successors[index])
        partition = self.partition
        live = {partition.group_of[index] for index, is_needed in enumerate(needed) if is_needed}
        for group in partition.groups():
            if group in live or not live or group not in partition.members:
                continue
            # What it reads was looked at before and is live by now; a group that reads nothing
            # and that nothing reads fits anywhere.
            before = sorted(partition.predecessors[group], key=partition.position)
            target = before[-1] if before else min(live, key=partition.position)
            live.discard(target)
            merged = partition.merge([group, target])
            live.add(target if merged is None else merged)

    def _is_heavy(self, group: int) -> bool:
        return any(self._heavy(i) for i in self.partition.members[group])

    def kind(self, indices: list[int]) -> str:
        """The kind of a block, after the work its ops do."""
        types = {self.infos[i].op_type for i in indices}
        found = {self.patterns[i] for i in indices if i in self.patterns}
        if any(map(is_quantized, types)):
            return "quantized"
        for kind, starters in _KINDS:
            if types & starters or kind in found:
                return kind
        if any(self.infos[i].domain for i in indices):
            return "other"
        if "Erf" in types or "Gelu" in types:
            return "gelu"
        if types <= MOVEMENT:
            return "movement"
        return "elementwise" if types <= ELEMENTWISE | MOVEMENT else "other"


_KINDS = (
    ("control", CONTROL),
    ("attention", ATTENTION),
    ("recurrent", RECURRENT),
    ("conv", CONV),
    ("matmul", MATMUL),
    ("layernorm", NORM),
)
_STARTERS = CONV | MATMUL | RECURRENT | CONTROL | NORM | ATTENTION


class _Hasher:
    """Hashes of the structure of groups of ops."""

    def __init__(self, graph: OpGraph) -> None:
        self._graph = graph

    def hash(self, ops: tuple[str, ...]) -> str:
        """SHA-256, as hex, of op types, attributes, types and wiring, with names numbered."""
        graph = self._graph
        produced: dict[str, str] = {}
        numbers: dict[str, str] = {}
        inside = set(ops)
        lines: list[str] = []
        for index, op in enumerate(ops):
            node, info = graph.nodes[op], graph.ops[op]
            reads = [value.name or "" if value is not None else "" for value in node.inputs]
            sources = []
            for name in (*reads, *info.captured):
                if name in produced:
                    sources.append(produced[name])
                    continue
                label = "constant" if name in graph.constants else "input"
                sources.append(
                    numbers.setdefault(name, f"{label}{len(numbers)}{self._type(name)}")
                    if name
                    else "absent"
                )
            results = []
            for position, value in enumerate(node.outputs):
                name = value.name or ""
                produced[name] = f"op{index}.{position}"
                leaves = name in graph.outputs or any(
                    user not in inside for user in graph.consumers.get(name, ())
                )
                results.append(f"{self._type(name)}{'out' if leaves else ''}")
            lines.append(f"{_signature(node)}({', '.join(sources)}) -> {', '.join(results)}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _type(self, name: str) -> str:
        info = self._graph.values.get(name)
        return "" if info is None else f":{info.dtype}{info.shape}"


def _signature(node: ir.Node) -> str:
    """Op type and attributes, without names: tensors by type and shape, bodies by their ops."""
    parts = []
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        if attribute.is_ref():
            parts.append(f"{name}=@{attribute.ref_attr_name}")
        elif attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            parts.append(f"{name}={tensor.dtype.name}{tensor.shape}")
        elif attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            parts.append(f"{name}={attribute.value}")
    for body in bodies(node):
        parts.append("{" + ";".join(_signature(inner) for inner in body) + "}")
    return f"{node.domain}::{node.op_type}[{','.join(parts)}]"
