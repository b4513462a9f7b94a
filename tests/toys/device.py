"""A device with a memory of its own: its backend takes and gives nothing but its own buffers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioe.types import (
    DONE,
    Array,
    BackendError,
    Buffer,
    DeviceInfo,
    Event,
    Feeds,
    HostBuffer,
    KnownAs,
    Precisions,
    Resources,
    StageModel,
    TensorSpec,
    Value,
)
from tests.toys.backend import ToyBackend, ToyContext, ToyExecutable, ToyRequest

DEVICE = "gpu:0"


class DeviceBuffer:
    """Memory that the host can't address; only its context copies into and out of it."""

    owner: object = None
    strides = None
    ready = DONE

    def __init__(self, hidden: Array, context: DeviceToyContext) -> None:
        self.hidden, self.context = hidden, context
        self.device = context.device
        self.dtype, self.shape = hidden.dtype, hidden.shape

    def numpy(self) -> Array:
        raise BackendError("the host can't address this memory", place=self.device)


class DeviceToyBackend(ToyBackend):
    """Right by ``onnx.reference``, on a device whose memory is strictly its own.

    ``copied`` lists every copy: the two devices and the bytes. ``strict`` requests refuse host
    arrays, others copy them unseen, as backends do for single targets.
    """

    def __init__(
        self, name: str = "devtoy", device: str = DEVICE, *, strict: bool = True, **settings: Any
    ) -> None:
        super().__init__(name, **settings)
        self.strict = strict
        self.delay_s = 0.0
        """What every op of a run takes at least."""
        self.device_id = device
        self.copied: list[tuple[str, str, int]] = []

    def probe(self) -> Sequence[DeviceInfo]:
        kind = self.device_id.partition(":")[0]
        return [DeviceInfo(self.device_id, kind, uuid=self.device_id, known_as=KnownAs.SIMULATED)]

    def open(self, device: str, resources: Resources) -> DeviceToyContext:
        self.note("open")
        return DeviceToyContext(self, device, resources)


class DeviceToyContext(ToyContext):
    """Allocates what only it can copy."""

    backend: DeviceToyBackend

    def alloc(self, spec: TensorSpec) -> Buffer:
        assert spec.static
        assert spec.shape is not None
        shape = tuple(d for d in spec.shape if isinstance(d, int))
        hidden = np.empty(shape, spec.dtype)
        if spec.dtype.kind == "f":
            hidden.fill(np.nan)  # what nobody wrote must not look right
        return DeviceBuffer(hidden, self)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        source, target = self._memory(src), self._memory(dst)
        assert source.dtype == target.dtype
        assert source.shape == target.shape
        np.copyto(target, source)
        with self.backend.lock:
            self.backend.copied.append((src.device, dst.device, source.nbytes))
        return DONE

    def _memory(self, buffer: Buffer) -> Array:
        if isinstance(buffer, HostBuffer):
            return buffer.array
        assert isinstance(buffer, DeviceBuffer)
        assert buffer.context is self, "a buffer of another context"
        return buffer.hidden

    def make(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> ToyExecutable:
        return DeviceToyExecutable(self.backend, model, precisions, self)


class DeviceToyExecutable(ToyExecutable):
    """Keeps the context whose buffers it takes."""

    def __init__(
        self,
        backend: ToyBackend,
        model: StageModel,
        precisions: Precisions,
        context: DeviceToyContext,
    ) -> None:
        super().__init__(backend, model, precisions)
        self.context = context
        self.op_count = len(model.op_ids)

    def request(self) -> ToyRequest:
        self.backend.note("request")
        return DeviceToyRequest(self)


class DeviceToyRequest(ToyRequest):
    """Strict ones refuse host arrays, but for strings and what is no tensor."""

    _executable: DeviceToyExecutable

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        backend = self._executable.backend
        assert isinstance(backend, DeviceToyBackend)
        for name, value in {**inputs, **(outputs or {})}.items():
            host = isinstance(value, np.ndarray | HostBuffer) and value.dtype.kind != "O"
            assert not (host and backend.strict), f"{name} is bound in host memory"
            if isinstance(value, DeviceBuffer):
                assert value.context is self._executable.context
        super().bind(inputs, outputs)

    def run(self) -> Event:
        executable = self._executable
        assert isinstance(executable.backend, DeviceToyBackend)
        time.sleep(executable.backend.delay_s * executable.op_count)
        names = [spec.name for spec in executable.outputs]
        shown = {name: _hidden(value) for name, value in self._inputs.items()}
        results = executable.evaluate(names, shown)
        executable.backend.note("run")
        found: dict[str, Value] = {}
        for name, result in zip(names, results, strict=True):
            target = self._targets.get(name)
            if isinstance(target, DeviceBuffer):
                np.copyto(target.hidden, np.asarray(result))
                found[name] = target
            elif isinstance(target, np.ndarray):
                np.copyto(target, np.asarray(result))
                found[name] = target
            elif isinstance(result, np.ndarray | np.generic) and np.asarray(result).dtype != "O":
                found[name] = DeviceBuffer(np.array(result), executable.context)
            else:
                found[name] = result
        self._outputs = found
        return DONE


def _hidden(value: Value) -> Value:
    return value.hidden if isinstance(value, DeviceBuffer) else value
