"""Graph outputs that are graph inputs: given on by the request, never bound in a runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np

from dioe.host_backend.values import check_array, host_array, name_list, unknown_name
from dioe.types import DONE, Array, Buffer, Event, Feeds, HostBuffer, InputError, TensorSpec, Value


def computed_outputs(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    """The outputs that a runtime computes: each once, and none that is an input as well."""
    given = {spec.name for spec in inputs}
    return tuple({spec.name: spec for spec in outputs if spec.name not in given}.values())


class Inner(Protocol):
    """The request that runs the rest of the model."""

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None: ...
    def run(self) -> Event: ...
    @property
    def outputs(self) -> Mapping[str, Value]: ...
    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]: ...


class Memory(Protocol):
    """The memory of a device that has its own."""

    def holds(self, value: object) -> TypeGuard[Buffer]:
        """True for a buffer of it. May raise InputError for one of another device."""
        ...

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy where at least one of the two is a buffer of it, as ``Context.copy`` does."""
        ...


class PassThroughRequest:
    """A request on a model some of whose outputs are its inputs.

    Runtimes share one tensor between such an input and output: binding the output replaces the
    input or writes into the caller's feed (OpenVINO), or is never done (ONNX Runtime). So
    ``inner`` sees the other outputs only, and these are copied from the feeds after each run.
    Feeds and bound outputs may be buffers of ``memory``; from one to the other, nothing goes over
    the host.
    """

    def __init__(
        self,
        inner: Inner,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        memory: Memory | None = None,
    ) -> None:
        self._inner = inner
        self._inputs = {spec.name: spec for spec in inputs}
        self._names = list(dict.fromkeys(spec.name for spec in outputs))
        self._given = {name: self._inputs[name] for name in self._names if name in self._inputs}
        self._memory = memory
        self._feeds: dict[str, Value] = {}
        self._targets: dict[str, Array | Buffer] = {}
        self._copies: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        outputs = outputs or {}
        targets = {n: self._target(n, v) for n, v in outputs.items() if n in self._given}
        rest = {name: value for name, value in outputs.items() if name not in self._given}
        self._inner.bind(inputs, rest)
        self._feeds.update((n, v) for n, v in inputs.items() if n in self._given)
        self._targets.update(targets)

    def _target(self, name: str, value: Value) -> Array | Buffer:
        spec = self._given[name]
        place = self._place(value, spec)
        check_array(place, spec, "output")
        if isinstance(place, np.ndarray) and not place.flags.writeable:
            raise InputError("must be writable", place=f"output {name!r}")
        return place

    def _place(self, value: Value, spec: TensorSpec) -> Array | Buffer:
        """Where a tensor is: a buffer of the device, or a host array."""
        if self._memory is not None and self._memory.holds(value):
            return value
        return host_array(value, spec)

    def run(self) -> Event:
        """See ``dioe.types.Request``. Done when this returns if all outputs go to the host."""
        events = [self._inner.run()]
        for name, spec in self._given.items():
            value, target = self._feeds.get(name), self._targets.get(name)
            if target is None:
                self._copies[name] = self._own_copy(value, spec)
                continue
            source = self._place(value, spec)
            if source.shape != target.shape:
                raise InputError(
                    f"the result has shape {list(source.shape)}, the buffer {list(target.shape)}",
                    place=f"output {name!r}",
                )
            events.append(self._copy(source, target))
        return all_of(events)

    def _copy(self, source: Array | Buffer, target: Array | Buffer) -> Event:
        if self._memory is not None and (isinstance(source, Buffer) or isinstance(target, Buffer)):
            return self._memory.copy(_buffer(source), _buffer(target))
        np.copyto(target, source)  # type: ignore[arg-type]  # arrays both
        return DONE

    def _own_copy(self, value: Value, spec: TensorSpec) -> Value:
        """A value of the caller's own on the host, as the spec says."""
        if spec.kind != "tensor":
            return list(value) if isinstance(value, list) else value
        source = self._place(value, spec)
        if isinstance(source, np.ndarray):
            return np.array(source, dtype=spec.dtype, order="C")
        copied = np.empty(source.shape, source.dtype)
        self._copy(source, copied).wait()
        return copied

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        found: dict[str, Value] = {**self._inner.outputs, **self._copies, **self._targets}
        return {name: found[name] for name in self._names if name in found}

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        output_names = name_list(output_names)
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            if spec.kind == "tensor":
                check_array(self._place(value, spec), spec)
        names = list(dict.fromkeys(name for name in output_names if name not in self._given))
        if not names:  # runs of no outputs are refused by some runtimes
            names = [name for name in self._names if name not in self._given][:1]
        found: dict[str, Any] = dict(zip(names, self._inner.call(inputs, names), strict=True))
        for name in output_names:
            if name in self._given:
                found[name] = self._own_copy(inputs.get(name), self._given[name])
        return [found[name] for name in output_names]


def _buffer(place: Array | Buffer) -> Buffer:
    return HostBuffer(place) if isinstance(place, np.ndarray) else place


class _All:
    """Several events as one."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events

    def wait(self, timeout_ms: float | None = None) -> None:
        """See ``dioe.types.Event``."""
        end = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        for event in self._events:
            event.wait(None if end is None else max(0.0, 1000 * (end - time.monotonic())))

    def done(self) -> bool:
        """See ``dioe.types.Event``."""
        return all(event.done() for event in self._events)


def all_of(events: Sequence[Event]) -> Event:
    """One event for when all of these have happened."""
    pending = [event for event in events if event is not DONE]
    if len(pending) > 1:
        return _All(pending)
    return pending[0] if pending else DONE
