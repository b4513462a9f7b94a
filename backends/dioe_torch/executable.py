"""A linked program as an executable, and requests on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from dioe.host_backend import (
    check_array,
    contiguous,
    host_array,
    match_outputs,
    missing_inputs,
    name_list,
    unknown_name,
)
from dioe.types import (
    DONE,
    Array,
    BackendError,
    Event,
    Feeds,
    InputError,
    OpTime,
    TensorSpec,
    UnsupportedError,
    Value,
)
from dioe_torch.errors import closed, errors
from dioe_torch.lowerings import Linked
from dioe_torch.memory import DeviceMemory, TorchBuffer
from dioe_torch.numerics import full_fp32
from dioe_torch.options import NO_PROFILE
from dioe_torch.profiler import Profiler
from dioe_torch.queues import Queue
from dioe_torch.runs import Direct, Runner
from dioe_torch.staging import Staging
from dioe_torch.tensors import as_array, as_tensor


class Engine(Protocol):
    """What computes: takes the inputs in the program's order, gives the outputs in theirs."""

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]: ...
    @property
    def constants(self) -> Sequence[torch.Tensor]: ...


class TorchExecutable:
    """A compiled stage. ``request`` may be called from several threads."""

    def __init__(
        self,
        engine: Engine,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        queue: Queue,
        *,
        place: str,
        memory: DeviceMemory | None = None,
        threads: int | None = None,
        profile: bool = False,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.queue, self.memory, self.place = queue, memory, place
        self._engine: Engine | None = engine
        self._threads = threads
        constants = {id(tensor): tensor for tensor in engine.constants}.values()
        self.memory_bytes: int | None = sum(t.numel() * t.element_size() for t in constants)
        self.constant_storages = frozenset(_storage(tensor) for tensor in constants)
        self._profiler = Profiler(engine) if profile and isinstance(engine, Linked) else None

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Hand one run over to the device; raises what torch raises."""
        engine = self._engine
        if engine is None:
            raise closed()
        run = engine.run if self._profiler is None else self._profiler.run
        with (
            torch.inference_mode(),
            full_fp32(self.queue.device),
            on_threads(self._threads),
        ):
            return run(inputs)

    def request(self) -> TorchRequest:
        """A new request; raises BackendError once closed."""
        self.check_open()
        return TorchRequest(self, self.runner())

    def runner(self) -> Runner:
        """What a new request runs by."""
        return Direct(self.run)

    def check_open(self) -> None:
        """Raise BackendError once closed."""
        if self._engine is None:
            raise closed()

    def serialize(self) -> bytes | None:
        """Always None: there is no compiled form."""
        return None

    def profile(self) -> tuple[OpTime, ...]:
        """Times of each op over the runs so far, the first one left out if there were more."""
        self.check_open()
        if self._profiler is None:
            eager = isinstance(self._engine, Linked)
            reason = "not compiled for profiling" if eager else NO_PROFILE
            raise UnsupportedError(reason, place=self.place, fix="compile with profile=True")
        return self._profiler.times()

    def close(self) -> None:
        """Let go of the model. May be called again."""
        self._engine = None
        self._profiler = None


class TorchRequest:
    """Inputs and outputs by name, on host arrays or on buffers of the device."""

    def __init__(self, executable: TorchExecutable, runner: Runner) -> None:
        self._executable, self._runner = executable, runner
        self._staging = Staging(executable.queue) if executable.queue.page_locked else None
        self._inputs = {spec.name: spec for spec in executable.inputs}
        self._outputs = {spec.name: spec for spec in executable.outputs}
        self._index = {spec.name: i for i, spec in enumerate(executable.outputs)}
        self._bound: dict[str, Value] = {}
        self._tensors: dict[str, Any] = {}
        self._targets: dict[str, Array | TorchBuffer] = {}
        self._results: dict[str, Value] = {}

    @property
    def graph_note(self) -> str | None:
        """Empty if runs are replayed from a captured graph, else why not; None before a run has
        told."""
        return self._runner.note

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        values = {name: (value, *self._fed(name, value)) for name, value in inputs.items()}
        targets = {name: self._target(name, value) for name, value in (outputs or {}).items()}
        for name, (value, tensor, in_place) in values.items():
            self._bound[name] = value
            self._tensors[name] = tensor if in_place else None
        self._targets.update(targets)

    def _fed(self, name: str, value: Value) -> tuple[Any, bool]:
        """A feed as a tensor, and whether that is the memory that was given."""
        spec = self._inputs.get(name)
        if spec is None:
            raise unknown_name(name, self._inputs, "input")
        memory = self._executable.memory
        if spec.kind != "tensor":
            return _tree(value, spec), False
        if memory is not None and memory.holds(value):
            check_array(value, spec)
            return value, True
        array = host_array(value, spec)
        check_array(array, spec)
        return as_tensor(contiguous(array)), array.flags.c_contiguous

    def _target(self, name: str, value: Value) -> Array | TorchBuffer:
        spec = self._outputs.get(name)
        if spec is None:
            raise unknown_name(name, self._outputs, "output")
        memory = self._executable.memory
        if memory is not None and memory.holds(value):
            check_array(value, spec, "output")
            return value
        array = host_array(value, spec)
        check_array(array, spec, "output")
        if not array.flags.writeable:
            raise InputError("must be writable", place=f"output {name!r}")
        return array

    def run(self) -> Event:
        """See ``dioe.types.Request``. Done when this returns if any output goes to the host."""
        executable = self._executable
        executable.check_open()
        missing = [
            n for n, s in self._inputs.items() if n not in self._bound and s.kind != "optional"
        ]
        if missing:
            raise missing_inputs(missing, executable.place)
        feeds = [
            self._tensors[name]
            if self._tensors.get(name) is not None
            else (self._fed(name, self._bound[name])[0] if name in self._bound else None)
            for name in self._inputs
        ]
        with executable.queue.current(), errors(executable.place):
            inputs = self._on_device(feeds)
            results = self._runner(inputs)
            on_device = []
            for name, i in self._index.items():
                target = self._targets.get(name)
                if isinstance(target, TorchBuffer):
                    self._into_buffer(name, results[i], target)
                    on_device.append(target)
            event = executable.queue.record() if on_device else DONE
            for buffer in on_device:
                buffer.ready = event
            for feed in feeds:
                if isinstance(feed, TorchBuffer):
                    feed.read_by(executable.queue, event)
            wanted = [n for n in self._index if not isinstance(self._targets.get(n), TorchBuffer)]
            fetched = self._fetched({name: results[self._index[name]] for name in wanted})
            given = _storages(inputs) | executable.constant_storages
            found: dict[str, Value] = {}
            seen: set[int] = set()
            for name in self._index:
                target = self._targets.get(name)
                if isinstance(target, TorchBuffer):
                    found[name] = target
                elif target is not None:
                    self._into_array(name, fetched[name], target)
                    found[name] = target
                else:
                    found[name] = self._owned(name, fetched[name], given, seen)
        self._results = found
        return event if len(on_device) == len(self._index) else DONE

    def _on_device(self, feeds: Sequence[Any]) -> list[Any]:
        """Feeds where the program wants them; waits, on the device, for buffers to be ready."""
        executable, staging = self._executable, self._staging
        queue = executable.queue
        if executable.memory is None:
            return list(feeds)
        found: list[Any] = []
        try:
            for i, (name, feed) in enumerate(zip(self._inputs, feeds, strict=True)):
                if isinstance(feed, TorchBuffer):
                    queue.after(feed.ready)
                    queue.keep(feed.tensor)
                    found.append(feed.tensor)
                elif not isinstance(feed, torch.Tensor):
                    found.append(feed)
                elif staging is None:
                    found.append(feed.to(queue.device))
                else:
                    piece = staging.sending(name, feed)
                    place = self._runner.place_of(i, piece)
                    if place is None:
                        found.append(piece.to(queue.device, non_blocking=True))
                    else:
                        found.append(place.copy_(piece, non_blocking=True))
        finally:
            if staging is not None:
                staging.sent()
        return found

    def _fetched(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Results that go to the host: tensors of the device in page-locked memory, all of them
        waited for once, where there is such memory; the others as they are."""
        if self._staging is None:
            return dict(results)
        there = {
            name: result
            for name, result in results.items()
            if isinstance(result, torch.Tensor) and result.device.type != "cpu"
        }
        return {**results, **(self._staging.fetched(there) if there else {})}

    def _into_buffer(self, name: str, result: Any, target: TorchBuffer) -> None:
        self._check_shape(name, result, target.shape)
        target.to_write(self._executable.queue)
        target.tensor.copy_(result, non_blocking=True)

    def _into_array(self, name: str, result: Any, target: Array) -> None:
        self._check_shape(name, result, target.shape)
        if target.flags.c_contiguous:
            as_tensor(target).copy_(result)
        else:
            np.copyto(target, as_array(result.cpu()))

    def _check_shape(self, name: str, result: Any, shape: tuple[int, ...]) -> None:
        if not isinstance(result, torch.Tensor) or tuple(result.shape) != shape:
            raise InputError(
                f"the result doesn't fit shape {list(shape)}", place=f"output {name!r}"
            )

    def _owned(self, name: str, result: Any, given: frozenset[int], seen: set[int]) -> Value:
        """A result on the host, in memory that nobody else has."""
        if isinstance(result, list):
            return [self._owned(name, each, given, seen) for each in result]
        if result is None:
            return None
        if result.device.type != "cpu":
            result = result.cpu()
        elif self._staging is not None:
            result = result.clone()  # of memory that the next run writes into
        elif (storage := _storage(result)) in given or storage in seen:
            result = result.clone()
        else:
            seen.add(storage)
        array = as_array(result)
        spec = self._outputs[name]
        if array.dtype != spec.dtype and spec.dtype.kind != "O":
            raise BackendError(
                f"the result is {array.dtype}, the model says {spec.dtype}",
                place=f"{self._executable.place}: output {name!r}",
            )
        return array

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        return self._results

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        executable = self._executable
        executable.check_open()
        names = name_list(output_names)
        match_outputs(names, self._outputs)
        missing = [n for n, s in self._inputs.items() if n not in inputs and s.kind != "optional"]
        if missing:
            raise missing_inputs(missing, executable.place)
        for name in inputs:
            if name not in self._inputs:
                raise unknown_name(name, self._inputs, "input")
        feeds = [
            self._fed(name, inputs[name])[0] if name in inputs else None for name in self._inputs
        ]
        with executable.queue.current(), errors(executable.place):
            tensors = self._on_device(feeds)
            results = self._runner(tensors)
            given = _storages(tensors) | executable.constant_storages
            fetched = self._fetched({name: results[self._index[name]] for name in names})
            seen: set[int] = set()
            return [self._owned(name, fetched[name], given, seen) for name in names]


def _tree(value: Value, spec: TensorSpec) -> Any:
    """A sequence or an optional as lists of tensors."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_tree(each, spec) for each in value]
    array = host_array(value, spec)
    if array.dtype != spec.dtype:
        raise InputError(
            f"dtype is {array.dtype}, the model wants {spec.dtype}", place=f"input {spec.name!r}"
        )
    return as_tensor(contiguous(array))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _storages(values: Sequence[Any]) -> frozenset[int]:
    found: set[int] = set()
    for value in values:
        if isinstance(value, torch.Tensor):
            found.add(_storage(value))
        elif isinstance(value, list):
            found |= _storages(value)
    return frozenset(found)


@contextlib.contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Compute on so many threads; torch's own setting is put back, for others use torch too."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
