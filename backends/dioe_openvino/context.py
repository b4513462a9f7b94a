"""Compiled models from stage models, with every hint named explicitly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import openvino as ov

from dioe.host_backend import HostContext, check_options, tensor_specs
from dioe.types import (
    BackendError,
    DioeError,
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
from dioe_openvino.backend import OPTIONS
from dioe_openvino.blob import Head, read_blob
from dioe_openvino.devices import Device
from dioe_openvino.errors import PLACE, compile_error
from dioe_openvino.exactness import Exactness
from dioe_openvino.executable import OpenVinoExecutable
from dioe_openvino.mixing import PLAIN_TEXT, Mixer
from dioe_openvino.ports import Ports
from dioe_openvino.profile import Profiler
from dioe_openvino.source import LayerNames, OpNames

STRING = onnx.TensorProto.STRING
NO_STRINGS = "strings in and out aren't safe in OpenVINO's CPU plugin: requests crash when freed"
"""Seen with OpenVINO 2026.4.1 on two Identity ops of strings."""

FULL_TRIAL_OPS = 256
"""Models up to this size are tried exactly as they are compiled."""

QUICK_TRIAL = {"SNIPPETS_MODE": "DISABLE"}
"""Leaves the fusion of element-wise chains out, whose time grows with their length squared: 0.16 s
instead of 2.2 for 600 ops. What is fused runs unfused as well."""

_HINTS = {Precision.BF16: "bf16", Precision.FP16: "f16"}

QUANTISATION_GROUP = 32
"""Activations quantised together in int8; OpenVINO's own default size."""


class OpenVinoContext(HostContext):
    """OpenVINO on one device with its resources, and a Core of its own.

    Inputs and outputs are in host memory on every device; OpenVINO moves them itself.
    """

    def __init__(
        self, device: Device, resources: Resources, ident: str = "", core: ov.Core | None = None
    ) -> None:
        """``ident`` is the id it was opened by: a part of the CPU has one of its own."""
        super().__init__(ident or device.info.id, resources)
        self._target = device
        self._core: ov.Core | None = ov.Core() if core is None else core
        self._mixer = Mixer()

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """A compiled model. Options: see ``dioe_openvino.backend.OPTIONS``.

        bf16 and fp32 may be mixed by op; see ``OpenVinoExecutable.lowered`` for what OpenVINO still
        lowers. Raises UnsupportedError, InputError for options, OutOfMemory.
        """
        self.check_open()
        if options.get("optimize") is False:
            raise UnsupportedError("OpenVINO can't switch its optimisations off", place=PLACE)
        check_options("openvino", OPTIONS, options)
        inputs, outputs = _edges(model)
        _check_exactness(model)
        profile = bool(options.get("profile"))
        precision = _base(precisions, self._target)
        config = self._config(precision) | {"PERF_COUNT": profile}
        names: LayerNames | None = None
        lowered: tuple[str, ...] = ()
        mixed = len(precisions.used) > 1

        def compile_named(config: Mapping[str, Any]) -> tuple[ov.CompiledModel, OpNames]:
            read = self._read(model)
            names = OpNames(read, model)  # makes names unique, so before it is compiled
            return self._compile(read, config), names

        if mixed:
            core = self._running_core()
            mix = self._mixer.compile(core, model, precisions, config, compile_named)
            compiled, names, lowered = mix.compiled, mix.names, mix.lowered
        elif profile:
            compiled, names = compile_named(config)
        else:
            compiled = self._compile(self._read(model), config)
        profiler = Profiler(compiled, names, model) if profile and names is not None else None
        head = Head(inputs, outputs, precision, mixed)
        return self.own(
            OpenVinoExecutable(
                compiled,
                head,
                profiler,
                lowered,
                asynchronous=bool(options.get("asynchronous")),
                exports=self._target.exports,
            )
        )

    def deserialize(self, blob: bytes) -> Executable:
        """An executable from ``Executable.serialize``; raises BackendError for any other bytes,
        or for those of another version of OpenVINO or another CPU."""
        self.check_open()
        head, compiled = read_blob(blob)
        config = self._config(head.precision) | (PLAIN_TEXT if head.mixed else {})
        try:
            imported = self._running_core().import_model(compiled, self._target.native, config)
        except Exception as error:
            raise BackendError(
                f"the compiled model can't be loaded: {compile_error(error).cause}", place=PLACE
            ) from error
        return self.own(OpenVinoExecutable(imported, head, None))

    def try_model(self, model: StageModel, precision: Precision) -> None:
        """Compile and drop; raises like ``compile``."""
        inputs, outputs = _edges(model)
        config = self._config(precision)
        if len(model.op_ids) <= FULL_TRIAL_OPS or not self._target.host:
            compiled = self._compile(self._read(model), config)
        else:
            try:
                compiled = self._compile(self._read(model), config | QUICK_TRIAL)
            except DioeError:  # perhaps only because this release has no such key
                compiled = self._compile(self._read(model), config)
        Ports(compiled, Head(inputs, outputs, precision))

    def try_bytes(self, model: bytes, precision: Precision) -> None:
        """The same for a serialized model."""
        graph = onnx.load_from_string(model).graph
        if any(v.type.tensor_type.elem_type == STRING for v in (*graph.input, *graph.output)):
            raise UnsupportedError(NO_STRINGS, place=PLACE)
        self._compile(self._read_source(model), self._config(precision))

    def memory_info(self) -> Mapping[str, int]:
        """Bytes of host memory; on another device its size, where OpenVINO tells it."""
        if self._target.host:
            return super().memory_info()
        total = self._target.info.memory_bytes
        return {} if total is None else {"total_bytes": total}

    def utilization(self) -> Sample | None:
        """The host's; None on other devices, whose load OpenVINO doesn't tell."""
        return super().utilization() if self._target.host else None

    def close(self) -> None:
        """Close all executables and let go of the Core."""
        super().close()
        self._mixer.close()
        self._core = None

    def _running_core(self) -> ov.Core:
        if self._core is None:
            raise BackendError("the context is closed", place=PLACE)
        return self._core

    def _config(self, precision: Precision) -> dict[str, Any]:
        resources = self.resources
        threads = resources.threads or (len(resources.cores) if resources.cores else None)
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": resources.streams,
            "INFERENCE_PRECISION_HINT": _HINTS.get(precision, "f32"),
            # By default OpenVINO quantises activations that meet integer weights, f32 or not:
            # error 0.026 instead of 1.3e-6 on MiniLM with int8 weights.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": (
                QUANTISATION_GROUP if precision is Precision.INT8 else 0
            ),
        }
        if not self._target.host:
            return self._target.known(config)
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        if resources.cores:
            # Pinning goes to the first cores, whatever cores the caller's threads are on.
            config["ENABLE_CPU_PINNING"] = False
        return config

    def _read(self, model: StageModel) -> ov.Model:
        try:
            source: bytes | str = model.to_bytes()
        except ModelError:  # above 2 GiB
            source = str(model.to_path())
        return self._read_source(source)

    def _read_source(self, source: bytes | str) -> ov.Model:
        try:
            return self._running_core().read_model(source)
        except Exception as error:
            raise compile_error(error) from error

    def _compile(self, model: ov.Model, config: Mapping[str, Any]) -> ov.CompiledModel:
        try:
            return self._running_core().compile_model(model, self._target.native, dict(config))
        except Exception as error:
            raise compile_error(error) from error


