"""A session as an executable, and the two kinds of request on it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from dioe.host_backend import (
    PassThroughRequest,
    check_array,
    computed_outputs,
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
    Buffer,
    Event,
    Feeds,
    InputError,
    OpTime,
    TensorSpec,
    UnsupportedError,
    Value,
)
from dioe_onnxruntime.errors import run_error
from dioe_onnxruntime.profile import Profiler
from dioe_onnxruntime.values import HOST, array_of, numpy_knows, ort_value

if TYPE_CHECKING:
    from dioe_onnxruntime.memory import DeviceMemory

PLACE = "onnxruntime"


class OnnxRuntimeExecutable:
    """One InferenceSession; ``memory`` is its device's, where that has one of its own."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        profiler: Profiler | None,
        memory: DeviceMemory | None = None,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.memory_bytes: int | None = None  # ONNX Runtime doesn't tell
        self._session: ort.InferenceSession | None = session
        self._profiler = profiler
        self._memory = memory
        self._requests: weakref.WeakSet[BoundRequest | PlainRequest] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._computed = computed_outputs(inputs, outputs)
        self._bindable = all(s.kind == "tensor" and not s.dtype.hasobject for s in inputs + outputs)

    def request(self) -> BoundRequest | PlainRequest | PassThroughRequest:
        """A new request; raises BackendError once closed."""
        with self._lock:
            if self._session is None:
                raise closed()
            request = self._new_request(self._session)
            request.executable = self
            self._requests.add(request)
        if self._computed == self.outputs:
            return request
        return PassThroughRequest(request, self.inputs, self.outputs, self._memory)

    def _new_request(self, session: ort.InferenceSession) -> BoundRequest | PlainRequest:
        if self._memory is not None:
            from dioe_onnxruntime.device_request import DeviceRequest

            return DeviceRequest(session, self.inputs, self._computed, self._memory)
        kind = BoundRequest if self._bindable else PlainRequest
        return kind(session, self.inputs, self._computed)

    def serialize(self) -> bytes | None:
        """Always None: ONNX Runtime's saved models load no faster than the model itself."""
        return None

    def profile(self) -> tuple[OpTime, ...]:
        """Per-op times of the runs so far, the first one (warm-up) left out if there were more.

        ONNX Runtime ends its profile when it is read, so later runs aren't counted. Raises
        UnsupportedError without ``options={"profile": True}``.
        """
        if self._profiler is None:
            raise UnsupportedError(
                "not compiled for profiling", place=PLACE, fix="compile with profile=True"
            )
        with self._lock:
            if self._session is None:
                raise closed()
            return self._profiler.times(self._session)

    def close(self) -> None:
        """End the session and its threads as soon as no run uses it. May be called again."""
        with self._lock:
            self._session = None
            requests = list(self._requests)
            self._requests.clear()
            if self._profiler is not None:
                self._profiler.close()
        for request in requests:
            request.drop()
        if self._memory is not None:
            self._memory.let_go_of_weights()


def closed() -> BackendError:
    """The error of whatever is used after its executable was closed."""
    return BackendError("the executable is closed", place=PLACE)


def _run_closed(*_: object) -> Any:
    raise closed()


def _compute_nothing(*_: object) -> list[Any]:
    """The run of a model whose outputs are all inputs: ONNX Runtime refuses one of no outputs."""
    return []


