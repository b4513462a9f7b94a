"""Sessions from models, with every setting named explicitly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnxruntime as ort

from dioe.host_backend import HostContext, check_options, tensor_specs
from dioe.types import (
    DioeError,
    Executable,
    Feeds,
    ModelError,
    Precision,
    Precisions,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from dioe_onnxruntime.backend import LEVELS, OPTIONS
from dioe_onnxruntime.errors import compile_error
from dioe_onnxruntime.executable import OnnxRuntimeExecutable
from dioe_onnxruntime.profile import Profiler

# What runs here is nobody else's business; and what collects it takes time while one measures.
ort.disable_telemetry_events()

PROVIDERS = ["CPUExecutionProvider"]
FATAL_ONLY = 4
"""Log severity: errors come as exceptions, and warnings of optimisers are not for users."""


class OnnxRuntimeContext(HostContext):
    """ONNX Runtime on the host CPU with its resources."""

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """A session for ``model``. Options: see ``dioe_onnxruntime.backend.OPTIONS``.

        Raises UnsupportedError for an op without a kernel or another precision than fp32,
        InputError for options, ModelError, OutOfMemory, BackendError.
        """
        self.check_open()
        check_options("onnxruntime", OPTIONS, options)
        if precisions.used != (Precision.FP32,):
            raise UnsupportedError(
                f"the CPU provider computes as written (fp32), not {'+'.join(precisions.used)}",
                place="onnxruntime",
            )
        inputs, outputs = tensor_specs(model)
        _check_edges((*inputs, *outputs))
        settings = self._settings()
        settings.graph_optimization_level = ort.GraphOptimizationLevel(_level(options))
        profiler = Profiler(model, settings) if options.get("profile") else None
        try:
            source = _source(model) if profiler is None else profiler.source()
            session = _session_of(source, settings)
        except BaseException:
            if profiler is not None:
                profiler.close()
            raise
        return self.own(OnnxRuntimeExecutable(session, inputs, outputs, profiler))

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: optimised models load no faster than plain ones."""
        raise UnsupportedError("ONNX Runtime has no compiled form to load", place="onnxruntime")

    def try_model(self, model: StageModel) -> None:
        """Make and drop a session as ``compile`` does by default; raises like it."""
        inputs, outputs = tensor_specs(model)
        _check_edges((*inputs, *outputs))
        _session_of(_source(model), self._settings())

    def try_bytes(self, model: bytes) -> None:
        """The same for a serialized model."""
        _session(model, self._settings())

    def _settings(self) -> ort.SessionOptions:
        settings, resources = ort.SessionOptions(), self.resources
        settings.log_severity_level = FATAL_ONLY
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        settings.inter_op_num_threads = 1
        cores = resources.cores
        threads = resources.threads or (len(cores) if cores else 0)
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


def _level(options: Mapping[str, Any]) -> int:
    if options.get("optimize") is False:
        return LEVELS["disabled"]
    fusion = options.get("kernel_fusion", True)
    return LEVELS[fusion] if isinstance(fusion, str) else LEVELS["all" if fusion else "disabled"]


def _source(model: StageModel) -> bytes | str:
    try:
        return model.to_bytes()
    except ModelError:  # above 2 GiB
        return str(model.to_path())


def _session_of(source: bytes | str, settings: ort.SessionOptions) -> ort.InferenceSession:
    """A session; with the shapes left open where ONNX Runtime refuses the model because of them.

    Its optimisers infer shapes of both branches of an ``If``, and fail on the branch that is there
    for inputs of another shape (silero-vad with its input bound to 512 samples).
    """
    try:
        return _session(source, settings)
    except DioeError as error:
        if "InferenceError" not in error.cause or not isinstance(source, bytes):
            raise
    return _session(open_shapes(source), settings)


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


def _session(source: bytes | str, settings: ort.SessionOptions) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(source, settings, providers=PROVIDERS)
    except Exception as error:
        raise compile_error(error, "onnxruntime") from error
    session.disable_fallback()
    return session


def _check_edges(specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if spec.dtype.name in ("int4", "uint4", "int2", "uint2", "float4_e2m1fn"):
            raise UnsupportedError(
                f"{spec.name!r} is {spec.dtype}: ONNX Runtime's Python API can't pass packed "
                "tensors in or out",
                place="onnxruntime",
            )
