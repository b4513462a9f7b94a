"""One run of a pipeline: its nodes in their order, each value handed on as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dioe.runtime.feeds import describe_type, describe_value, fits
from dioe.runtime.host_task import Task
from dioe.runtime.pipeline import Origin, Pipeline, full_names, in_node, near
from dioe.types import DioeError, InputError, Value

RunModel: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Value]]
"""Runs a model on a feed, and gives the outputs that the flow asks of it."""

Clock: TypeAlias = dict[str, float]
"""Milliseconds by node, added up."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A node: where its inputs are from, which of those nobody needs later, which of its outputs
    are needed, which models it calls."""

    name: str
    task: Task | None
    wires: tuple[tuple[str, Origin], ...]
    last: tuple[Origin, ...]
    connected: frozenset[str]
    asked: frozenset[str]
    calls: tuple[tuple[str, str], ...]


class Flow:
    """How a pipeline runs, with its declared state. Holds nothing of a run: any thread may run it.

    ``state`` maps outputs to inputs of one and the same model, by full or unique names. Raises
    InputError.
    """

    def __init__(self, pipeline: Pipeline, state: Mapping[str, str] | None = None) -> None:
        self.pipeline = pipeline
        self.state = _state_by_node(pipeline, state or {})
        """By node, outputs and the inputs that they become."""
        kept = {f"{n}.{into}" for n, pairs in self.state.items() for into in pairs.values()}
        for edge in pipeline.edges:
            if edge.destination in kept:
                raise InputError(
                    f"{edge.destination} is declared state, and {edge.source} leads to it",
                    fix="leave the edge or the state out",
                )
        self._needed = [n for n in pipeline.inputs if n not in kept and not pipeline.optional(n)]
        self._names = full_names(pipeline.inputs)
        asked = set(pipeline.asked)
        connected = {edge.source for edge in pipeline.edges}
        self.outputs: dict[str, tuple[str, ...]] = {}
        """By model, the outputs that are needed: all but declared state that nobody asks for."""
        for name, model in pipeline.models.items():
            used = {f.partition(".")[2] for f in asked | connected if f.partition(".")[0] == name}
            hidden = self.state.get(name, {}).keys() - used
            self.outputs[name] = tuple(s.name for s in model.outputs if s.name not in hidden)
        self._steps = self._made_steps(connected, asked)

    def _made_steps(self, connected: set[str], asked: set[str]) -> tuple[_Step, ...]:
        pipeline = self.pipeline
        wires = {
            node: {
                **{
                    full.partition(".")[2]: ("", full)
                    for full in pipeline.inputs
                    if full.partition(".")[0] == node
                },
                **pipeline.wires[node],
            }
            for node in pipeline.order
        }
        last_reader = {o: node for node in pipeline.order for o in wires[node].values()}
        return tuple(
            _Step(
                node,
                pipeline.tasks.get(node),
                tuple(wires[node].items()),
                tuple({o for o in wires[node].values() if last_reader[o] == node}),
                _values_of(node, connected),
                _values_of(node, asked),
                tuple(
                    (place.partition(".")[2], model)
                    for place, model in pipeline.calls.items()
                    if place.partition(".")[0] == node
                ),
            )
            for node in pipeline.order
        )

    def run(
        self, feeds: Mapping[str, Any], models: Mapping[str, RunModel], clock: Clock | None = None
    ) -> dict[str, Value]:
        """The pipeline's outputs by their full names; ``clock`` gets what each node takes.

        Raises InputError for wrong feeds or values between nodes, with the node's name; what models
        and callables raise is passed on, with it.
        """
        values = self.checked(feeds)
        results: dict[str, Value] = {}
        for step in self._steps:
            arguments = {name: values[o] for name, o in step.wires if o in values}
            for origin in step.last:
                values.pop(origin, None)
            begin = time.perf_counter()
            if step.task is None:
                given = self._of_model(step, models[step.name], arguments)
            else:
                inner: Clock = {}
                for parameter, model in step.calls:
                    arguments[parameter] = _caller(model, models[model], inner)
                given = step.task.run(arguments)
                if clock is not None:
                    for model, ms in inner.items():
                        clock[model] = clock.get(model, 0.0) + ms
                        begin += ms / 1e3
            if clock is not None:
                ms = (time.perf_counter() - begin) * 1e3
                clock[step.name] = clock.get(step.name, 0.0) + ms
            del arguments
            if not given.keys() >= step.connected | step.asked:
                missing = min((step.connected | step.asked) - given.keys())
                raise InputError(
                    f"the callable gave no output {missing!r}",
                    place=f"node {step.name!r}",
                    fix=near(missing, given),
                )
            for name, value in given.items():
                if name in step.connected:
                    values[step.name, name] = value
                if name not in step.connected or name in step.asked:
                    results[f"{step.name}.{name}"] = _own(value)
        return results

    def _of_model(
        self, step: _Step, run: RunModel, arguments: Mapping[str, Any]
    ) -> Mapping[str, Value]:
        """What a model gives; its errors name the node, or the one before it that gave it what it
        can't take."""
        try:
            with in_node(step.name):
                return run(arguments)
        except InputError as error:
            misfit = self._misfit(step, arguments)
            if misfit is None:
                _tell_origins(error, step)
                raise
            raise misfit from error
        except DioeError as error:
            _tell_inputs(error, arguments)
            raise

    def _misfit(self, step: _Step, arguments: Mapping[str, Any]) -> InputError | None:
        """The error about the node that gave a value that this model can't take, if one did."""
        specs = {spec.name: spec for spec in self.pipeline.models[step.name].inputs}
        for name, (source, output) in step.wires:
            if not source or name not in arguments or fits(arguments[name], specs[name]):
                continue
            wanted = describe_type(specs[name])
            return InputError(
                f"output {output!r} is {describe_value(arguments[name])}, but input {name!r} of "
                f"node {step.name!r} takes {wanted}",
                place=f"node {source!r}",
                fix=f"have the callable return {wanted} there"
                if source in self.pipeline.tasks
                else "put a callable between the two that converts it",
            )
        return None

    def checked(self, feeds: Mapping[str, Any]) -> dict[Origin, Any]:
        """Feeds by full names; raises InputError for unknown, missing and doubled ones."""
        if not isinstance(feeds, Mapping):
            raise InputError(
                f"a feed is a mapping of input names to values, not a {type(feeds).__name__}",
                fix=f"give every input by its name: {', '.join(self._needed) or 'none'}",
            )
        values: dict[Origin, Any] = {}
        for name, value in feeds.items():
            full = self._names.get(name)
            if full is None:
                raise InputError(
                    f"the pipeline has no input {name!r}", fix=near(name, self.pipeline.inputs)
                )
            if ("", full) in values:
                raise InputError(f"input {full!r} is given twice", fix="give it one name")
            values["", full] = value
        missing = [full for full in self._needed if ("", full) not in values]
        if missing:
            raise InputError(f"missing input: {', '.join(missing)}", fix="give every input a value")
        return values

    def picked(self, results: Mapping[str, Value], names: Iterable[str]) -> dict[str, Value]:
        """The results that are named, by full or unique names, under the names given."""
        known = full_names(results)
        listed = [] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
        if not listed:
            raise InputError(
                f"output_names is {names!r}",
                fix=f"give a list of some of {', '.join(results)}, or None for all",
            )
        for name in listed:
            if name not in known:
                raise InputError(
                    f"the pipeline has no output {name!r}",
                    fix=f"{near(name, results)}; others by Pipeline(..., outputs=[...])",
                )
        return {name: results[known[name]] for name in listed}


