"""Sessions from models, with every setting named explicitly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnxruntime as ort

from dioe.host_backend import HostContext, check_options, tensor_specs
from dioe.types import (
    Buffer,
    DioeError,
    Event,
    Executable,
    Feeds,
    ModelError,
    Precision,
    Precisions,
    Resources,
    Sample,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from dioe_onnxruntime import weights
from dioe_onnxruntime.executable import OnnxRuntimeExecutable
from dioe_onnxruntime.lanes import lane_of
from dioe_onnxruntime.limits import refusals
from dioe_onnxruntime.memory import DeviceBuffer, DeviceMemory
from dioe_onnxruntime.options import NO_PROFILE, level, rules
from dioe_onnxruntime.profile import Profiler
from dioe_onnxruntime.sessions import FATAL_ONLY, Misplaced, Placed, make_session, misplaced

# What runs here is nobody else's business; and what collects it takes time while one measures.
ort.disable_telemetry_events()

MAX_PROTO_BYTES = 2**31
"""Models that are no larger are handed over as bytes, others by their path."""


class OnnxRuntimeContext(HostContext):
    """ONNX Runtime on one device of one provider, with its resources."""

    def __init__(self, placed: Placed, resources: Resources, device: str = "") -> None:
        """``device`` is the id it was opened by: a CPU's part is one of its own."""
        super().__init__(device or placed.info.id, resources)
        self._placed = placed
        self._lane = lane_of(placed)
        self._memory: DeviceMemory | None = None
        if _has_memory(placed):
            self._memory = DeviceMemory(placed, self._lane, resources.memory_limit_bytes)

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """A session for ``model``. Options: see ``dioe_onnxruntime.options.rules``.

        Raises UnsupportedError for an op without a kernel on the device or a precision that the
        provider hasn't, InputError for options, ModelError, OutOfMemory, BackendError.
        """
        self.check_open()
        provider = self._placed.provider
        if options.get("profile") is True and provider.asynchronous:
            raise UnsupportedError(NO_PROFILE, place=provider.backend)
        check_options(provider.backend, rules(provider), options)
        native = self._native_options(precisions)
        inputs, outputs = self._edges(model)
        for op, reason in refusals(model, self._placed).items():
            raise UnsupportedError(f"op {op!r}: {reason}", place=provider.backend)
        settings = self._settings()
        settings.graph_optimization_level = ort.GraphOptimizationLevel(level(options))
        profiler = Profiler(model, settings) if options.get("profile") else None
        try:
            source = _source(model) if profiler is None else profiler.source()
            session = self._session(model, source, settings, native)
        except BaseException:
            if profiler is not None:
                profiler.close()
            raise
        return self.own(OnnxRuntimeExecutable(session, inputs, outputs, profiler, self._memory))

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: optimised models load no faster than plain ones."""
        raise UnsupportedError(
            "ONNX Runtime has no compiled form to load", place=self._placed.provider.backend
        )

    def try_model(self, model: StageModel, precision: Precision = Precision.FP32) -> None:
        """Make and drop a session as ``compile`` does by default; raises like it."""
        self._edges(model)
        native = self._native_options(Precisions(precision))
        self._session(model, _source(model), self._settings(), native)

    def try_bytes(self, model: bytes, precision: Precision = Precision.FP32) -> None:
        """The same for a serialized model."""
        native = self._native_options(Precisions(precision))
        with self._lane.exclusive():
            self._make(model, self._settings(), native)

    def alloc(self, spec: TensorSpec) -> Buffer:
        """An uninitialised buffer in the memory that the device computes in."""
        if self._memory is None:
            return super().alloc(spec)
        self.check_open()
        return self._memory.alloc(spec)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy between buffers of one dtype and shape, on the host or on the device."""
        if self._memory is None or not isinstance(src, DeviceBuffer) | isinstance(
            dst, DeviceBuffer
        ):
            return super().copy(src, dst)
        self.check_open()
        return self._memory.copy(src, dst)

    def memory_info(self) -> Mapping[str, int]:
        """Bytes of the buffers allocated here; and of the host's memory, where it is that."""
        if self._memory is None:
            return super().memory_info()
        own = {"allocated_bytes": self._memory.allocated_bytes}
        return {**super().memory_info(), **own} if self._placed.info.shares else own

    def utilization(self) -> Sample | None:
        """The host's, where the device is or shares it; else None: ONNX Runtime doesn't tell."""
        on_host = self._memory is None or self._placed.info.shares
        return super().utilization() if on_host else None

    def _native_options(self, precisions: Precisions) -> Mapping[str, str]:
        provider = self._placed.provider
        used = precisions.used
        if len(used) > 1 or used[0] not in provider.precisions:
            raise UnsupportedError(
                f"{provider.title} computes {', '.join(provider.precisions)} (fp32: as written), "
                f"not {'+'.join(used)}",
                place=provider.backend,
            )
        return provider.precisions[used[0]]

    def _edges(self, model: StageModel) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        inputs, outputs = tensor_specs(model)
        place = self._placed.provider.backend
        for spec in (*inputs, *outputs):
            if spec.dtype.name in ("int4", "uint4", "int2", "uint2", "float4_e2m1fn"):
                raise UnsupportedError(
                    f"{spec.name!r} is {spec.dtype}: ONNX Runtime's Python API can't pass packed "
                    "tensors in or out",
                    place=place,
                )
            if self._memory is not None and (spec.kind != "tensor" or spec.dtype.hasobject):
                what = "strings" if spec.kind == "tensor" else f"a {spec.kind}"
                raise UnsupportedError(
                    f"{spec.name!r} is {what}: only tensors of numbers go to {self.device}",
                    place=place,
                )
        return inputs, outputs

    def _settings(self) -> ort.SessionOptions:
        settings, resources = ort.SessionOptions(), self.resources
        settings.log_severity_level = FATAL_ONLY
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        settings.inter_op_num_threads = 1
        cores = resources.cores
        threads = resources.threads or (len(cores) if cores else 0)
        if not threads and self._memory is not None:
            threads = 1  # the host only hands work over
        settings.intra_op_num_threads = threads  # 0: ONNX Runtime's own choice
        if resources.spin is not None:
            settings.add_session_config_entry(
                "session.intra_op.allow_spinning", "1" if resources.spin else "0"
            )
        if cores and threads > 1:
            # One entry a worker; the calling thread is the first and stays where it is. Logical
            # processors count from 1 here.
            workers = [str(cores[i % len(cores)] + 1) for i in range(1, threads)]
            settings.add_session_config_entry(
                "session.intra_op_thread_affinities", ";".join(workers)
            )
        return settings

    def _session(
        self,
        model: StageModel,
        source: bytes | str,
        settings: ort.SessionOptions,
        native: Mapping[str, str],
    ) -> ort.InferenceSession:
        """A session; with the shapes left open where ONNX Runtime refuses the model because of
        them.

        Its optimisers infer shapes of both branches of an ``If``, and fail on the branch that is
        there for inputs of another shape (silero-vad with its input bound to 512 samples).
        """
        with self._lane.exclusive():
            weights.let_go(self._lane)
            try:
                return self._make(source, settings, native)
            except Misplaced:
                raise misplaced(model, self._settings(), self._placed, native) from None
            except DioeError as error:
                if "InferenceError" not in error.cause or not isinstance(source, bytes):
                    raise
            return self._make(open_shapes(source), settings, native)

    def _make(
        self, source: bytes | str, settings: ort.SessionOptions, native: Mapping[str, str]
    ) -> ort.InferenceSession:
        session = make_session(source, settings, self._placed, native)
        nbytes = len(source) if isinstance(source, bytes) else MAX_PROTO_BYTES
        return weights.watch(session, self._lane, nbytes)


def _has_memory(placed: Placed) -> bool:
    if placed.info.kind == "cpu":
        return False
    if placed.ep_device is not None:
        return placed.ep_device.memory_info(ort.OrtDeviceMemoryType.DEFAULT) is not None
    return bool(placed.provider.memory)


def _source(model: StageModel) -> bytes | str:
    try:
        return model.to_bytes()
    except ModelError:  # above MAX_PROTO_BYTES
        return str(model.to_path())


def open_shapes(model: bytes) -> bytes:
    """The model with every input dimension free and no shape stated elsewhere."""
    proto = onnx.load_from_string(model)
    for value in proto.graph.input:
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}_{i}"
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    opened: bytes = proto.SerializeToString()
    return opened
