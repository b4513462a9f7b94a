"""What the page's script draws: blocks and values with their places, edges, and facts of ops.

Keys here are the script's (``page.js``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dioe.graph import (
    CONTROL,
    CONV,
    MATMUL,
    NORM,
    RECURRENT,
    Block,
    OpGraph,
    find_blocks,
)
from dioe.types import TensorSpec
from dioe_inspect.groups import Grouping, letters
from dioe_inspect.inspection import Amount, Inspection, OpFacts, dtype_name
from dioe_inspect.layout import Layout, layered
from dioe_inspect.units import flop, milliseconds, tensor

_LETTER_WIDTH = 7.4
"""Pixels of a letter of 12.5 px type, on the wide side of the usual interface fonts."""
_OP_WIDTH = 148.0

Edge = tuple[int, int]
Node = dict[str, Any]


def scene(inspection: Inspection, graph: OpGraph, grouping: Grouping) -> dict[str, Any]:
    """All that the script needs, as plain JSON data."""
    facts = {op.id: op for op in inspection.ops}
    index = {op.id: i for i, op in enumerate(inspection.ops)}
    blocks = find_blocks(graph)
    model = inspection.model
    nodes = [_value_node([spec], "Input of the model") for spec in model.inputs]
    first_block = len(nodes)
    nodes += [_block_node(block, facts, index, graph, grouping) for block in blocks]
    first_output = len(nodes)
    nodes += [_value_node([spec], "Output of the model") for spec in model.outputs]

    node_of = {op: first_block + i for i, block in enumerate(blocks) for op in block.ops}
    made_by = {value: node_of[op] for value, op in graph.producers.items()}
    made_by |= {spec.name: i for i, spec in enumerate(model.inputs)}
    used = [(made_by.get(value), node_of[op.id]) for op in graph.ops.values() for value in op.reads]
    used += [(made_by.get(spec.name), first_output + i) for i, spec in enumerate(model.outputs)]
    edges = sorted({(s, d) for s, d in used if s is not None and s != d})

    layout = layered([node["w"] for node in nodes], edges)
    equal = _equal(blocks, first_block)
    node_of_block = {block.id: first_block + i for i, block in enumerate(blocks)}
    for i, node in enumerate(nodes):
        node |= {"x": _px(layout.x[i]), "layer": layout.layer[i], "equal": equal.get(i, [])}
    return {
        "groups": [
            {"label": label, "letter": letters(i)} for i, label in enumerate(grouping.labels)
        ],
        "layers": layout.layers,
        "nodes": nodes,
        "edges": _edges(layout, edges),
        "ops": [_op(op, inspection, grouping) for op in inspection.ops],
        "targets": [
            {
                "target": target.target,
                "refused": [[index[op], reason] for op, reason in target.refused.items()],
                "cost_ms": target.cost_ms,
                "costed_ops": target.costed_ops,
            }
            for target in inspection.targets
        ],
        "repeats": [
            {"label": nodes[ids[0]]["label"], "nodes": ids, "ops": len(nodes[ids[0]]["ops"])}
            for row in inspection.blocks  # the dearest first
            if row.times > 1 and (row.work.flops.known or len(row.op_types) > 1)
            for ids in [equal[node_of_block[row.ids[0]]]]
        ],
        "op_types": [
            {
                "op_type": row.op_type,
                "count": row.count,
                "flops": _amount(row.work.flops),
                "parameters": row.work.parameters,
            }
            for row in inspection.op_types
        ],
    }


def _px(value: float) -> float:
    return round(value, 1)


def _amount(value: Amount) -> dict[str, int]:
    return {"known": value.known, "unknown": value.unknown_ops}


def _width(*lines: str) -> float:
    return min(250.0, max(96.0, 40 + _LETTER_WIDTH * max(map(len, lines))))


def _value_node(specs: Sequence[TensorSpec], role: str) -> Node:
    label, sub = specs[0].name, tensor(specs[0])
    return {
        "kind": "value",
        "label": label,
        "sub": sub,
        "title": f"{role}: {label}, {sub}",
        "role": role,
        "w": _width(label, sub),
        "ops": [],
        "values": [_value(spec) for spec in specs],
        "group": None,
        "refused": False,
        "inner": None,
    }


def _block_node(
    block: Block,
    facts: Mapping[str, OpFacts],
    index: Mapping[str, int],
    graph: OpGraph,
    grouping: Grouping,
) -> Node:
    ops = [facts[op] for op in block.ops]
    label = _label(block, ops)
    sub = _sub(ops, grouping)
    alone = len(ops) == 1
    refused = not grouping.refused.isdisjoint(block.ops)
    title = f"{ops[0].op_type} {ops[0].id}" if alone else f"{block.kind} block: {label}"
    return {
        "kind": "op" if alone else "block",
        "block_kind": block.kind,
        "label": label,
        "sub": sub,
        "title": title,
        "w": _width(label + "  " * refused, sub),
        "ops": [index[op.id] for op in ops],
        "group": grouping.of(block.ops),
        "refused": refused,
        "inner": None if alone else _inner(block, graph),
    }


_MAIN = {
    "conv": CONV,
    "matmul": MATMUL,
    "recurrent": RECURRENT,
    "control": CONTROL,
    "layernorm": NORM,
}
"""By kind of block, the op types one of which it is built around."""


def _label(block: Block, ops: Sequence[OpFacts]) -> str:
    """What a block is, in a few words: ``Conv + Relu``, ``MatMul + 5 ops``, ``gelu, 5 ops``."""
    kinds = Counter(op.op_type for op in ops)
    if len(ops) == 1:
        return ops[0].op_type
    if not (main := _main(block.kind, ops)):
        return f"{block.kind}, {len(ops)} ops"
    number = f"{kinds[main]} " if kinds[main] > 1 else ""
    others = [kind for kind in kinds if kind != main]
    if len(others) <= 2 and all(kinds[kind] == 1 for kind in others):
        return " + ".join((f"{number}{main}", *others))
    return f"{number}{main} + {len(ops) - kinds[main]} ops"


def _main(kind: str, ops: Sequence[OpFacts]) -> str | None:
    """The op type that does a block's work; None where a pattern of several does."""
    work: Counter[str] = Counter()
    for op in ops:
        if op.op_type in _MAIN.get(kind, ()):
            work[op.op_type] += 1 + (op.flops or 0)
    return work.most_common(1)[0][0] if work else None