def _values_of(node: str, fulls: Iterable[str]) -> frozenset[str]:
    return frozenset(f.partition(".")[2] for f in fulls if f.partition(".")[0] == node)


def _caller(name: str, run: RunModel, clock: Clock) -> Callable[[Mapping[str, Any]], Any]:
    """What a callable gets to call a model with."""

    def call(feeds: Mapping[str, Any]) -> Mapping[str, Value]:
        begin = time.perf_counter()
        with in_node(name):
            try:
                outputs = run(feeds)
            except InputError:  # which tells what was wrong with which input
                raise
            except DioeError as error:
                _tell_inputs(error, feeds)
                raise
        clock[name] = clock.get(name, 0.0) + (time.perf_counter() - begin) * 1e3
        return outputs

    return call


def _tell_origins(error: InputError, step: _Step) -> None:
    """Add where the inputs are from that an error speaks of: two may not go together."""
    told = [f"{n!r} is {'.'.join(o)}" for n, o in step.wires if o[0] and repr(n) in error.cause]
    if told:
        error.cause += f" ({', '.join(told)})"


def _tell_inputs(error: DioeError, feeds: Mapping[str, Any]) -> None:
    """Add to what a model's backend raised which shapes it got, and what to do about none."""
    got = [f"{name} {describe_value(value)}" for name, value in feeds.items()]
    error.cause = f"it failed on {', '.join(got) or 'no inputs'}: {error.cause}"
    if any(0 in getattr(value, "shape", ()) for value in feeds.values()):
        error.fix = _NOTHING


_NOTHING = (
    "a dimension is 0, which few models take: give one row of anything, and ignore what comes of "
    "it by the true count (docs/pipelines.md, Nothing found)"
)


def _own(value: Value) -> Value:
    """The value as the caller may keep it: a callable may have given a part of its input."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def _state_by_node(pipeline: Pipeline, state: Mapping[str, str]) -> dict[str, dict[str, str]]:
    if not isinstance(state, Mapping):
        raise InputError(
            f"state is {state!r}", fix='map outputs to inputs: {"dec.stateN": "dec.state"}'
        )
    gives = full_names(f"{n}.{s.name}" for n, m in pipeline.models.items() for s in m.outputs)
    takes = full_names(f"{n}.{s.name}" for n, m in pipeline.models.items() for s in m.inputs)
    found: dict[str, dict[str, str]] = {}
    for out, into in state.items():
        for name, known in ((out, gives), (into, takes)):
            if name not in known:
                raise InputError(f"state {out!r} -> {into!r}: no {name!r}", fix=near(name, known))
        (source, _, output), (node, _, value) = (
            gives[out].partition("."), takes[into].partition(".")
        )  # fmt: skip
        if source != node:
            raise InputError(
                f"state {out!r} -> {into!r} leads from {source!r} to {node!r}",
                fix="declare the state of each model alone; connect models by edges",
            )
        found.setdefault(node, {})[output] = value
    return found
