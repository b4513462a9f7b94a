"""What OpenVINO's CPU plugin offers, and which ops of a model it takes."""

from __future__ import annotations

import importlib.metadata
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import (
    OptionRule,
    check_host,
    host_device,
    resolve_options,
    resource_rules,
    support_by_trial,
)
from dioe.host_backend.options import fixed, is_bool
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
from dioe_openvino.errors import PLACE, named_nodes
from dioe_openvino.weights import has_integer_weights

KEPT_QUERIES = 64
"""Answers of ``query`` kept: each one costs about as much as compiling."""


def _switch(value: Any) -> Resolution:
    if value:
        return Resolution(Effect.APPLIED, note="always on")
    return Resolution(Effect.REJECTED, note="OpenVINO can't switch its optimisations off")


def _fusion(value: Any) -> Resolution:
    if value in (True, "all"):
        return Resolution(Effect.APPLIED, note="always on")
    return Resolution(Effect.IGNORED, note="OpenVINO can't switch fusion off")


def _precision(value: Any) -> Resolution:
    if value in (Precision.FP32, Precision.BF16):
        return Resolution(Effect.APPLIED, "INFERENCE_PRECISION_HINT")
    if value == Precision.INT8:
        return Resolution(Effect.APPROXIMATED, "DYNAMIC_QUANTIZATION_GROUP_SIZE", "activations")
    return Resolution(Effect.REJECTED, note=f"the CPU plugin doesn't compute {value}")


OPTIONS = {
    "optimize": OptionRule(is_bool, "true", _switch),
    "profile": OptionRule(is_bool, "true or false", fixed(Effect.APPLIED, "PERF_COUNT")),
    "kernel_fusion": OptionRule(lambda v: isinstance(v, (bool, str)), "true or a level", _fusion),
    "tiling_strategy": OptionRule(
        lambda v: isinstance(v, (str, bool, int)),
        "a name",
        fixed(Effect.IGNORED, note="oneDNN chooses its own tiles"),
    ),
    **resource_rules(
        precision=_precision,
        threads=fixed(Effect.APPLIED, "INFERENCE_NUM_THREADS"),
        streams=fixed(Effect.APPLIED, "NUM_STREAMS"),
        spin=fixed(Effect.IGNORED, note="TBB's workers sleep when idle"),
        memory_limit_bytes=fixed(Effect.IGNORED, note="the CPU plugin takes no limit"),
    ),
}


class OpenVinoBackend:
    """OpenVINO's CPU plugin."""

    name = "openvino"
    abi_version = ABI_VERSION
    simulated = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[object, ...], Support] = OrderedDict()
        self._precisions: frozenset[Precision] | None = None

    @property
    def version(self) -> str:
        """Version of OpenVINO, empty where it isn't installed."""
        try:
            return importlib.metadata.version("openvino")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def probe(self) -> Sequence[DeviceInfo]:
        """The host; absent if openvino can't be imported or has no CPU plugin."""
        try:
            import openvino
        except (ImportError, OSError) as error:
            return [host_device(f"openvino can't be imported: {error}")]
        if "CPU" not in openvino.Core().available_devices:
            return [host_device("this OpenVINO has no CPU plugin")]
        return [host_device()]

    def capabilities(self, device: str) -> Capabilities:
        """fp32; bf16 where the CPU has instructions for it; int8 as dynamic quantisation.

        Its threads float over the cores the process may use, so it doesn't keep to given ones.
        """
        check_host(device, PLACE)
        return Capabilities(
            computes=self._computes(),
            stores=self._computes(),
            mixes_precisions=Precision.BF16 in self._computes(),
        )

    def _computes(self) -> frozenset[Precision]:
        if self._precisions is None:
            import openvino

            native = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            known = {"BF16": Precision.BF16, "INT8": Precision.INT8}
            self._precisions = frozenset({Precision.FP32}) | {
                known[n] for n in native if n in known
            }
        return self._precisions

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """Found by compiling: OpenVINO's own ``query_model`` takes as long and knows less.

        Ops that it would compute in other dtypes than the model says are refused: ``exactness``.
        """
        check_host(device, PLACE)
        reason = ""
        if precision not in self._computes():
            reason = f"this CPU has no {precision} arithmetic that OpenVINO uses"
        elif precision is Precision.INT8 and not has_integer_weights(model.ir):
            reason = "int8 quantises activations of products with integer weights: there are none"
        if reason:
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        # The hash leaves declared shapes out, and what OpenVINO takes depends on them.
        key = (model.sha256, precision, tuple(str(v.shape) for v in model.ir.graph.inputs))
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        answer = self._try(model, device, precision)
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > KEPT_QUERIES:
                self._answers.popitem(last=False)
        return answer

    def _try(self, model: StageModel, device: str, precision: Precision) -> Support:
        from dioe_openvino.context import OpenVinoContext
        from dioe_openvino.exactness import Exactness

        exactness = Exactness(model)
        inexact = exactness.by_outputs() | exactness.by_op()
        context = OpenVinoContext(device, Resources())
        try:
            answer = support_by_trial(
                model,
                lambda whole: context.try_model(whole, precision),
                lambda single: context.try_bytes(single, precision),
                named_nodes,
            )
        finally:
            context.close()
        return Support(answer.supported - inexact.keys(), {**inexact, **answer.refused})

    def open(self, device: str, resources: Resources) -> Context:
        """A context with its own Core; raises UnsupportedError without OpenVINO."""
        check_host(device, PLACE)
        info = self.probe()[0]
        if info.reason:
            raise UnsupportedError(info.reason, place=PLACE)
        from dioe_openvino.context import OpenVinoContext

        return OpenVinoContext(device, resources)
