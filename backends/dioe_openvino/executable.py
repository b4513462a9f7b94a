"""A compiled model as an executable, and requests on it."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov

from dioe.host_backend import (
    PassThroughRequest,
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
    UnsupportedError,
    Value,
)
from dioe_openvino.blob import Head, write_blob
from dioe_openvino.caller import Caller
from dioe_openvino.errors import PLACE, run_error
from dioe_openvino.inference import Inference
from dioe_openvino.ports import NO_FEEDS, Ports, closed, native_infer, run_closed
from dioe_openvino.profile import Profiler
from dioe_openvino.tensors import array_of, is_packed, tensor_over


class OpenVinoExecutable:
    """One compiled model.

    ``lowered`` are the ids of the ops that run in bf16 though they were to keep fp32.
    """

    def __init__(
        self,
        compiled: ov.CompiledModel,
        head: Head,
        profiler: Profiler | None,
        lowered: tuple[str, ...] = (),
        *,
        asynchronous: bool = False,
        exports: bool = True,
    ) -> None:
        """``asynchronous`` requests return from ``run`` before it is done; one that ``exports``
        can be serialized. Raises UnsupportedError where OpenVINO's inputs and outputs differ from
        the model's."""
        self.lowered = lowered
        self.inputs, self.outputs = head.inputs, head.outputs
        self.memory_bytes: int | None = None  # OpenVINO doesn't tell
        self._head = head
        self._compiled: ov.CompiledModel | None = compiled
        self._profiler = profiler
        self._ports = Ports(compiled, head)
        self._asynchronous, self._exports = asynchronous, exports
        self._requests: weakref.WeakSet[OpenVinoRequest] = weakref.WeakSet()
        self._lock = threading.Lock()

    def request(self) -> OpenVinoRequest | PassThroughRequest:
        """A new request; raises BackendError once closed."""
        with self._lock:
            if self._compiled is None:
                raise closed()
            request = OpenVinoRequest(
                self._compiled, self._ports, self._profiler, self._asynchronous
            )
            request.executable = self
            self._requests.add(request)
        if len(self._ports.outputs) == len(self.outputs):
            return request
        return PassThroughRequest(request, self.inputs, self.outputs)

    def serialize(self) -> bytes | None:
        """OpenVINO's compiled blob with our specs: loads in a fifth of compiling anew. None on a
        device whose plugin can't export."""
        with self._lock:
            if self._compiled is None:
                raise closed()
            compiled = self._compiled
        if not self._exports:
            return None
        stream = io.BytesIO()
        compiled.export_model(stream)
        return write_blob(self._head, stream.getvalue())

    def profile(self) -> tuple[OpTime, ...]:
        """Per-op times of the runs so far, the first one (warm-up) left out if there were more.

        Raises UnsupportedError without ``options={"profile": True}``.
        """
        if self._profiler is None:
            raise UnsupportedError(
                "not compiled for profiling", place=PLACE, fix="compile with profile=True"
            )
        return self._profiler.times()

    def close(self) -> None:
        """Let go of the compiled model as soon as no run uses it. May be called again."""
        with self._lock:
            self._compiled = None
            requests = list(self._requests)
            self._requests.clear()
        if self._profiler is not None:
            self._profiler.close()
        for request in requests:
            request.drop()