class _RequestBase:
    """Names and specs, and the optional fast call."""

    __slots__ = (
        "__weakref__",
        "_inputs",
        "_output_names",
        "_outputs",
        "_required",
        "_session_run",
        "executable",
    )

    executable: object
    """What it is a request of: as long as this is there, closing its context finds it."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._inputs = {spec.name: spec for spec in inputs}
        self._outputs = {spec.name: spec for spec in outputs}
        self._output_names = [spec.name for spec in outputs]
        self._required = sum(spec.kind != "optional" for spec in inputs)
        self._session_run: Callable[..., list[Any]] = (
            _native(session, "run") if outputs else _compute_nothing
        )

    def _plain_call(self, output_names: Sequence[str], feeds: Feeds) -> list[Any]:
        if len(feeds) < self._required:
            self._check_complete(feeds)
        try:
            if type(feeds) is not dict:
                feeds = dict(feeds)
            return self._session_run(name_list(output_names), feeds, None)
        except BackendError:
            raise
        except Exception as error:
            if any(isinstance(value, Buffer) for value in feeds.values()):  # it takes arrays only
                arrays = {n: v.numpy() if isinstance(v, Buffer) else v for n, v in feeds.items()}
                return self._plain_call(output_names, arrays)
            raise _translated(error, self._inputs, feeds) from error

    def _check_complete(self, feeds: Mapping[str, Any]) -> None:
        missing = [n for n, s in self._inputs.items() if n not in feeds and s.kind != "optional"]
        if missing:
            raise missing_inputs(missing, PLACE)


def _native(session: ort.InferenceSession, name: str) -> Callable[..., Any]:
    """A method of the pybind11 session, without the Python wrapper around it.

    The wrapper checks what is checked here already and takes 0.4 to 1.1 µs a call. Where a
    release of ONNX Runtime hides the inner object elsewhere, the public method does.
    """
    inner = getattr(session, "_sess", None)
    method: Callable[..., Any] = getattr(inner, name, None) or getattr(session, name)
    return method


def _translated(
    error: Exception, specs: Mapping[str, TensorSpec], feeds: Mapping[str, Any]
) -> Exception:
    """The contract's error; for a wrong feed one that says which."""
    for name, value in feeds.items():
        spec = specs.get(name)
        if spec is None:
            return unknown_name(name, specs, "input")
        if spec.kind == "tensor":
            try:
                check_array(host_array(value, spec), spec)
            except InputError as wrong:
                return wrong
    return run_error(error, PLACE)


class BoundRequest(_RequestBase):
    """A request on an IoBinding: inputs and outputs stay where they are.

    A bound array that isn't C-contiguous is copied when it is bound; a bound output must be
    contiguous.
    """

    __slots__ = (
        "_binding",
        "_fresh",
        "_kept",
        "_missing",
        "_plain",
        "_run",
        "_run_values",
        "_targets",
    )

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        super().__init__(session, inputs, outputs)
        binding = session.io_binding()
        # As with _native: the inner binding takes 0.9 µs a bind where the wrapper takes 1.2 to 2.7.
        self._binding = binding._iobinding
        self._run: Callable[..., Any] = _compute_nothing
        self._run_values: Callable[..., Any] = _compute_nothing
        if outputs:
            self._run = partial(_native(session, "run_with_iobinding"), self._binding, None)
            self._run_values = _native(session, "run_with_ort_values")
        self._kept: dict[str, Any] = {}
        self._targets: dict[str, Array] = {}
        self._missing = set(self._inputs)
        self._plain = all(numpy_knows(s.dtype) for s in (*inputs, *outputs))
        # ONNX Runtime keeps what it allocated for an output and refuses another shape in the next
        # run: outputs whose shape may change are bound anew each time.
        self._fresh = tuple(spec.name for spec in outputs if not spec.static)
        for name in self._output_names:
            self._binding.bind_output(name, HOST)

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        if self._binding is None:
            raise closed()
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            array = value if isinstance(value, np.ndarray) else host_array(value, spec)
            if array.dtype != spec.dtype or array.shape != spec.shape:
                check_array(array, spec)
            try:
                if numpy_knows(array.dtype):
                    self._binding.bind_input(name, array)
                else:
                    array = contiguous(array)
                    self._binding.bind_ortvalue_input(name, ort_value(array))
            except Exception as error:
                raise run_error(error, PLACE) from error
            self._kept[name] = array
            self._missing.discard(name)
        if outputs:
            self._bind_outputs(outputs)

    def _bind_outputs(self, outputs: Feeds) -> None:
        for name, value in outputs.items():
            spec = self._outputs.get(name)
            if spec is None:
                raise unknown_name(name, self._outputs, "output")
            array = value if isinstance(value, np.ndarray) else host_array(value, spec)
            check_array(array, spec, "output")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise InputError("must be C-contiguous and writable", place=f"output {name!r}")
            try:
                self._binding.bind_ortvalue_output(name, ort_value(array))
            except Exception as error:
                raise run_error(error, PLACE) from error
            self._targets[name] = array
        self._fresh = tuple(name for name in self._fresh if name not in self._targets)

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns."""
        if self._missing:
            self._check_complete(self._kept)
        try:
            for name in self._fresh:
                self._binding.bind_output(name, HOST)
            self._run()
        except BackendError:
            raise
        except Exception as error:
            raise run_error(error, PLACE) from error
        return DONE

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        if self._binding is None:
            raise closed()
        found: dict[str, Value] = {}
        values = self._binding.get_outputs() if len(self._targets) < len(self._outputs) else ()
        for i, name in enumerate(self._output_names):
            target = self._targets.get(name)
            found[name] = array_of(values[i], self._outputs[name]) if target is None else target
        return found

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``: less work than binding and running. Bindings stay."""
        if self._plain:
            return self._plain_call(output_names, inputs)
        if self._binding is None:
            raise closed()
        output_names = name_list(output_names)
        self._check_complete(inputs)
        values = {}
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            array = contiguous(host_array(value, spec))
            check_array(array, spec)
            values[name] = ort_value(array)
        match_outputs(output_names, self._outputs)
        try:
            found = self._run_values(values, output_names, None)
        except Exception as error:
            raise run_error(error, PLACE) from error
        return [array_of(v, self._outputs[n]) for v, n in zip(found, output_names, strict=True)]

    def drop(self) -> None:
        """Let go of the session and of everything bound."""
        self._run = self._session_run = self._run_values = _run_closed
        self._binding, self._fresh, self._required = None, (), 0
        self._missing.clear()
        self._kept.clear()
        self._targets.clear()


