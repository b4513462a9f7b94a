"""Executables and requests of a worker, with their inputs and outputs in memory both sides have."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioe.host_backend import (
    can_preset,
    check_array,
    host_array,
    match_outputs,
    missing_inputs,
    name_list,
    static_shape,
    unknown_name,
)
from dioe.registry.worker import records
from dioe.registry.worker.arena import Arena, collect, owned, pack
from dioe.registry.worker.buffers import WorkerBuffer
from dioe.registry.worker.memory import Segment, aligned
from dioe.registry.worker.process import WorkerProcess
from dioe.registry.worker.values import DTYPES, Packer, malformed
from dioe.types import (
    DONE,
    Array,
    BackendError,
    DeviceLost,
    Event,
    Feeds,
    InputError,
    OpTime,
    StageModel,
    TensorSpec,
    TimedOut,
    Value,
)

log = logging.getLogger(__name__)


PACKED = frozenset({"int4", "uint4", "float4_e2m1fn", "int2", "uint2"})


class WorkerExecutable:
    """A compiled stage in a worker. Thread-safe."""

    def __init__(
        self,
        process: WorkerProcess,
        answer: Mapping[str, Any],
        *,
        device: str,
        closed: threading.Event,
        call_s: float,
        run_s: float,
        model: StageModel | None,
    ) -> None:
        self.inputs = tuple(map(records.spec, records.items(answer, "inputs", dict)))
        self.outputs = tuple(map(records.spec, records.items(answer, "outputs", dict)))
        self.memory_bytes: int | None = records.field(answer, "memory_bytes", records.OPTIONAL_INT)
        self.process, self.device, self.run_s = process, device, run_s
        self._number = records.field(answer, "executable", int)
        self._call_s, self._context_closed, self._closed = call_s, closed, False
        self._model = model
        weakref.finalize(self, process.release, self._number).atexit = False

    def check_open(self) -> None:
        """Raise BackendError once closed."""
        if self._closed or self._context_closed.is_set():
            raise BackendError("the executable is closed", place=self.process.place)

    def request(self) -> WorkerRequest:
        """See ``dioe.types.Executable``."""
        self.check_open()
        args = {"executable": self._number}
        answer = self.process.call("request", args, limit_s=self._call_s)
        return WorkerRequest(self, records.field(answer, "request", int))

    def serialize(self) -> bytes | None:
        """See ``dioe.types.Executable``."""
        self.check_open()
        arena, args = Arena(self.process), {"executable": self._number}
        found = collect(self.process, "serialize", args, arena, self._call_s)
        blob = found.get("blob")
        return blob.tobytes() if isinstance(blob, np.ndarray) else None

    def profile(self) -> tuple[OpTime, ...]:
        """See ``dioe.types.Executable``."""
        self.check_open()
        args = {"executable": self._number}
        answer = self.process.call("profile", args, limit_s=self._call_s)
        return tuple(map(records.op_time, records.items(answer, "ops", dict)))

    def close(self) -> None:
        """See ``dioe.types.Executable``. May be called again."""
        if not self._closed:
            self._closed = True
            close_object(self.process, self._number, self._call_s)
            self._model = None


def close_object(process: WorkerProcess, number: int, limit_s: float) -> None:
    """Close what lives in a worker; nothing to do if the worker has gone, and it with it."""
    if not process.alive:
        return
    try:
        process.call("close_object", {"object": number}, limit_s=limit_s)
    except (DeviceLost, TimedOut) as error:
        log.warning("%s", error)


class _Input:
    """A tensor bound in the worker: where it lies, and what is copied there for each run, which
    is nothing for a tensor on the worker's device."""

    __slots__ = ("array", "copied")

    def __init__(self, array: Array | WorkerBuffer, copied: Array | None) -> None:
        self.array, self.copied = array, copied


