"""Plans without tuning, for tests of what runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dioe.graph import Model
from dioe.planning import single_target_plan
from dioe.types import Dim, Plan, Resources, Target

RESOURCES = Resources(threads=1, spin=False)


def plan_for(
    model: Model,
    target: str = "cpu/onnxruntime/fp32",
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    **settings: Any,
) -> Plan:
    """The whole of ``model`` on one target; its own shapes where none are given."""
    given = shapes or {s.name: s.shape for s in model.inputs if s.shape is not None}
    return single_target_plan(
        Target.parse(target),
        model_sha256=model.sha256,
        hardware=settings.pop("hardware", "test"),
        ops=model.op_ids,
        inputs=[spec.name for spec in model.inputs],
        outputs=[spec.name for spec in model.outputs],
        shapes={name: tuple(shape) for name, shape in given.items()},
        resources=RESOURCES,
        policy="latency",
        precision="fp32",
        limit=1e-4,
        **settings,
    )
