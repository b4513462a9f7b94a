"""Stages joined by buffers that stay bound, so that a run is little more than one call a stage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dioe.host_backend import aligned_empty, can_preset, static_shape
from dioe.types import Array, Executable, Request, Stage, TensorSpec, Value

_PACKED = frozenset({"int2", "uint2", "int4", "uint4", "float4_e2m1fn"})
"""Dtypes that some runtimes hold in less than the byte an element that numpy gives them."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One stage: its request, and the names of what a run hands to it and takes from it."""

    request: Request
    reads: tuple[str, ...]
    gives: tuple[str, ...]


class Wiring:
    """The requests of a plan's stages, in order, and what joins them.

    A value with a buffer is bound once, where it is made and wherever it is read. All others
    (of open shape, strings, sequences, on devices) are handed on in each run.
    """

    def __init__(self, stages: Sequence[tuple[Stage, Executable]], outputs: Sequence[str]) -> None:
        """Make a request of each stage; ``outputs`` are the model's. Raises BackendError."""
        # by what the executables say, not the plan: a plan is a file that anybody may have edited
        self.readers: dict[str, list[int]] = {}
        """The stages that read a value, by index."""
        self._makers: dict[str, int] = {}
        self._specs: dict[str, TensorSpec] = {}
        self._inputs: list[tuple[str, ...]] = []
        self._requests: list[Request] = []
        self._on_host = [stage.target.device.partition(":")[0] == "cpu" for stage, _ in stages]
        self._outputs = frozenset(outputs)
        for i, (_, executable) in enumerate(stages):
            self._requests.append(executable.request())
            self._inputs.append(tuple(spec.name for spec in executable.inputs))
            for name in self._inputs[i]:
                self.readers.setdefault(name, []).append(i)
            for spec in executable.outputs:
                self._makers[spec.name] = i
                self._specs[spec.name] = spec
        self._joined: dict[str, Array] = {}
        self._steps = self._plan_steps()

    def makes(self, name: str) -> bool:
        """True for a value that a stage makes."""
        return name in self._makers

    def buffered(self) -> dict[str, TensorSpec]:
        """The values that can be bound once: made and read by host stages, of known size."""
        return {
            name: spec
            for name, spec in self._specs.items()
            if can_bind_once(spec) and self._on_host[self._makers[name]] and self.on_host(name)
        }

    def on_host(self, name: str) -> bool:
        """True if every stage that reads the value is on the host."""
        return all(self._on_host[i] for i in self.readers.get(name, ()))

    def inner_buffers(self) -> dict[str, Array]:
        """A buffer for each value that can be bound once and that is no output of the model."""
        lives = {
            name: (spec, self._makers[name], max(self.readers.get(name, [self._makers[name]])))
            for name, spec in self.buffered().items()
            if name not in self._outputs
        }
        return shared_buffers(lives)

    def join(self, buffers: Mapping[str, Array]) -> None:
        """Bind each buffer where its value is made and wherever it is read, from now on."""
        for name, buffer in buffers.items():
            if self._joined.get(name) is not buffer:
                if name in self._makers:
                    self.write_to(name, buffer)
                self.feed(name, buffer)
                self._joined[name] = buffer
        self._steps = self._plan_steps()

    def feed(self, name: str, value: Value) -> None:
        """Bind a value wherever it is read. Raises InputError."""
        for i in self.readers.get(name, ()):
            self._requests[i].bind({name: value})

    def write_to(self, name: str, buffer: Value) -> None:
        """Bind a buffer where its value is made. Raises InputError."""
        self._requests[self._makers[name]].bind({}, {name: buffer})

    def _plan_steps(self) -> list[_Step]:
        handed = [
            name
            for name in self._makers
            if name not in self._joined and (name in self.readers or name in self._outputs)
        ]
        return [
            _Step(
                request,
                tuple(name for name in self._inputs[i] if name in handed),
                tuple(name for name in handed if self._makers[name] == i),
            )
            for i, request in enumerate(self._requests)
        ]

    def run(self) -> dict[str, Value]:
        """Run all stages; gives the values that were handed on."""
        values: dict[str, Value] = {}
        for step in self._steps:
            _run_step(step, values)
        return values

    def run_timed(self) -> tuple[dict[str, Value], list[float]]:
        """``run``, and the milliseconds of each stage."""
        values: dict[str, Value] = {}
        times_ms = []
        for step in self._steps:
            start = time.perf_counter_ns()
            _run_step(step, values)
            times_ms.append((time.perf_counter_ns() - start) / 1e6)
        return values, times_ms


def _run_step(step: _Step, values: dict[str, Value]) -> None:
    request = step.request
    if step.reads:
        request.bind({name: values[name] for name in step.reads})
    request.run().wait()
    if step.gives:
        made = request.outputs
        for name in step.gives:
            values[name] = made[name]


def can_bind_once(spec: TensorSpec) -> bool:
    """True if one host array can hold every value of this spec, read and written where it is."""
    return can_preset(spec) and spec.dtype.name not in _PACKED


def size_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor of static shape."""
    return int(np.prod(static_shape(spec), dtype=np.int64)) * spec.dtype.itemsize


def new_buffer(spec: TensorSpec) -> Array:
    """An aligned host array for a value of static shape, contents undefined."""
    return aligned_empty(static_shape(spec), spec.dtype)


def shared_buffers(lives: Mapping[str, tuple[TensorSpec, int, int]]) -> dict[str, Array]:
    """Buffers for values that live from one stage to another, the stages' indices inclusive.

    Values that never live at once may share memory: each takes the smallest block that is free and
    large enough, or a new one.
    """
    blocks: list[tuple[Array, int]] = []  # memory, and the last stage that needs it
    buffers = {}
    for name, (spec, first, last) in sorted(lives.items(), key=lambda item: item[1][1]):
        nbytes = size_bytes(spec)
        free = [
            (memory.nbytes, i)
            for i, (memory, until) in enumerate(blocks)
            if until < first and memory.nbytes >= nbytes
        ]
        if free:
            _, i = min(free)
            memory = blocks[i][0]
            blocks[i] = (memory, last)
        else:
            memory = aligned_empty((nbytes,), np.dtype(np.uint8))
            blocks.append((memory, last))
        buffers[name] = memory[:nbytes].view(spec.dtype).reshape(static_shape(spec))
    return buffers