def _sub(ops: Sequence[OpFacts], grouping: Grouping) -> str:
    """The second line: work, and the measured time on the target the block is coloured by."""
    work = Amount.of(op.flops for op in ops)
    parts = [flop(work)] if work.known else []
    group = grouping.of(op.id for op in ops)
    target = None if group is None else grouping.labels[group]
    times = [op.costs_ms[target] for op in ops if target is not None and target in op.costs_ms]
    if times:
        parts.append(milliseconds(sum(times)))
    if len(ops) == 1 and ops[0].outputs:
        shape = ops[0].outputs[0].shape
        parts.append("×".join("?" if d is None else str(d) for d in shape) if shape else "")
    return " · ".join(part for part in parts if part)


def _inner(block: Block, graph: OpGraph) -> dict[str, Any]:
    """The layout of a block's ops, for when it is opened."""
    place = {op: i for i, op in enumerate(block.ops)}
    edges = sorted(
        {
            (place[producer], place[op])
            for op in block.ops
            for value in graph.ops[op].reads
            if (producer := graph.producers.get(value)) in place
        }
    )
    layout = layered([_OP_WIDTH] * len(block.ops), edges)
    return {
        "w": _px(layout.width),
        "op_w": _OP_WIDTH,
        "layers": layout.layers,
        "x": [_px(layout.x[i]) for i in range(len(block.ops))],
        "layer": [layout.layer[i] for i in range(len(block.ops))],
        "edges": _edges(layout, edges),
    }


def _edges(layout: Layout, edges: Iterable[Edge]) -> list[dict[str, Any]]:
    return [{"s": s, "d": d, "bends": [_px(x) for x in layout.bends[s, d]]} for s, d in edges]


def _equal(blocks: Sequence[Block], first: int) -> dict[int, list[int]]:
    """For the node of each block, the nodes of all blocks of its structure."""
    groups: dict[str, list[int]] = {}
    for i, block in enumerate(blocks):
        groups.setdefault(block.structure_hash, []).append(first + i)
    return {node: group for group in groups.values() for node in group}


def _value(spec: TensorSpec) -> dict[str, Any]:
    shape = None if spec.shape is None else list(spec.shape)
    return {"name": spec.name, "dtype": dtype_name(spec.dtype), "shape": shape}


def _op(op: OpFacts, inspection: Inspection, grouping: Grouping) -> dict[str, Any]:
    targets = [target.target for target in inspection.targets]
    return {
        "id": op.id,
        "op_type": op.op_type,
        "domain": op.domain,
        "inputs": [_value(spec) for spec in op.inputs],
        "outputs": [_value(spec) for spec in op.outputs],
        "flops": op.flops,
        "bytes_read": op.bytes_read,
        "bytes_written": op.bytes_written,
        "parameters": op.parameters,
        "parameter_bytes": op.parameter_bytes,
        "refused": op.id in grouping.refused,
        "refusals": [op.refused.get(target) for target in targets],
        "costs_ms": [op.costs_ms.get(target) for target in targets],
        "group": grouping.group_of[op.id],
    }