class PlainRequest(_RequestBase):
    """A request through ``session.run``: for strings, sequences and optionals, which ONNX Runtime
    can't bind. Bound outputs are copied into."""

    __slots__ = ("_feeds", "_results", "_targets")

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        super().__init__(session, inputs, outputs)
        self._feeds: dict[str, Any] = {}
        self._targets: dict[str, Array] = {}
        self._results: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        self._check_open()
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            self._feeds[name] = _feed(value, spec)
        for name, value in (outputs or {}).items():
            spec = self._outputs.get(name)
            if spec is None:
                raise unknown_name(name, self._outputs, "output")
            array = host_array(value, spec)
            check_array(array, spec, "output")
            self._targets[name] = array

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns."""
        results = self._plain_call(self._output_names, self._feeds)
        self._results = dict(zip(self._output_names, results, strict=True))
        for name, target in self._targets.items():
            result = self._results[name]
            if not isinstance(result, np.ndarray) or result.shape != target.shape:
                raise InputError(
                    f"the result doesn't fit shape {list(target.shape)}", place=f"output {name!r}"
                )
            np.copyto(target, result)
            self._results[name] = target
        return DONE

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        self._check_open()
        return self._results

    def _check_open(self) -> None:
        if self._session_run is _run_closed:
            raise closed()

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``BoundRequest.call``."""
        checked = {n: _feed(v, self._inputs[n]) for n, v in inputs.items() if n in self._inputs}
        if len(checked) < len(inputs):
            raise unknown_name(next(n for n in inputs if n not in checked), self._inputs, "input")
        return self._plain_call(output_names, checked)

    def drop(self) -> None:
        """Let go of the session and of everything bound."""
        self._session_run, self._required = _run_closed, 0
        self._feeds.clear()
        self._targets.clear()
        self._results = {}


def _feed(value: Value, spec: TensorSpec) -> Any:
    """What ``session.run`` takes for ``value``."""
    if spec.kind != "tensor":
        return value
    array = host_array(value, spec)
    check_array(array, spec)
    return array if not spec.dtype.hasobject or array.dtype.hasobject else array.astype(object)
