"""A request on a device with a memory of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from dioe.host_backend import (
    check_array,
    contiguous,
    host_array,
    match_outputs,
    name_list,
    unknown_name,
)
from dioe.types import DONE, Array, BackendError, Event, Feeds, InputError, TensorSpec, Value
from dioe_onnxruntime.errors import run_error
from dioe_onnxruntime.executable import PLACE, BoundRequest, closed
from dioe_onnxruntime.memory import DeviceBuffer, DeviceMemory
from dioe_onnxruntime.values import array_of, ort_value


class DeviceRequest(BoundRequest):
    """A request whose inputs and outputs may be buffers of the device or host arrays.

    Device buffers are read and written where they are. Host arrays are copied in as a run starts
    and out before it returns, which lets other threads of Python go on. An output that isn't bound
    is the backend's own, on the host.

    Into a bound host array whose size the model leaves open, ONNX Runtime would copy whatever has
    as many elements: such an output comes to the host as it is, and is checked there.
    """

    __slots__ = ("_dynamic", "_from_device", "_from_host", "_memory", "_on_device")

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        memory: DeviceMemory,
    ) -> None:
        super().__init__(session, inputs, outputs)
        self._memory = memory
        self._from_host: dict[str, Array] = {}
        self._from_device: dict[str, DeviceBuffer] = {}
        self._on_device: dict[str, DeviceBuffer] = {}
        self._dynamic = self._fresh

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``. Raises InputError for a buffer of another device."""
        host: dict[str, Value] = {}
        with self._memory.lane.exclusive():
            for name, value in inputs.items():
                if self._memory.holds(value):
                    self._bind_buffer(name, value)
                else:
                    host[name] = value
            super().bind(host)
            for name in host:
                self._from_host[name] = self._kept[name]
                self._from_device.pop(name, None)
            for name, value in (outputs or {}).items():
                if self._memory.holds(value):
                    self._bind_output_buffer(name, value)
                else:
                    super().bind({}, {name: value})
                    self._on_device.pop(name, None)
                self._fresh = tuple(n for n in self._dynamic if n not in self._on_device)

    def _checked(self, name: str, buffer: DeviceBuffer, what: str) -> DeviceBuffer:
        specs = self._inputs if what == "input" else self._outputs
        spec = specs.get(name)
        if spec is None:
            raise unknown_name(name, specs, what)
        check_array(buffer, spec, what)
        return buffer

    def _bind_buffer(self, name: str, buffer: DeviceBuffer) -> None:
        if self._binding is None:
            raise closed()
        value = self._checked(name, buffer, "input").value._ortvalue
        try:
            self._binding.bind_ortvalue_input(name, value)
        except Exception as error:
            raise run_error(error, PLACE) from error
        self._from_host.pop(name, None)
        self._kept[name] = self._from_device[name] = buffer
        self._missing.discard(name)

    def _bind_output_buffer(self, name: str, buffer: DeviceBuffer) -> None:
        if self._binding is None:
            raise closed()
        value = self._checked(name, buffer, "output").value._ortvalue
        try:
            self._binding.bind_ortvalue_output(name, value)
        except Exception as error:
            raise run_error(error, PLACE) from error
        self._on_device[name] = buffer
        self._targets.pop(name, None)

    def run(self) -> Event:
        """See ``dioe.types.Request``. Done when this returns if any output goes to the host;
        buffers of the device become ready with the event."""
        lane = self._memory.lane
        with lane.exclusive():
            if self._binding is not None:
                # ONNX Runtime copies a host array as it is bound, not as it is read.
                super().bind(self._from_host)
                # So it does with a buffer of the device that an op reads on the host, as Reshape
                # does its shape: what was bound before is what was in it then.
                for name, buffer in self._from_device.items():
                    self._binding.bind_ortvalue_input(name, buffer.value._ortvalue)
            super().run()
            if len(self._on_device) < len(self._outputs):
                lane.drained()
                self._fill_targets()
                event = DONE
            else:
                event = lane.submitted()
        for buffer in self._on_device.values():
            buffer.ready = event
        return event

    def _fill_targets(self) -> None:
        """Copy outputs of open size into the host arrays bound for them."""
        targets = {name: self._targets[name] for name in self._fresh if name in self._targets}
        if not targets:
            return
        results = dict(zip(self._output_names, self._binding.get_outputs(), strict=True))
        for name, target in targets.items():
            result = array_of(results[name], self._outputs[name])
            if result.shape != target.shape:
                raise InputError(
                    f"the result has shape {list(result.shape)}, the buffer {list(target.shape)}",
                    place=f"output {name!r}",
                )
            np.copyto(target, result)

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        if self._binding is None:
            raise closed()
        found: dict[str, Value] = {}
        values = self._binding.get_outputs()
        for i, name in enumerate(self._output_names):
            bound = self._on_device.get(name, self._targets.get(name))
            found[name] = array_of(values[i], self._outputs[name]) if bound is None else bound
        return found

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``: from and to the host, whatever inputs are on the
        device."""
        lane = self._memory.lane
        if not any(self._memory.holds(value) for value in inputs.values()):
            with lane.exclusive():
                found = super().call(inputs, output_names)
                lane.drained()
            return found
        names = name_list(output_names)
        self._check_complete(inputs)
        match_outputs(names, self._outputs)
        with lane.exclusive():
            values = {n: self._ort_value_of(n, v) for n, v in inputs.items()}
            try:
                results = self._run_values(values, names, None)
            except BackendError:
                raise
            except Exception as error:
                raise run_error(error, PLACE) from error
            lane.drained()
        return [array_of(v, self._outputs[n]) for v, n in zip(results, names, strict=True)]

    def _ort_value_of(self, name: str, value: Value) -> Any:
        if self._memory.holds(value):
            return self._checked(name, value, "input").value._ortvalue
        spec = self._inputs.get(name)
        if spec is None:
            raise unknown_name(name, self._inputs, "input")
        array = contiguous(host_array(value, spec))
        check_array(array, spec)
        return ort_value(array)

    def drop(self) -> None:
        """Let go of the session and of everything bound."""
        super().drop()
        self._from_host.clear()
        self._from_device.clear()
        self._on_device.clear()
