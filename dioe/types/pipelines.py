"""Plans of pipelines: the plan of each model, what the host tasks between them cost, the edges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from dioe.types.plans import Basis, Plan, TargetReport


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node takes of a run of the whole pipeline: median, distance of the quartiles, and
    number of runs. Of a task that calls a model, the time without the model's."""

    p50_ms: float
    spread_ms: float
    runs: int
    basis: Basis = Basis.MEASURED


@dataclass(frozen=True, slots=True)
class ModelNode:
    """A model of a pipeline: a plan for each set of shapes that its inputs had."""

    plans: tuple[Plan, ...]
    cost: NodeCost | None = None

    @property
    def model_sha256(self) -> str:
        """Hash of the canonical model that the plans are bound to."""
        return self.plans[0].model_sha256

    @property
    def where(self) -> str:
        """Targets of the first plan, in the order of its stages."""
        return " -> ".join(self.plans[0].targets)


@dataclass(frozen=True, slots=True)
class HostTask:
    """A Python callable of a pipeline, known by its node's name and parameters alone: what is
    called is the caller's to give, and never in a plan."""

    parameters: tuple[str, ...]
    cost: NodeCost | None = None


@dataclass(frozen=True, slots=True)
class PipelineEdge:
    """A value, ``node.output``, and the input that it becomes, ``node.input``."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """Where the models of a pipeline run, and what every node costs.

    Bound to every model's hash (its plans are), the tasks' names and parameters, and the edges.
    ``models`` and ``tasks`` are by node; ``order`` is that of execution; ``calls`` tells which
    parameter of a task, ``node.parameter``, is which model, to be called by the task.
    ``candidates`` are ways to run the whole. VERSION rises with that of Plan too.
    """

    FORMAT: ClassVar[str] = "dioe-pipeline-plan"
    VERSION: ClassVar[int] = 1

    models: Mapping[str, ModelNode]
    tasks: Mapping[str, HostTask]
    order: tuple[str, ...]
    edges: tuple[PipelineEdge, ...]
    calls: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    policy: str = "latency"
    precision: str = "fp32"
    max_relative_l2: float | None = None
    relative_l2: float | None = None
    predicted_ms: float | None = None
    basis: Basis = Basis.DEFAULT
    candidates: tuple[TargetReport, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def costs(self) -> Mapping[str, NodeCost | None]:
        """The cost of each node by its name, in the order of execution; called models last."""
        nodes = {name: node.cost for name, node in self.models.items()}
        nodes |= {name: task.cost for name, task in self.tasks.items()}
        return {name: nodes[name] for name in (*self.order, *self.called)}

    @property
    def called(self) -> tuple[str, ...]:
        """Models that tasks call, instead of edges leading to them."""
        return tuple(name for name in self.models if name in set(self.calls.values()))

    def where(self, node: str) -> str:
        """Where a node runs: its targets, or ``host``."""
        return self.models[node].where if node in self.models else "host"

    def share(self, node: str) -> float | None:
        """The share of a node in what all nodes take; None where nothing was measured."""
        costs = {name: cost.p50_ms for name, cost in self.costs.items() if cost is not None}
        total = sum(costs.values())
        return costs[node] / total if node in costs and total > 0 else None

    def to_json(self) -> str:
        """A readable, versioned text; ``dioe.load_plan`` reads it back."""
        data: dict[str, Any] = {"format": self.FORMAT, "version": self.VERSION} | asdict(self)
        for name, node in self.models.items():
            data["models"][name]["plans"] = [plan.to_data() for plan in node.plans]
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    def explain(self) -> str:
        """Where each node runs, what it costs and its share of all; what was tried; the plan of
        each model."""
        return "\n".join(_explain(self)) + "\n"


def _explain(plan: PipelinePlan) -> list[str]:
    total = "not measured" if plan.predicted_ms is None else f"{plan.predicted_ms:.3f} ms"
    error = "" if plan.relative_l2 is None else f", error {plan.relative_l2:.2g}"
    lines = [f"pipeline: {' -> '.join(plan.order)}, {total} ({plan.basis}){error}"]
    for name, cost in plan.costs.items():
        called = " (called)" if name in plan.called else ""
        text = f"  {name}: {plan.where(name)}{called}"
        share = plan.share(name)
        if cost is not None:
            text += f", {cost.p50_ms:.3f} ms ± {cost.spread_ms:.3f} ({cost.basis}, n={cost.runs})"
        if share is not None:
            text += f", {share:.0%}"
        lines.append(text)
    for report in plan.candidates:
        parts = [f"  {report.target}: {report.state}"]
        if report.p50_ms is not None:
            parts.append(f"{report.p50_ms:.3f} ms, n={report.runs}")
        if report.relative_l2 is not None:
            parts.append(f"error {report.relative_l2:.2g}")
        lines.append(", ".join(parts) + (f"; {report.reason}" if report.reason else ""))
    lines += [f"  note: {note}" for note in plan.notes]
    for name, node in plan.models.items():
        for each in node.plans:
            lines += [f"{name}:", *(f"  {line}" for line in each.explain().splitlines())]
    return lines
