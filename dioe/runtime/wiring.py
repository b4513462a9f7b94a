"""Stages joined by buffers that stay bound, so that a run is little more than one call a stage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dioe.host_backend import aligned_empty, can_preset, contiguous, static_shape
from dioe.runtime.memory import HOST_DEVICE, Memory, Transfer, TransferLog, is_device_buffer
from dioe.types import (
    Array,
    Buffer,
    Executable,
    HostBuffer,
    Request,
    TensorSpec,
    Value,
)

_PACKED = frozenset({"int2", "uint2", "int4", "uint4", "float4_e2m1fn"})
"""Dtypes that some runtimes hold in less than the byte an element that numpy gives them."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One stage: copies into its memory, its request, and the names of what a run hands to it and
    takes from it; then copies out."""

    request: Request
    before: tuple[Transfer, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    after: tuple[Transfer, ...]


class Wiring:
    """The requests of a plan's stages, in order, and what joins them.

    A value with a buffer is bound once, where it is made and wherever it is read. Where those are
    in different memories, it has a buffer in each, and every run copies it explicitly: out of the
    memory it is made in to the host, from the host to wherever else it is read. All other values
    (of open shape, strings, sequences) are handed on in each run.
    """

    def __init__(
        self,
        stages: Sequence[Executable],
        outputs: Sequence[str],
        homes: Sequence[Memory | None],
        log: TransferLog,
    ) -> None:
        """Make a request of each stage; ``outputs`` are the model's, ``homes`` the memory of each
        stage, None for the host's; copies are counted in ``log``. Raises BackendError."""
        # by what the executables say, not the plan: a plan is a file that anybody may have edited
        self.readers: dict[str, list[int]] = {}
        """The stages that read a value, by index."""
        self._makers: dict[str, int] = {}
        self._specs: dict[str, TensorSpec] = {}
        self._inputs: list[tuple[str, ...]] = []
        self._requests: list[Request] = []
        self._homes = list(homes)
        self._log = log
        self._outputs = frozenset(outputs)
        for i, executable in enumerate(stages):
            self._requests.append(executable.request())
            self._inputs.append(tuple(spec.name for spec in executable.inputs))
            for name in self._inputs[i]:
                self.readers.setdefault(name, []).append(i)
            for spec in executable.outputs:
                if spec.name not in self._inputs[i]:  # else passed through: nobody makes it
                    self._makers[spec.name] = i
                    self._specs[spec.name] = spec
        self._joined: dict[str, Array | Buffer] = {}
        self._buffers: dict[tuple[str, Memory], Buffer] = {}
        self._out: dict[str, Transfer] = {}
        self._in: dict[tuple[str, Memory], Transfer] = {}
        self._join_inside()
        self._steps = self._plan_steps()

    def makes(self, name: str) -> bool:
        """True for a value that a stage makes."""
        return name in self._makers

    def buffered(self) -> dict[str, TensorSpec]:
        """The values that need a host array and can be bound to one once: of known size, made or
        read on the host, or on their way from one memory to another."""
        return {
            name: spec
            for name, spec in self._specs.items()
            if can_bind_once(spec) and not self._inside(name)
        }

    def read_on_host(self, name: str) -> bool:
        """True if a stage on the host reads the value."""
        return any(self._homes[i] is None for i in self.readers.get(name, ()))

    def inner_buffers(self) -> dict[str, Array]:
        """A buffer for each value that can be bound once and that is no output of the model."""
        lives = {
            name: (spec, self._makers[name], max(self.readers.get(name, [self._makers[name]])))
            for name, spec in self.buffered().items()
            if name not in self._outputs
        }
        return shared_buffers(lives)

    def _inside(self, name: str) -> bool:
        """True for a value that never leaves the memory of a device."""
        home = self._homes[self._makers[name]]
        if home is None or name in self._outputs:
            return False
        return all(self._homes[i] is home for i in self.readers.get(name, ()))

    def _join_inside(self) -> None:
        """Bind what stays in one device's memory, which nobody outside ever needs."""
        for name, spec in self._specs.items():
            maker = self._makers[name]
            home = self._homes[maker]
            if home is None or not can_bind_once(spec) or not self._inside(name):
                continue
            buffer = self._buffers[name, home] = home.buffer(spec)
            self._requests[maker].bind({}, {name: buffer})
            for i in self.readers.get(name, ()):
                self._requests[i].bind({name: buffer})
            self._joined[name] = buffer

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
        maker = self._makers.get(name)
        origin = self._homes[maker] if maker is not None else None
        for i in self.readers.get(name, ()):
            home = self._homes[i]
            if home is None:
                self._requests[i].bind({name: value})
            elif home is origin and (name, home) in self._buffers:
                self._requests[i].bind({name: self._buffers[name, home]})
            else:
                self._feed_device(i, home, name, value)

    def _feed_device(self, stage: int, home: Memory, name: str, value: Value) -> None:
        """Bind a device buffer where the value is read, and have every run copy into it."""
        source = HostBuffer(contiguous(value)) if isinstance(value, np.ndarray) else value
        if not isinstance(source, Buffer) or source.dtype.hasobject:
            self._requests[stage].bind({name: value})  # strings, sequences: the backend's affair
            return
        if is_device_buffer(source) and source.device == home.device:
            self._requests[stage].bind({name: source})
            if self._in.pop((name, home), None) is not None:
                self._steps = self._plan_steps()
            return
        key = (name, home)
        transfer = self._in.get(key)
        if transfer is None:
            tally = self._log.tally(name, source.device, home.device)
            transfer = self._in[key] = Transfer(home, tally)
            self._steps = self._plan_steps()
        transfer.between(source, self._bound_buffer(stage, home, name, source))

    def _bound_buffer(self, stage: int, home: Memory, name: str, like: Buffer) -> Buffer:
        """The device buffer for a value of this form, bound where a stage reads it."""
        known = self._buffers.get((name, home))
        if known is None or known.shape != like.shape or known.dtype != like.dtype:
            known = home.buffer(TensorSpec(name, like.dtype, like.shape))
            self._buffers[name, home] = known
        self._requests[stage].bind({name: known})
        return known

    def write_to(self, name: str, buffer: Value) -> None:
        """Bind a buffer where its value is made, or have every run copy into it. Raises
        InputError."""
        maker = self._makers[name]
        home = self._homes[maker]
        target = HostBuffer(buffer) if isinstance(buffer, np.ndarray) else buffer
        if home is None or not isinstance(target, Buffer):
            self._requests[maker].bind({}, {name: buffer})
            return
        made = self._buffers.get((name, home))
        spec = self._specs[name]
        if made is None or not (spec.static or made.shape == target.shape):
            if not spec.static:
                spec = TensorSpec(name, spec.dtype, target.shape)
            made = self._buffers[name, home] = home.buffer(spec)
            self._requests[maker].bind({}, {name: made})
        transfer = self._out.get(name)
        if transfer is None:
            transfer = self._new_out(name, home, target.device)
            self._steps = self._plan_steps()
        transfer.between(made, target)

    def _new_out(self, name: str, home: Memory, destination: str) -> Transfer:
        tally = self._log.tally(name, home.device, destination)
        transfer = self._out[name] = Transfer(home, tally)
        return transfer

    def _plan_steps(self) -> list[_Step]:
        handed = [
            name
            for name in self._makers
            if name not in self._joined and (name in self.readers or name in self._outputs)
        ]
        first: dict[int, list[Transfer]] = {}
        for (name, home), transfer in self._in.items():
            reader = min(i for i in self.readers[name] if self._homes[i] is home)
            first.setdefault(reader, []).append(transfer)
        return [
            _Step(
                request,
                tuple(t for t in first.get(i, ()) if t.value not in handed),
                tuple(name for name in self._inputs[i] if name in handed),
                tuple(name for name in handed if self._makers[name] == i),
                tuple(
                    t
                    for t in self._out.values()
                    if self._makers[t.value] == i and t.value not in handed
                ),
            )
            for i, request in enumerate(self._requests)
        ]

    def run(self) -> dict[str, Value]:
        """Run all stages; gives the values that were handed on."""
        values: dict[str, Value] = {}
        for i, step in enumerate(self._steps):
            self._run_step(i, step, values)
        return values

    def run_timed(self) -> tuple[dict[str, Value], list[float]]:
        """``run``, and the milliseconds of each stage."""
        values: dict[str, Value] = {}
        times_ms = []
        for i, step in enumerate(self._steps):
            start = time.perf_counter_ns()
            self._run_step(i, step, values)
            times_ms.append((time.perf_counter_ns() - start) / 1e6)
        return values, times_ms

    def _run_step(self, stage: int, step: _Step, values: dict[str, Value]) -> None:
        request = step.request
        for transfer in step.before:
            transfer.run()
        if step.reads:
            if self._homes[stage] is None:
                request.bind({name: values[name] for name in step.reads})
            else:
                self._hand_to_device(stage, step.reads, values)
        request.run().wait()
        if step.gives:
            made = request.outputs
            for name in step.gives:
                values[name] = self._handed_on(name, made[name])
        for transfer in step.after:
            transfer.run()

    def _handed_on(self, name: str, value: Value) -> Value:
        """A value of open shape as its readers get it: on the host if it leaves the memory it was
        made in."""
        home = self._homes[self._makers[name]]
        if home is None or not is_device_buffer(value) or self._inside(name):
            return value
        assert isinstance(value, Buffer)
        transfer = self._out.get(name) or self._new_out(name, home, HOST_DEVICE)
        target = transfer.target
        if target is None:
            target = HostBuffer(np.empty(value.shape, value.dtype))
        transfer.copy(value, target)
        return target.array if isinstance(target, HostBuffer) else target

    def _hand_to_device(
        self, stage: int, names: Sequence[str], values: Mapping[str, Value]
    ) -> None:
        """Bind values of open shape where a stage on a device reads them, copied there first."""
        home = self._homes[stage]
        assert home is not None
        for name in names:
            self._feed_device(stage, home, name, values[name])
            transfer = self._in.get((name, home))
            if transfer is not None and not is_device_buffer(values[name]):
                transfer.run()


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
