"""A plan, compiled: executables in order, and requests on them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dioe.graph import OpGraph
from dioe.planning.plan_memory import check_memory, memory_caps, over_caps
from dioe.runtime.memory import Memory, TransferLog, memories
from dioe.runtime.process import Runtime
from dioe.runtime.request import PlanRequest, SingleStageRequest
from dioe.runtime.staged import Parts, StagedRequest
from dioe.runtime.values import as_array, owned
from dioe.types import Array, Context, Executable, OutOfMemory, Plan, Stage, TensorSpec

if TYPE_CHECKING:
    from dioe.graph import Model

_LOADING = "loading the plan"

__all__ = [
    "LoadedPlan",
    "Parts",
    "PlanRequest",
    "SingleStageRequest",
    "StagedRequest",
    "as_array",
    "load",
    "owned",
]


class LoadedPlan:
    """Executables of a plan's stages. ``request`` may be called from several threads."""

    def __init__(
        self,
        plan: Plan,
        runtime: Runtime,
        stages: Sequence[tuple[Stage, Executable]],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        constants: Mapping[str, Array] | None = None,
        homes: Sequence[Memory | None] = (),
    ) -> None:
        """``constants`` are outputs of the model that no stage makes, for they never change;
        ``homes`` the memory that each stage works in, None for the host's."""
        self.plan = plan
        self.stages = tuple(stages)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.output_names = tuple(spec.name for spec in outputs)
        self.constants = dict(constants or {})
        self.homes = tuple(homes) or (None,) * len(self.stages)
        self.transfer_log = TransferLog()
        self._runtime = runtime

    def request(self) -> PlanRequest:
        """A single-threaded request over all stages."""
        executables = [executable for _, executable in self.stages]
        if len(executables) == 1 and self.homes[0] is None:
            return SingleStageRequest(executables[0].request())
        return StagedRequest(
            Parts(
                executables, self.inputs, self.output_names, self.homes, self.constants,
                self.transfer_log,
            )
        )  # fmt: skip

    @property
    def memory_bytes(self) -> int | None:
        """Device memory of the executables, None if a backend can't tell."""
        sizes = [executable.memory_bytes for _, executable in self.stages]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def close(self) -> None:
        """Close the executables and give their contexts back: all, even if one fails to."""
        stages, self.stages = self.stages, ()
        with contextlib.ExitStack() as closing:
            for stage, executable in stages:
                closing.callback(self._runtime.release, stage.target, stage.resources)
                closing.callback(executable.close)


def load(plan: Plan, model: Model, runtime: Runtime, models: Mapping[str, Model]) -> LoadedPlan:
    """Compile every stage of ``plan``; on an error what was compiled is closed again.

    ``model`` is the whole model with the plan's shapes bound, ``models`` the part of it that each
    stage runs, by the stage's name (``dioe.graph.rebuild`` gives them). Raises OutOfMemory where
    the stages are known not to keep to the memory limits in their resources, before anything is
    compiled if that is known by then.
    """
    caps = memory_caps(plan.stages)
    if caps:
        check_memory(OpGraph.build(model), plan.stages, _LOADING)
    with contextlib.ExitStack() as undo:
        loaded, contexts = [], []
        for stage in plan.stages:
            context: Context = runtime.acquire(stage.target, stage.resources)
            undo.callback(runtime.release, stage.target, stage.resources)
            executable = context.compile(models[stage.name], stage.precisions, stage.options)
            undo.callback(executable.close)
            loaded.append((stage, executable))
            contexts.append(context)
            _check_taken(caps, loaded)
        homes = memories([stage.target.device for stage in plan.stages], contexts)
        undo.pop_all()
    staged = len(loaded) > 1 or homes[0] is not None
    constants = _constant_outputs(model) if staged else {}
    return LoadedPlan(plan, runtime, loaded, model.inputs, model.outputs, constants, homes)


def _check_taken(caps: Mapping[str, int], loaded: Sequence[tuple[Stage, Executable]]) -> None:
    """Raise OutOfMemory if what backends tell of executables is more than a device may use."""
    taken: dict[str, float] = {}
    for stage, executable in loaded if caps else ():
        device = stage.target.device
        taken[device] = taken.get(device, 0.0) + (executable.memory_bytes or 0)
    cause = over_caps(caps, taken)
    if cause:
        raise OutOfMemory(cause, place=_LOADING, fix="allow more memory there, or other devices")


def _constant_outputs(model: Model) -> dict[str, Array]:
    """The model's outputs that are initializers: no part of it has them."""
    weights = model.ir.graph.initializers
    found = {spec.name: weights[spec.name] for spec in model.outputs if spec.name in weights}
    return {
        name: np.array(value.const_value.numpy())
        for name, value in found.items()
        if value.const_value is not None
    }
