"""The reference run of a pipeline: every model as it is written, and what each of them was fed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dioe.graph import Model, make_inputs
from dioe.runtime import Clock, Flow, Runtime, in_node
from dioe.runtime.feeds import check_feeds
from dioe.runtime.values import owned
from dioe.tuning.samples import ShapeGroup, shape_groups, zero_state
from dioe.tuning.trial import REFERENCE_BACKENDS, reference_on, run_once
from dioe.types import (
    Buffer,
    DioeError,
    Executable,
    Feeds,
    InputError,
    Precisions,
    UnsupportedError,
    Value,
)

_AS_WRITTEN = Precisions()

MOST_SHAPES = 4
"""Sets of shapes that a model gets a plan for: those it was fed most often."""

_MOST_FEEDS = 4
"""Kept for each set of shapes, of a model that a callable calls as often as it likes."""


@dataclass(slots=True)
class ReferenceRun:
    """What the sample inputs led to. ``groups`` are, by model, the feeds it got, by their shapes;
    ``outputs`` the pipeline's, one for each sample; ``clock`` the milliseconds of each node."""

    samples: list[Mapping[str, Any]]
    groups: dict[str, list[ShapeGroup]] = field(default_factory=dict)
    outputs: list[dict[str, Value]] = field(default_factory=list)
    clock: Clock = field(default_factory=dict)


def reference_run(flow: Flow, samples: Any, runtime: Runtime) -> ReferenceRun:
    """Run every sample, the first one twice, for the clock.

    Inputs are made up where ``samples`` is None, and only models read them. Raises InputError, what
    the callables raise, and UnsupportedError where nothing runs a model as written.
    """
    listed, real = _listed(flow, samples), samples is not None
    found = ReferenceRun(listed)
    with contextlib.ExitStack() as stack:
        models = {
            name: _Recorder(
                model, flow.outputs[name], flow.state.get(name, {}), runtime, stack,
                most=_MOST_FEEDS if name in flow.pipeline.calls.values() else None,
            )
            for name, model in flow.pipeline.models.items()
        }  # fmt: skip
        for sample in listed:
            for each in models.values():
                each.reset()
            outputs = flow.run(sample, models)
            found.outputs.append({name: owned(value) for name, value in outputs.items()})
        for each in models.values():
            each.reset()
            each.recording = False
        flow.run(listed[0], models, found.clock)
    for name, recorder in models.items():
        found.groups[name] = recorder.groups(real=real)
    return found


def _listed(flow: Flow, samples: Any) -> list[Mapping[str, Any]]:
    if isinstance(samples, Mapping):
        return [samples]
    if samples is not None and not isinstance(samples, Sequence):
        raise InputError(
            f"sample_inputs is a {type(samples).__name__}",
            fix="give one mapping of input names to values, or a list of them",
        )
    return list(samples) if samples else [_made_up(flow)]


def _made_up(flow: Flow) -> dict[str, Value]:
    pipeline = flow.pipeline
    feed: dict[str, Value] = {}
    for full in pipeline.inputs:
        node, _, name = full.partition(".")
        if name in flow.state.get(node, {}).values() or pipeline.optional(full):
            continue
        if node in pipeline.tasks:
            raise InputError(
                f"no input can be made up for {full!r}: a callable reads it",
                fix="give sample_inputs: one real feed of the pipeline, or several",
            )
        with in_node(node):
            feed[full] = make_inputs(pipeline.models[node])[name]
    return feed


class _Recorder:
    """A model as written, loaded on its first run and closed with ``stack``. It keeps the feeds of
    its runs: all, or ``most`` of each set of shapes."""

    def __init__(
        self,
        model: Model,
        outputs: Sequence[str],
        state: Mapping[str, str],
        runtime: Runtime,
        stack: contextlib.ExitStack,
        most: int | None,
    ) -> None:
        self._model, self._outputs, self._state = model, outputs, dict(state)
        self._runtime = runtime
        self._stack, self._most = stack, most
        self._executables = self._opened()
        self._executable: Executable | None = None
        self._reasons: list[str] = []
        self._feeds: list[Feeds] = []
        self._calls: dict[tuple[Any, ...], int] = {}
        self._kept: dict[str, Value] = {}
        self.recording = True

    def reset(self) -> None:
        """Begin with zeros as state."""
        self._kept = {}

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Value]:
        given = {**self._kept, **feeds}
        given = {**zero_state(self._model, given, self._state, None), **given}
        checked = check_feeds(given, self._model.inputs)
        if self.recording:
            self._record(checked)
        while True:
            if self._executable is None:
                self._executable = self._next()
            try:
                outputs = run_once(self._executable.request(), checked)
            except DioeError as error:
                self._reasons.append(error.cause)
                self._executable = None
                continue
            self._kept = {into: outputs[out] for out, into in self._state.items()}
            return {name: outputs[name] for name in self._outputs}

    def _record(self, feeds: Feeds) -> None:
        key = tuple(
            (name, tuple(value.shape))
            for name, value in feeds.items()
            if isinstance(value, np.ndarray | Buffer)
        )
        count = self._calls[key] = self._calls.get(key, 0) + 1
        if self._most is None or count <= self._most:
            self._feeds.append({name: owned(value) for name, value in feeds.items()})

    def _next(self) -> Executable:
        executable = next(self._executables, None)
        if executable is None:
            raise UnsupportedError(
                "nothing here can run the model as written, so no answer can be checked "
                f"({'; '.join(self._reasons)})",
                fix="`dioe inspect MODEL` shows which ops each target refuses and why",
            )
        return executable

    def _opened(self) -> Iterator[Executable]:
        for name in REFERENCE_BACKENDS:
            try:
                context = self._stack.enter_context(reference_on(name, self._runtime))
                executable = context.compile(self._model, _AS_WRITTEN, {"optimize": False})
            except DioeError as error:
                self._reasons.append(f"{name}: {error.cause}")
                continue
            self._stack.callback(executable.close)
            yield executable

    def groups(self, *, real: bool) -> list[ShapeGroup]:
        """The feeds by their shapes, those that came most often first; none if it never ran."""
        if not self._feeds:
            return []
        counts = list(self._calls.values())
        found = shape_groups(self._model, self._feeds, state=self._state)
        order = sorted(range(len(found)), key=lambda i: -counts[i] if i < len(counts) else 0)
        return [ShapeGroup(found[i].shapes, found[i].feeds, real=real) for i in order[:MOST_SHAPES]]
