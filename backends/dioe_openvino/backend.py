"""What OpenVINO's devices offer, and which ops of a model they take."""

from __future__ import annotations

import importlib.metadata
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dioe.host_backend import (
    OptionRule,
    fixed,
    host_device,
    is_bool,
    resolve_options,
    resource_rules,
    support_by_trial,
)
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
from dioe_openvino.devices import Device, find
from dioe_openvino.errors import PLACE, named_nodes
from dioe_openvino.weights import has_integer_weights

if TYPE_CHECKING:
    import openvino as ov

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
    "asynchronous": OptionRule(
        is_bool, "true or false", fixed(Effect.APPLIED, "InferRequest::start_async")
    ),
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
        memory_limit_bytes=fixed(Effect.IGNORED, note="its plugins take no limit"),
    ),
}


def _new_core() -> ov.Core:
    import openvino

    return openvino.Core()


class OpenVinoBackend:
    """OpenVINO on every device that it finds: the CPU, Intel's GPUs and NPUs."""

    name = "openvino"
    abi_version = ABI_VERSION
    simulated = False

    def __init__(self, new_core: Callable[[], ov.Core] = _new_core) -> None:
        """``new_core`` makes the Core of the backend, and one for each context."""
        self._new_core = new_core
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[object, ...], Support] = OrderedDict()
        self._found: Mapping[str, Device] = {}

    @property
    def version(self) -> str:
        """Version of OpenVINO, empty where it isn't installed."""
        try:
            return importlib.metadata.version("openvino")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def probe(self) -> Sequence[DeviceInfo]:
        """OpenVINO's devices; the host as absent if openvino can't be imported or has no CPU
        plugin."""
        try:
            devices = self._devices()
        except (ImportError, OSError) as error:
            return [host_device(f"openvino can't be imported: {error}")]
        infos = [device.info for device in devices.values()]
        if "cpu" not in devices:
            infos.append(host_device("this OpenVINO has no CPU plugin"))
        return infos

    def capabilities(self, device: str) -> Capabilities:
        """fp32; bf16 on a CPU that has instructions for it, fp16 on GPUs and NPUs; int8 as dynamic
        quantisation.

        On the CPU a context of one thread computes in its caller's thread, wherever that is. More
        threads float over the cores the process may use, so it doesn't keep to given ones.
        """
        found = self._device(device)
        return Capabilities(
            computes=found.computes,
            stores=found.computes,
            mixes_precisions=found.host and Precision.BF16 in found.computes,
            asynchronous=True,
        )

    def _devices(self) -> Mapping[str, Device]:
        with self._lock:
            if not self._found:
                self._found = find(self._new_core())
            return self._found

    def _device(self, device: str) -> Device:
        try:
            devices = self._devices()
        except (ImportError, OSError) as error:
            raise UnsupportedError(f"openvino can't be imported: {error}", place=PLACE) from error
        found = devices.get("cpu" if device.startswith("cpu:") else device)
        if found is None:
            known = ", ".join(devices) or "none"
            raise UnsupportedError(f"no device {device!r} here", place=PLACE, fix=f"use {known}")
        return found

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """Found by compiling: OpenVINO's own ``query_model`` takes as long and knows less.

        Ops that it would compute in other dtypes than the model says are refused: ``exactness``.
        """
        found = self._device(device)
        reason = ""
        if precision not in found.computes:
            reason = f"{found.native} has no {precision} arithmetic that OpenVINO uses"
        elif precision is Precision.INT8 and not has_integer_weights(model.ir):
            reason = "int8 quantises activations of products with integer weights: there are none"
        if reason:
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        # The hash leaves declared shapes out, and what OpenVINO takes depends on them.
        key = (
            found.native,
            model.sha256,
            precision,
            tuple(str(v.shape) for v in model.ir.graph.inputs),
        )
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        answer = self._try(model, found, precision)
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > KEPT_QUERIES:
                self._answers.popitem(last=False)
        return answer

    def _try(self, model: StageModel, device: Device, precision: Precision) -> Support:
        from dioe_openvino.context import OpenVinoContext
        from dioe_openvino.exactness import Exactness

        exactness = Exactness(model)
        inexact = exactness.by_outputs() | exactness.by_op()
        context = OpenVinoContext(device, Resources(), core=self._new_core())
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
        """A context with its own Core; raises UnsupportedError without OpenVINO or the device."""
        found = self._device(device)
        from dioe_openvino.context import OpenVinoContext

        return OpenVinoContext(found, resources, device, self._new_core())
