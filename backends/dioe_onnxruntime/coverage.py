"""Which source ops each node of an optimised model covers. Pure; protobufs in, names out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class NodeLike(Protocol):
    """What is needed of a NodeProto."""

    @property
    def name(self) -> str: ...
    @property
    def op_type(self) -> str: ...
    @property
    def input(self) -> Iterable[str]: ...
    @property
    def output(self) -> Iterable[str]: ...


_TOKEN = re.compile(r"<(\d+)>")
_NCHWC = re.compile(r"_nchwc(?:_token_\d+)?$")
_BATCH_NORM = re.compile(r"_bn_nchwc(?:_token_\d+)?$")  # a batch norm as a convolution
_REORDERS = frozenset({"ReorderInput", "ReorderOutput"})


def token(index: int) -> str:
    """The node name that marks source op ``index``; fused nodes' names contain it."""
    return f"<{index}>"


def covered_ops(
    source: Sequence[NodeLike], optimised: Sequence[NodeLike]
) -> Mapping[str, tuple[int, ...]]:
    """Indices of the source ops that each optimised node, by name, does the work of.

    ``source`` nodes are named by ``token``; both are in topological order. Each source op goes to
    one optimised node. ONNX Runtime keeps value names where it fuses, so a node covers what lies
    between its outputs and other nodes' outputs; nodes it moved to the NCHWc layout are named
    after the value they make; other renamed ones still carry tokens in their names.
    """
    producer = {value: i for i, node in enumerate(source) for value in node.output if value}
    inputs = [tuple(node.input) for node in source]
    made = [_source_values(node, producer) for node in optimised]
    alive = {value for values in made for value in values}
    claimed: dict[int, str] = {}
    maker: dict[str, str] = {}
    covers: dict[str, list[int]] = {node.name: [] for node in optimised}
    for node, values in zip(optimised, made, strict=True):
        reached = _between(values, alive - set(values), producer, inputs)
        reached |= {int(i) for i in _TOKEN.findall(node.name) if int(i) < len(inputs)}
        owner = node.name
        if node.op_type in _REORDERS:
            # A copy between layouts computes nothing; what it seems to cover was fused before it.
            owner = next((maker[v] for v in node.input if v in maker), owner)
        for op in sorted(reached - claimed.keys()):
            claimed[op] = owner
            covers[owner].append(op)
        maker.update((value, owner) for value in node.output)
    return {name: tuple(sorted(ops)) for name, ops in covers.items()}


def _source_values(node: NodeLike, producer: Mapping[str, int]) -> tuple[str, ...]:
    values = tuple(v for v in node.output if v in producer)
    if values:
        return values
    for suffix in (_NCHWC, _BATCH_NORM):
        named_after = suffix.sub("", node.name)
        if named_after != node.name and named_after in producer:
            return (named_after,)
    return ()


def _between(
    values: Iterable[str],
    stops: set[str],
    producer: Mapping[str, int],
    inputs: Sequence[tuple[str, ...]],
) -> set[int]:
    """Ops that lead to ``values``, as far back as values in ``stops``."""
    reached: set[int] = set()
    waiting = [producer[v] for v in values]
    while waiting:
        op = waiting.pop()
        if op in reached:
            continue
        reached.add(op)
        waiting.extend(producer[v] for v in inputs[op] if v in producer and v not in stops)
    return reached
