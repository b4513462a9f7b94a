"""What there is to say about a model: its ops, their work, its blocks, and who can run what.

``inspect_model`` is pure: it looks at a graph and at answers that backends gave before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dioe.graph import Block, Model, OpGraph, OpInfo, find_blocks
from dioe.types import Plan, Stage, Support, TensorSpec

FORMAT = "dioe-inspection"
VERSION = 1

Costs = Mapping[str, Mapping[str, float]]
"""Target -> op id -> measured ms. Ops that were fused away are left out, or have 0."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum over ops: what is known of it, and how many ops it isn't known for."""

    known: int = 0
    unknown_ops: int = 0

    @classmethod
    def of(cls, amounts: Iterable[int | None]) -> Amount:
        """The sum of what is known."""
        amounts = list(amounts)
        return cls(sum(a for a in amounts if a is not None), amounts.count(None))


@dataclass(frozen=True, slots=True)
class Work:
    """What some ops compute, move and hold. FLOPs count a multiply-add as two."""

    flops: Amount
    bytes_read: Amount
    bytes_written: Amount
    parameters: int
    parameter_bytes: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the file says, and the work of one run with the shapes the graph was built for.

    ``inputs`` and ``outputs`` have those shapes, ``declared_inputs`` and ``declared_outputs`` those
    of the file; they are empty where nothing else was bound.
    """

    path: str | None
    sha256: str
    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: int
    work: Work
    declared_inputs: tuple[TensorSpec, ...] = ()
    declared_outputs: tuple[TensorSpec, ...] = ()

    @property
    def bound_inputs(self) -> list[tuple[TensorSpec, TensorSpec]]:
        """Each input as declared, and as it is here."""
        return list(zip(self.declared_inputs or self.inputs, self.inputs, strict=True))

    @property
    def bound_outputs(self) -> list[tuple[TensorSpec, TensorSpec]]:
        """Each output as declared, and as it is here."""
        return list(zip(self.declared_outputs or self.outputs, self.outputs, strict=True))


@dataclass(frozen=True, slots=True)
class OpFacts:
    """One op: where it belongs, its work, who refuses it and why, its measured costs in ms.

    ``inputs`` has all it reads: parameters, and what its bodies capture from outside.
    Where there is a plan, ``stage`` is the one it belongs to, and ``placed_on`` the target, with
    the precision of this op in a stage that mixes several.
    """

    id: str
    op_type: str
    domain: str
    block: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    flops: int | None
    bytes_read: int | None
    bytes_written: int | None
    parameters: int
    parameter_bytes: int
    refused: Mapping[str, str]
    costs_ms: Mapping[str, float]
    placed_on: str | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class OpTypeFacts:
    """All ops of one type; ``op_type`` carries the domain where it isn't ONNX's own."""

    op_type: str
    count: int
    work: Work


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """Equal blocks (one structure hash): the ids of all, the ops and the work of one."""

    structure_hash: str
    kind: str
    ids: tuple[str, ...]
    op_types: tuple[str, ...]
    work: Work

    @property
    def times(self) -> int:
        """How often the block occurs."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What one target can do: refused ops with their reasons, the sum of known costs in ms."""

    target: str
    supported_ops: int
    refused: Mapping[str, str]
    costed_ops: int = 0
    cost_ms: float | None = None

    @property
    def whole(self) -> bool:
        """True if nothing is refused."""
        return not self.refused


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The plan that ops' ``placed_on`` speak of."""

    stages: tuple[tuple[str, str, int], ...]  # name, target, number of ops
    predicted_ms: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """All of it. ``blocks`` are grouped, the dearest group first; ``ops`` in topological order."""

    model: ModelFacts
    targets: tuple[TargetFacts, ...]
    op_types: tuple[OpTypeFacts, ...]
    blocks: tuple[BlockFacts, ...]
    ops: tuple[OpFacts, ...]
    plan: PlanFacts | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``: versioned, sizes in bytes, times in ms."""
        data = asdict(self, dict_factory=_plain)
        for group, block in zip(data["blocks"], self.blocks, strict=True):
            group["times"] = block.times
        for row, target in zip(data["targets"], self.targets, strict=True):
            row["whole"] = target.whole
        return {"format": FORMAT, "version": VERSION, **data}


def inspect_model(
    graph: OpGraph,
    support: Mapping[str, Support],
    costs: Costs | None = None,
    plan: Plan | None = None,
    declared: Model | None = None,
) -> Inspection:
    """Look at a model through its graph; ``declared`` is the model as its file has it, where shapes
    were bound for the graph.

    ``support`` maps targets (``cpu/openvino/fp32``) to what they answered for this model, ``costs``
    those targets to measured times of ops; a plan of this model says where its ops are placed.
    """
    blocks = find_blocks(graph)
    costs = costs or {}
    block_of = {op: block.id for block in blocks for op in block.ops}
    stage_of = {op: stage for stage in plan.stages for op in stage.ops} if plan else {}
    infos = list(graph.ops.values())
    model = graph.model
    ops = tuple(
        OpFacts(
            id=op.id,
            op_type=op.op_type,
            domain=op.domain,
            block=block_of[op.id],
            inputs=_specs(graph, op.reads),
            outputs=_specs(graph, op.outputs),
            flops=op.flops,
            bytes_read=op.bytes_read,
            bytes_written=op.bytes_written,
            parameters=op.parameters,
            parameter_bytes=op.parameter_bytes,
            refused={
                target: reason
                for target, answer in support.items()
                if (reason := refusal(answer, op.id)) is not None
            },
            costs_ms={t: times[op.id] for t, times in costs.items() if op.id in times},
            placed_on=_placed_on(op.id, stage_of),
            stage=stage_of[op.id].name if op.id in stage_of else None,
        )
        for op in infos
    )
    return Inspection(
        model=ModelFacts(
            path=None if model.path is None else str(model.path),
            sha256=model.sha256,
            ir_version=model.ir.ir_version,
            producer=" ".join(filter(None, (model.ir.producer_name, model.ir.producer_version))),
            opsets=dict(model.ir.opset_imports),
            inputs=model.inputs,
            outputs=model.outputs,
            ops=len(ops),
            work=_work(infos),
            declared_inputs=() if declared is None else declared.inputs,
            declared_outputs=() if declared is None else declared.outputs,
        ),
        targets=tuple(
            _target(name, answer, costs.get(name, {}), graph.ops)
            for name, answer in support.items()
        ),
        op_types=_op_types(infos),
        blocks=_blocks(blocks, graph.ops),
        ops=ops,
        plan=_plan(plan) if plan else None,
    )


def refusal(support: Support, op: str) -> str | None:
    """Why an op is refused; None if it isn't."""
    if op in support.refused:
        return support.refused[op]
    return None if op in support.supported else "the backend does not name it as supported"


