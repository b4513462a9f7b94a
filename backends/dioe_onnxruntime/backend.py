"""What ONNX Runtime's CPU provider offers, and which ops of a model it takes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import (
    OptionRule,
    host_device,
    resolve_options,
    support_by_trial,
)
from dioe.host_backend.options import fixed, is_bool, is_count
from dioe.types import (
    ABI_VERSION,
    Capabilities,
    Context,
    DeviceInfo,
    Effect,
    Precision,
    Resolution,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
)

LEVELS = {"disabled": 0, "basic": 1, "extended": 2, "all": 99}
"""Values of the ``kernel_fusion`` option, as GraphOptimizationLevel counts them."""


def _fusion(value: Any) -> Resolution:
    level = value if isinstance(value, str) else ("all" if value else "disabled")
    return Resolution(
        Effect.APPLIED,
        "graph_optimization_level",
        f"{level}: fusion and all other graph optimisations go together",
    )


OPTIONS = {
    "optimize": OptionRule(
        is_bool,
        "true or false",
        fixed(Effect.APPLIED, "graph_optimization_level"),
    ),
    "profile": OptionRule(is_bool, "true or false", fixed(Effect.APPLIED, "enable_profiling")),
    "kernel_fusion": OptionRule(
        lambda v: isinstance(v, bool) or v in LEVELS,
        f"true, false or one of {', '.join(LEVELS)}",
        _fusion,
    ),
    "tiling_strategy": OptionRule(
        lambda v: isinstance(v, (str, bool, int)),
        "a name",
        fixed(Effect.IGNORED, note="MLAS chooses its own tiles"),
    ),
    "precision": OptionRule(
        lambda v: v in set(Precision),
        "a precision",
        lambda v: (
            Resolution(Effect.APPLIED, note="as written")
            if v == Precision.FP32
            else Resolution(Effect.REJECTED, note=f"the CPU provider has no {v} of its own")
        ),
        compile=False,
    ),
    "threads": OptionRule(
        is_count,
        "a positive number",
        fixed(Effect.APPLIED, "intra_op_num_threads"),
        compile=False,
    ),
    "spin": OptionRule(
        is_bool,
        "true or false",
        fixed(Effect.APPLIED, "session.intra_op.allow_spinning"),
        compile=False,
    ),
    "streams": OptionRule(
        is_count,
        "a positive number",
        fixed(Effect.IGNORED, note="requests of one session run side by side anyway"),
        compile=False,
    ),
    "memory_limit_bytes": OptionRule(
        is_count,
        "a positive number",
        fixed(Effect.IGNORED, note="the CPU arena takes no limit for one session"),
        compile=False,
    ),
}


class OnnxRuntimeBackend:
    """ONNX Runtime's CPUExecutionProvider."""

    name = "onnxruntime"
    abi_version = ABI_VERSION
    simulated = False

    @property
    def version(self) -> str:
        """Version of ONNX Runtime, empty where it isn't installed."""
        try:
            return importlib.metadata.version("onnxruntime")
        except importlib.metadata.PackageNotFoundError:
            pass  # another distribution of it (onnxruntime-gpu) knows its version itself
        try:
            import onnxruntime
        except ImportError:
            return ""
        return str(onnxruntime.__version__)

    def probe(self) -> Sequence[DeviceInfo]:
        """The host; absent if onnxruntime can't be imported or lacks the provider."""
        try:
            import onnxruntime
        except (ImportError, OSError) as error:
            return [host_device(f"onnxruntime can't be imported: {error}")]
        if "CPUExecutionProvider" not in onnxruntime.get_available_providers():
            return [host_device("this onnxruntime was built without CPUExecutionProvider")]
        return [host_device()]

    def capabilities(self, device: str) -> Capabilities:
        """fp32, as written. Worker threads keep to their cores; the caller's own thread is the
        first of them and stays where its caller put it."""
        _check_device(device)
        return Capabilities(keeps_to_cores=True)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """Found by making sessions, with the optimisations that ``compile`` uses: a few models
        load without them only."""
        from dioe_onnxruntime.context import OnnxRuntimeContext

        _check_device(device)
        if precision is not Precision.FP32:
            reason = f"ONNX Runtime's CPU provider computes as written (fp32), not {precision}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        context = OnnxRuntimeContext(device, Resources(threads=1))
        try:
            return support_by_trial(model, context.try_model, context.try_bytes)
        finally:
            context.close()

    def open(self, device: str, resources: Resources) -> Context:
        """A context whose sessions use ``resources``; raises UnsupportedError without ORT."""
        from dioe_onnxruntime.context import OnnxRuntimeContext

        _check_device(device)
        info = self.probe()[0]
        if info.reason:
            raise UnsupportedError(info.reason, place="onnxruntime")
        return OnnxRuntimeContext(device, resources)


def _check_device(device: str) -> None:
    if device != "cpu" and not device.startswith("cpu:"):
        raise UnsupportedError(f"no device {device!r} here", place="onnxruntime", fix="use cpu")