class OpenVinoRequest:
    """An InferRequest with tensors on the caller's memory.

    4-bit types and arrays that aren't C-contiguous are copied when they are bound; bound outputs
    must be contiguous, and those of 4-bit types or of varying shape are filled after the run.
    """

    __slots__ = (
        "__weakref__",
        "_asynchronous",
        "_call",
        "_copied",
        "_infer",
        "_kept",
        "_make_caller",
        "_missing",
        "_pending",
        "_ports",
        "_profiler",
        "_request",
        "_targets",
        "executable",
    )

    executable: object
    """What it is a request of: as long as this is there, closing its context finds it."""

    def __init__(
        self,
        compiled: ov.CompiledModel,
        ports: Ports,
        profiler: Profiler | None,
        asynchronous: bool = False,
    ) -> None:
        self._ports, self._profiler = ports, profiler
        self._asynchronous = asynchronous
        self._pending: Inference | None = None
        self._request: Any = compiled.create_infer_request()
        self._infer: Callable[..., Any] = native_infer(self._request)
        self._kept: dict[str, Any] = {}
        self._targets: dict[str, Array] = {}
        self._missing = set(ports.inputs)
        self._copied: tuple[str, ...] = ()  # bound outputs filled after the run
        self._call: Caller | None = None
        self._make_caller: Callable[[], Caller] = lambda: Caller(compiled, ports)

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        if self._request is None:
            raise closed()
        if self._pending is not None:
            self._settle()
        for name, value in inputs.items():
            spec = self._ports.inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._ports.inputs, "input")
            array = value if isinstance(value, np.ndarray) else host_array(value, spec)
            if array.dtype != spec.dtype or array.shape != spec.shape:
                check_array(array, spec)
            index = self._ports.input_index.get(name)
            if index is not None:
                try:
                    tensor, array = tensor_over(contiguous(array), self._ports.types[name])
                    self._request.set_input_tensor(index, tensor)
                except Exception as error:
                    raise run_error(error) from error
                self._kept[name] = array
            self._missing.discard(name)
        if outputs:
            self._bind_outputs(outputs)

    def _bind_outputs(self, outputs: Feeds) -> None:
        for name, value in outputs.items():
            spec = self._ports.outputs.get(name)
            if spec is None:
                raise unknown_name(name, self._ports.outputs, "output")
            array = value if isinstance(value, np.ndarray) else host_array(value, spec)
            check_array(array, spec, "output")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise InputError("must be C-contiguous and writable", place=f"output {name!r}")
            if spec.static and not is_packed(spec.dtype):
                try:
                    tensor, _ = tensor_over(array, self._ports.types[name])
                    self._request.set_output_tensor(self._ports.output_index[name], tensor)
                except Exception as error:
                    raise run_error(error) from error
            self._targets[name] = array
        # OpenVINO drops a result without a word that doesn't fit a bound tensor, if its shape is
        # that of the run before: outputs whose shape may vary aren't bound.
        specs = self._ports.outputs
        self._copied = tuple(
            n for n in self._targets if not specs[n].static or is_packed(specs[n].dtype)
        )

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns, unless the executable
        is asynchronous; a run waits for the one before."""
        if self._missing:
            raise missing_inputs(sorted(self._missing), PLACE)
        if self._asynchronous:
            return self._start()
        try:
            self._infer(NO_FEEDS, True, True)
        except BackendError:
            raise
        except Exception as error:
            raise run_error(error) from error
        self._after_run()
        return DONE

    def _start(self) -> Event:
        if self._request is None:
            raise closed()
        if self._pending is not None:
            self._settle()
        try:
            self._request.start_async()
        except Exception as error:
            raise run_error(error) from error
        self._pending = Inference(self._request, self._after_run)
        return self._pending

    def _settle(self) -> None:
        """Wait for the run that was started last; raises what it fails with, once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.wait()

    def _after_run(self) -> None:
        if self._copied:
            self._copy_out()
        if self._profiler is not None:
            self._profiler.after_run(self._request)

    def _copy_out(self) -> None:
        """Fill the bound outputs that OpenVINO doesn't write itself."""
        request = self._request
        if request is None:
            raise closed()
        for name in self._copied:
            tensor = request.get_output_tensor(self._ports.output_index[name])
            target, shape = self._targets[name], tuple(tensor.shape)
            if shape != target.shape:
                raise InputError(
                    f"the result has shape {list(shape)}, the buffer {list(target.shape)}",
                    place=f"output {name!r}",
                )
            target[...] = array_of(tensor, self._ports.outputs[name])

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        if self._request is None:
            raise closed()
        if self._pending is not None:
            self._settle()
        found: dict[str, Value] = {}
        for name, index in self._ports.output_index.items():
            target = self._targets.get(name)
            found[name] = (
                array_of(self._request.get_output_tensor(index), self._ports.outputs[name])
                if target is None
                else target
            )
        return found

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        if self._call is None:
            if self._request is None:
                raise closed()
            match_outputs(name_list(output_names), self._ports.outputs)
            try:
                self._call = self._make_caller()
            except BackendError:
                raise
            except Exception as error:
                raise run_error(error) from error
        return self._call(inputs, name_list(output_names))

    def drop(self) -> None:
        """Let go of the compiled model and of everything bound, once what runs is done."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.abandon()
        self._infer = run_closed
        self._make_caller = run_closed
        self._request = None
        self._kept.clear()
        self._targets.clear()
        self._copied = ()
        self._missing.clear()
        if self._call is not None:
            self._call.drop()
