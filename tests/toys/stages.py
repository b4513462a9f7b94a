"""Plans of several stages without tuning, for tests of what runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dioe.graph import Model, OpGraph, boundaries, stage_io
from dioe.types import Plan, Stage, Target
from tests.toys.plans import RESOURCES, plan_for


def staged_plan(
    model: Model,
    parts: Sequence[tuple[str, Sequence[str]]],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Plan:
    """A plan with a stage for each (backend, ops), on the CPU where no device stands before the
    backend (``gpu:0/devtoy``)."""
    graph = OpGraph.build(model, shapes)
    stages = []
    for i, (backend, ops) in enumerate(parts):
        inputs, outputs = stage_io(graph, ops)
        device, _, name = backend.rpartition("/")
        target = Target(device or "cpu", name)
        stages.append(Stage(f"s{i}", target, tuple(ops), inputs, outputs, resources=RESOURCES))
    whole = plan_for(model, shapes=shapes)
    return replace(whole, stages=tuple(stages), boundaries=boundaries(graph, stages))
