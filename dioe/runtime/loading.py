"""A plan, compiled: executables in order, and requests that run them one after the other."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from dioe.runtime.process import Runtime
from dioe.types import (
    Array,
    BackendError,
    Buffer,
    Context,
    DirectRequest,
    Executable,
    Feeds,
    Plan,
    Request,
    Stage,
    TensorSpec,
    Value,
)

if TYPE_CHECKING:
    from dioe.graph import Model


class LoadedPlan:
    """Executables of a plan's stages. ``request`` may be called from several threads."""

    def __init__(
        self,
        plan: Plan,
        runtime: Runtime,
        stages: Sequence[tuple[Stage, Executable]],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        self.plan = plan
        self.stages = tuple(stages)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.output_names = tuple(spec.name for spec in outputs)
        self._runtime = runtime

    def request(self) -> PlanRequest:
        """A single-threaded request over all stages."""
        if len(self.stages) == 1:
            return SingleStageRequest(self.stages[0][1].request())
        return StagedRequest(self)

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
    stage runs, by the stage's name (``dioe.graph.rebuild`` gives them).
    """
    with contextlib.ExitStack() as undo:
        loaded = []
        for stage in plan.stages:
            context: Context = runtime.acquire(stage.target, stage.resources)
            undo.callback(runtime.release, stage.target, stage.resources)
            executable = context.compile(models[stage.name], stage.precisions, stage.options)
            undo.callback(executable.close)
            loaded.append((stage, executable))
        undo.pop_all()
    return LoadedPlan(plan, runtime, loaded, model.inputs, model.outputs)


class PlanRequest(abc.ABC):
    """One single-threaded use of a loaded plan."""

    @abc.abstractmethod
    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """Run on validated inputs; the outputs are fresh and the caller's own."""

    @abc.abstractmethod
    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        """Preset buffers for ``run``."""

    @abc.abstractmethod
    def run(self) -> None:
        """Run on the preset buffers and wait."""

    @property
    @abc.abstractmethod
    def outputs(self) -> Mapping[str, Value]:
        """Outputs of the last ``run``, valid until the next."""


class SingleStageRequest(PlanRequest):
    """A plan of one stage: the backend's own request, called as directly as can be."""

    def __init__(self, request: Request) -> None:
        self._request = request
        # asked of the class: looking at an instance would evaluate its properties
        if hasattr(type(request), "call"):
            self.call = cast(DirectRequest, request).call  # type: ignore[method-assign]

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        self._request.bind(inputs)
        self._request.run().wait()
        outputs = self._request.outputs
        return [owned(outputs[name]) for name in output_names]

    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        self._request.bind(inputs, outputs)

    def run(self) -> None:
        self._request.run().wait()

    @property
    def outputs(self) -> Mapping[str, Value]:
        return self._request.outputs


class StagedRequest(PlanRequest):
    """Stages one after the other on one lane; values between host stages pass without a copy."""

    def __init__(self, loaded: LoadedPlan) -> None:
        # by what the executables say, not the plan: a plan is a file that anybody may have edited
        self._steps = [
            (
                executable.request(),
                tuple(spec.name for spec in executable.inputs),
                tuple(spec.name for spec in executable.outputs),
            )
            for _, executable in loaded.stages
        ]
        self._names = loaded.output_names
        self._inputs: dict[str, Value] = {}
        self._last: dict[str, Value] = {}
        self._bound_outputs: Feeds = {}

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        values = self._run_stages(inputs)
        return [owned(values[name]) for name in output_names]

    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        self._inputs.update(inputs)
        self._bound_outputs = {**self._bound_outputs, **outputs}

    def run(self) -> None:
        self._last = self._run_stages(self._inputs)
        for name, buffer in self._bound_outputs.items():
            target, value = as_array(buffer), as_array(self._last[name])
            if target is not value:
                np.copyto(target, value)
            self._last[name] = buffer

    @property
    def outputs(self) -> Mapping[str, Value]:
        return {name: self._last[name] for name in self._names}

    def _run_stages(self, feeds: Feeds) -> dict[str, Value]:
        values: dict[str, Value] = dict(feeds)
        for request, inputs, outputs in self._steps:
            request.bind({name: values[name] for name in inputs})
            request.run().wait()
            produced = request.outputs
            for name in outputs:
                values[name] = produced[name]
        return values


def can_preset(spec: TensorSpec) -> bool:
    """True if a buffer for this output can be made before the run."""
    return spec.static and spec.kind == "tensor" and spec.dtype.kind != "O"


def empty(spec: TensorSpec) -> Array:
    """A host array for an output of known shape, contents undefined."""
    return np.empty([d for d in spec.shape or () if isinstance(d, int)], spec.dtype)


def as_array(value: Value) -> Array:
    """The host array of a tensor value; raises BackendError for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Buffer):
        value.ready.wait()
        return value.numpy()
    raise BackendError(f"a tensor was expected, not {type(value).__name__}")


def owned(value: Value) -> Value:
    """A copy of ``value`` that stays valid when the request runs again."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [owned(item) for item in value]
    if isinstance(value, dict):
        return {key: owned(item) for key, item in value.items()}
    if isinstance(value, Buffer):
        return as_array(value).copy()
    return value