class WorkerRequest:
    """One single-threaded use. Tensors are bound to shared memory once; see decision 0010.

    What can't be bound for good (strings, sequences, optionals, packed tensors) goes with each run.
    """

    def __init__(self, executable: WorkerExecutable, number: int) -> None:
        self._executable, self._process, self._number = executable, executable.process, number
        self._inputs = {spec.name: spec for spec in executable.inputs}
        self._outputs = {spec.name: spec for spec in executable.outputs}
        self._tensors: dict[str, _Input] = {}
        self._others: dict[str, Value] = {}
        # outputs in shared memory or on the worker's device, bound in the worker
        self._preset: dict[str, Array | WorkerBuffer] = {}
        # the caller's arrays and buffers for outputs
        self._targets: dict[str, Array | WorkerBuffer] = {}
        self._results: dict[str, Value] = {}
        self._given, self._arena = Arena(self._process), Arena(self._process)
        self._call_given, self._call_arena = Arena(self._process), Arena(self._process)
        self._missing = {n for n, spec in self._inputs.items() if spec.kind != "optional"}
        self._ran = False
        weakref.finalize(self, self._process.release, number).atexit = False

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        changed_inputs: dict[str, Any] = {}
        changed_outputs: dict[str, Any] = {}
        tensors, others = {}, {}
        preset: dict[str, Array | WorkerBuffer] = {}
        targets: dict[str, Array | WorkerBuffer] = {}
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            if not _is_tensor(spec):
                others[name] = _checked(value, spec)
                continue
            tensors[name] = bound = self._input(name, value, spec)
            before = self._tensors.get(name)
            if before is None or before.array is not bound.array:
                changed_inputs[name] = self._described(bound.array)
        for name, value in (outputs or {}).items():
            targets[name], shared = self._output(name, value)
            if shared is not None:
                preset[name] = shared
                changed_outputs[name] = self._described(shared)
        if not self._preset:
            self._preset_outputs(preset, changed_outputs)
        if changed_inputs or changed_outputs:
            args = {
                "request": self._number,
                "inputs": changed_inputs,
                "outputs": changed_outputs,
            }
            self._process.call("bind", args, limit_s=self._executable.run_s)
        self._tensors.update(tensors)
        self._others.update(others)
        self._preset.update(preset)
        self._targets.update(targets)
        self._missing -= inputs.keys()

    def _input(self, name: str, value: Value, spec: TensorSpec) -> _Input:
        """Where the worker finds the tensor: where it lies, where it went before, or new memory."""
        if isinstance(value, WorkerBuffer):
            return _Input(self._at_home(value, spec), None)
        array = host_array(value, spec)
        check_array(array, spec)
        if self._process.find(array) is not None:
            return _Input(array, None)
        before = self._tensors.get(name)
        if before is not None and before.copied is not None and before.array.shape == array.shape:
            return _Input(before.array, array)
        return _Input(self._shared(array.shape, array.dtype), array)

    def _at_home(self, buffer: WorkerBuffer, spec: TensorSpec, what: str = "input") -> WorkerBuffer:
        """The buffer, which fits and is where the executable computes; raises InputError."""
        check_array(buffer, spec, what)
        buffer.check_home(self._process, self._executable.device)
        return buffer

    def _output(
        self, name: str, value: Value
    ) -> tuple[Array | WorkerBuffer, Array | WorkerBuffer | None]:
        """The caller's array or buffer for an output, and what is bound for it in the worker, if
        anything."""
        spec = self._outputs.get(name)
        if spec is None:
            raise unknown_name(name, self._outputs, "output")
        if isinstance(value, WorkerBuffer):
            buffer = self._at_home(value, spec, "output")
            return buffer, buffer
        array = host_array(value, spec)
        check_array(array, spec, "output")
        if not array.flags.writeable:
            raise InputError("must be writable", place=f"output {name!r}")
        if not _is_tensor(spec):
            return array, None
        if self._process.find(array) is not None:
            return array, array
        return array, self._shared(array.shape, array.dtype)

    def _preset_outputs(
        self, preset: dict[str, Array | WorkerBuffer], changed: dict[str, Any]
    ) -> None:
        """Memory for all outputs of known shape that the caller has none for: in one segment."""
        specs = [
            spec
            for name, spec in self._outputs.items()
            if name not in preset and can_preset(spec) and _is_tensor(spec)
        ]
        nbytes = [int(np.prod(static_shape(s), dtype=np.int64)) * s.dtype.itemsize for s in specs]
        if not specs:
            return
        segment = self._process.segment(sum(map(aligned, nbytes)))
        offset = 0
        for spec, size in zip(specs, nbytes, strict=True):
            preset[spec.name] = array = segment.array(offset, static_shape(spec), spec.dtype)
            changed[spec.name] = self._described(array)
            offset += aligned(size)

    def _shared(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        segment: Segment = self._process.segment(nbytes)
        return segment.array(0, shape, dtype)

    def _described(self, value: Array | WorkerBuffer) -> dict[str, Any]:
        if isinstance(value, WorkerBuffer):
            return value.described
        return Packer(self._process.find).add(value)

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns."""
        self._executable.check_open()
        if self._missing:
            raise missing_inputs(sorted(self._missing), self._process.place)
        if not self._ran and not self._preset and not self._tensors:
            self.bind({})  # nothing was bound, since there are no inputs
        for bound in self._tensors.values():
            if bound.copied is not None:
                assert isinstance(bound.array, np.ndarray)
                np.copyto(bound.array, bound.copied)
        packer = Packer(self._process.find)
        described = {name: packer.add(value) for name, value in self._others.items()}
        names = [name for name in self._outputs if name not in self._preset]
        args = {"request": self._number, "inputs": described, "names": names}
        args["given"] = pack(packer, self._given)
        found = collect(self._process, "run", args, self._arena, self._executable.run_s)
        self._ran = True
        self._results = {}
        for name in self._outputs:
            result = self._preset[name] if name in self._preset else _named(found, name)
            target = self._targets.get(name)
            if target is not None:
                self._copy_out(name, result, target)
                result = target
            self._results[name] = result
        return DONE

    def _copy_out(self, name: str, result: Value, target: Array | WorkerBuffer) -> None:
        if result is target or isinstance(target, WorkerBuffer):
            return
        if not isinstance(result, np.ndarray) or result.shape != target.shape:
            raise InputError(
                f"the result doesn't fit shape {list(target.shape)}", place=f"output {name!r}"
            )
        np.copyto(target, result)

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        return self._results

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        self._executable.check_open()
        names = name_list(output_names)
        match_outputs(names, self._outputs)
        packer = Packer(self._process.find)
        described = {}
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            if isinstance(value, WorkerBuffer):
                described[name] = self._at_home(value, spec).described
            else:
                described[name] = packer.add(_checked(value, spec))
        missing = [n for n, s in self._inputs.items() if n not in inputs and s.kind != "optional"]
        if missing:
            raise missing_inputs(missing, self._process.place)
        args = {"request": self._number, "inputs": described, "names": list(dict.fromkeys(names))}
        args["given"] = pack(packer, self._call_given)
        limit_s = self._executable.run_s
        found = collect(self._process, "call", args, self._call_arena, limit_s)
        return [owned(_named(found, name)) for name in names]


def _is_tensor(spec: TensorSpec) -> bool:
    """Whether values of it can be bound in shared memory. Runtimes have packed tensors in another
    form than numpy: they convert when such an input is bound, so it goes with each run."""
    packed = spec.dtype.name in PACKED
    return spec.kind == "tensor" and spec.dtype.name in DTYPES and not packed


def _checked(value: Value, spec: TensorSpec) -> Value:
    """A tensor as an array that fits its spec; anything else as it is."""
    if spec.kind != "tensor":
        return value
    array = host_array(value, spec)
    check_array(array, spec)
    return array


def _named(values: Mapping[str, Value], name: str) -> Value:
    try:
        return values[name]
    except KeyError:
        raise malformed(f"there is no output {name!r:.80}") from None