def _specs(graph: OpGraph, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    values = (graph.values[name] for name in names)
    return tuple(TensorSpec(value.name, value.dtype, value.shape) for value in values)


def _work(ops: Sequence[OpInfo]) -> Work:
    return Work(
        flops=Amount.of(op.flops for op in ops),
        bytes_read=Amount.of(op.bytes_read for op in ops),
        bytes_written=Amount.of(op.bytes_written for op in ops),
        parameters=sum(op.parameters for op in ops),
        parameter_bytes=sum(op.parameter_bytes for op in ops),
    )


def _target(
    name: str, support: Support, costs: Mapping[str, float], ops: Mapping[str, OpInfo]
) -> TargetFacts:
    refused = {op: reason for op in ops if (reason := refusal(support, op)) is not None}
    known = [costs[op] for op in ops if op in costs]
    return TargetFacts(
        target=name,
        supported_ops=len(ops) - len(refused),
        refused=refused,
        costed_ops=len(known),
        cost_ms=sum(known) if known else None,
    )


def qualified(op: OpInfo | OpFacts) -> str:
    """The op type, with its domain where that isn't ONNX's own."""
    return f"{op.domain}::{op.op_type}" if op.domain else op.op_type


def _op_types(ops: Sequence[OpInfo]) -> tuple[OpTypeFacts, ...]:
    """By work, then by number: what costs most comes first."""
    groups: dict[str, list[OpInfo]] = {}
    for op in ops:
        groups.setdefault(qualified(op), []).append(op)
    rows = [OpTypeFacts(name, len(group), _work(group)) for name, group in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.work.flops.known, -row.count, row.op_type)))


def _blocks(blocks: Sequence[Block], ops: Mapping[str, OpInfo]) -> tuple[BlockFacts, ...]:
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        groups.setdefault(block.structure_hash, []).append(block)
    rows = []
    for structure_hash, group in groups.items():
        members = [ops[op] for op in group[0].ops]
        rows.append(
            BlockFacts(
                structure_hash=structure_hash,
                kind=group[0].kind,
                ids=tuple(block.id for block in group),
                op_types=tuple(qualified(op) for op in members),
                work=_work(members),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.work.flops.known * row.times, -row.times)))


def _placed_on(op: str, stage_of: Mapping[str, Stage]) -> str | None:
    stage = stage_of.get(op)
    if stage is None:
        return None
    return str(replace(stage.target, precisions=(stage.precisions.of(op),)))


def _plan(plan: Plan) -> PlanFacts:
    stages = tuple((stage.name, str(stage.target), len(stage.ops)) for stage in plan.stages)
    return PlanFacts(stages, plan.predicted_ms, plan.basis_text())


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """``asdict``'s dictionaries, with dtypes and tuples as JSON has them."""
    return {key: _plain_value(value) for key, value in items}


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.dtype):
        return dtype_name(value)
    if isinstance(value, tuple | list):
        return [_plain_value(item) for item in value]
    return value


def dtype_name(dtype: np.dtype[Any]) -> str:
    """numpy's and ml_dtypes' own names; ``string`` for objects."""
    return "string" if dtype.hasobject else dtype.name