def _edges(model: StageModel) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs, outputs = tensor_specs(model)
    for spec in (*inputs, *outputs):
        if spec.kind != "tensor":
            raise UnsupportedError(f"{spec.name!r} is a {spec.kind}, not a tensor", place=PLACE)
        if spec.dtype.hasobject:
            raise UnsupportedError(f"{spec.name!r}: {NO_STRINGS}", place=PLACE)
    return inputs, outputs


def _check_exactness(model: StageModel) -> None:
    """Raise UnsupportedError for an op that is wrong wherever it is.

    What is wrong only where an output shows it is ``query``'s to tell: to a stage, an inner shape
    of the model is an output.
    """
    for op, reason in Exactness(model).by_op().items():
        raise UnsupportedError(f"op {op!r}: {reason}", place=PLACE)


def _base(precisions: Precisions, device: Device) -> Precision:
    """The precision to compile with; raises UnsupportedError for mixes that can't be."""
    used = set(precisions.used)
    if not device.host:
        if len(used) == 1 and used <= device.computes:
            return precisions.default
        raise UnsupportedError(
            f"{device.native} can't compute {'+'.join(precisions.used)}",
            place=PLACE,
            fix=f"one of {', '.join(sorted(device.computes))}",
        )
    if used <= {Precision.FP32, Precision.BF16}:
        return Precision.BF16 if Precision.BF16 in used else Precision.FP32
    if used == {Precision.INT8}:
        return Precision.INT8
    raise UnsupportedError(
        f"the CPU plugin can't compute {'+'.join(precisions.used)}",
        place=PLACE,
        fix="fp32, bf16, a mix of these two, or int8 alone",
    )
