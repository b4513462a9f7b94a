"""Requests on plans of several stages, which run one after the other on one lane."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dioe.host_backend import aligned_empty, static_shape
from dioe.runtime.memory import Memory, TransferLog
from dioe.runtime.request import PlanRequest
from dioe.runtime.values import as_array, owned
from dioe.runtime.wiring import Wiring, can_bind_once, new_buffer, size_bytes
from dioe.types import Array, Executable, Feeds, HostBuffer, InputError, TensorSpec, Value

COPY_LIMIT_BYTES = 8 * 2**20
"""Up to this size the model's inputs and outputs are copied to and from buffers that stay bound:
binding another address costs OpenVINO's next run more than that
(``docs/decisions/0006-copies-on-openvino.md``)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a staged request runs on: compiled stages in order, the inputs they read and the outputs
    that are wanted; the memory of each stage (None is the host's); outputs that never change; and
    where copies between memories are counted."""

    executables: Sequence[Executable]
    inputs: Sequence[TensorSpec]
    output_names: Sequence[str]
    homes: Sequence[Memory | None]
    constants: Mapping[str, Array] = field(default_factory=dict)
    transfer_log: TransferLog = field(default_factory=TransferLog)

    def wiring(self) -> Wiring:
        """New requests on the executables, joined."""
        return Wiring(self.executables, self.output_names, self.homes, self.transfer_log)


class StagedRequest(PlanRequest):
    """Stages one after the other; values between stages in one memory pass without a copy.

    ``call`` on the one hand and ``bind`` and ``run`` on the other have requests and buffers of
    their own, made when first used.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._calls: _Calls | None = None
        self._preset: _Preset | None = None

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        if self._calls is None:
            self._calls = _Calls(self._parts)
        return self._calls.run(inputs, output_names)

    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        self._bound.bind(inputs, outputs)

    def run(self) -> None:
        self._bound.run()

    def run_timed(self) -> list[float]:
        return self._bound.run_timed()

    @property
    def outputs(self) -> Mapping[str, Value]:
        return self._bound.outputs

    @property
    def _bound(self) -> _Preset:
        if self._preset is None:
            self._preset = _Preset(self._parts)
        return self._preset


_NONE: Array = np.empty(0)


class _Calls:
    """From feeds to fresh outputs.

    Inputs are copied once, however many stages read them; very large ones, and those whose shape
    may vary, are bound. Outputs are copied; very large ones are written to arrays made for the
    call.
    """

    def __init__(self, parts: Parts) -> None:
        self._constants = parts.constants
        self._wiring = wiring = parts.wiring()
        buffers = wiring.inner_buffers()
        self._large: dict[str, TensorSpec] = {}
        self._room: dict[str, Array] = {}
        self._handed: set[str] = set()  # large outputs that the caller has from the last call
        self._own: dict[str, Array] = {}
        for name, spec in wiring.buffered().items():
            if name not in parts.output_names:
                continue
            if size_bytes(spec) > COPY_LIMIT_BYTES and name not in wiring.readers:
                self._large[name] = spec
            else:
                self._own[name] = new_buffer(spec)
        read = [spec for spec in parts.inputs if spec.name in wiring.readers]
        copied = {
            spec.name: new_buffer(spec)
            for spec in read
            if can_bind_once(spec)
            and size_bytes(spec) <= COPY_LIMIT_BYTES
            and wiring.read_on_host(spec.name)
        }
        self._copied = list(copied.items())
        self._bound = [
            (spec.name, spec.kind == "tensor") for spec in read if spec.name not in copied
        ]
        self._last: dict[str, Value] = {}
        wiring.join({**buffers, **self._own, **copied})

    def run(self, feeds: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``PlanRequest.call``."""
        for name, buffer in self._copied:
            value = feeds[name]
            buffer[...] = value if type(value) is np.ndarray else as_array(value)
        for name, may_stay in self._bound:
            self._bind(name, feeds[name], may_stay)
        if self._large:
            self._make_room(output_names)
        values = self._wiring.run()
        return [self._take(name, feeds, values) for name in output_names]

    def _bind(self, name: str, value: Value, may_stay: bool) -> None:
        """Bind a feed in place, unless it is the array that is bound already."""
        if value is self._last.get(name, _NONE):
            return
        self._last.pop(name, None)  # where binding fails at some reader, nothing is known
        self._wiring.feed(name, value)
        if may_stay and _read_in_place(value):
            self._last[name] = value

    def _make_room(self, output_names: Sequence[str]) -> None:
        """Bind large outputs to new arrays: those asked for, and those that the caller got in the
        last call and may still use."""
        for name, spec in self._large.items():
            if name in output_names or name in self._handed:
                self._room[name] = array = new_buffer(spec)
                self._wiring.write_to(name, array)
        self._handed.clear()

    def _take(self, name: str, feeds: Feeds, values: Mapping[str, Value]) -> Value:
        """One output of the run just done, for the caller to keep."""
        own = self._own.get(name)
        if own is not None:
            return own.copy()
        if name in self._large:
            self._handed.add(name)
            return self._room[name]
        if name in values:
            return owned(values[name])
        return owned(feeds[name] if name in feeds else self._constants[name])


class _Preset:
    """Runs on buffers that the caller reads and writes in place."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wiring = parts.wiring()
        self._inputs: dict[str, Value] = {}
        self._targets: dict[str, Value] = {}
        self._own: dict[str, Array] = {}
        self._copies: list[tuple[Array, Array]] = []  # the caller's buffer, and what fills it
        self._given: list[str] = []  # outputs that no stage makes
        self._found: dict[str, Value] = {}
        self._wiring.join(self._wiring.inner_buffers())

    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        """See ``PlanRequest.bind``."""
        for name, value in inputs.items():
            self._wiring.feed(name, value)
            self._inputs[name] = value
        self._targets.update(outputs)
        self._wire_outputs()

    def _wire_outputs(self) -> None:
        """Give every output a place: the caller's buffer, or one of our own.

        A buffer that is also an input, or another output, is filled when all stages have run, for
        they might still read it.
        """
        wiring, known = self._wiring, self._wiring.buffered()
        self._copies, self._given, self._found = [], [], {}
        joined = {}
        for name in self._parts.output_names:
            if not wiring.makes(name):
                self._given.append(name)
                continue
            target = _unwrapped(self._targets.get(name))
            if isinstance(target, np.ndarray) and self._in_use(name, target):
                twin = self._own_buffer(name, target.shape, target.dtype)
                self._copies.append((target, twin))
                target = twin
            elif target is None and name in known:
                target = self._own_buffer(name, static_shape(known[name]), known[name].dtype)
            if target is None:
                continue
            self._found[name] = self._targets.get(name, target)
            if isinstance(target, np.ndarray) and name in known:
                joined[name] = target
            else:
                wiring.write_to(name, target)
        wiring.join(joined)

    def _in_use(self, name: str, target: Array) -> bool:
        """Whether a buffer for an output is something else's as well."""
        others = [*self._inputs.values(), *(t for n, t in self._targets.items() if n != name)]
        arrays = [a for a in map(_unwrapped, others) if isinstance(a, np.ndarray)]
        return any(np.may_share_memory(target, array) for array in arrays)

    def _own_buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        made = self._own.get(name)
        if made is None or made.shape != shape or made.dtype != dtype:
            made = self._own[name] = aligned_empty(shape, dtype)
        return made

    def run(self) -> None:
        """See ``PlanRequest.run``."""
        self._finish(self._wiring.run())

    def run_timed(self) -> list[float]:
        """See ``PlanRequest.run_timed``."""
        values, times_ms = self._wiring.run_timed()
        start = time.perf_counter_ns()
        self._finish(values)
        times_ms[-1] += (time.perf_counter_ns() - start) / 1e6
        return times_ms

    def _finish(self, values: Mapping[str, Value]) -> None:
        """Fill what no stage could write in place."""
        for target, twin in self._copies:
            np.copyto(target, twin)
        for name in self._given:
            self._give(name)
        for name, value in values.items():
            if name not in self._targets:
                self._found[name] = value

    def _give(self, name: str) -> None:
        """An output that no stage makes: an input of the model, or a constant."""
        value = self._inputs[name] if name in self._inputs else self._parts.constants[name]
        if name not in self._targets:
            self._found[name] = owned(value)
            return
        target, array = as_array(self._targets[name]), as_array(value)
        if target.shape != array.shape:
            raise InputError(
                f"the result has shape {list(array.shape)}, the buffer {list(target.shape)}",
                place=f"output {name!r}",
            )
        np.copyto(target, array)
        self._found[name] = self._targets[name]

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``PlanRequest.outputs``."""
        found = self._found
        return {name: found[name] for name in self._parts.output_names if name in found}


def _unwrapped(value: Value) -> Value:
    return value.array if isinstance(value, HostBuffer) else value


def _read_in_place(value: Value) -> bool:
    """True for an array that backends don't copy when it is bound."""
    return isinstance(value, np.ndarray) and value.flags.c_contiguous and value.dtype.kind != "O"
