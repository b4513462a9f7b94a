"""What ``onnx.reference`` offers, and which ops of a model it has."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import OptionRule, host_device, resolve_options, support_by_trial
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

PLACE = "reference"


def _ignored(note: str) -> OptionRule:
    return OptionRule(lambda _: True, "anything", fixed(Effect.IGNORED, note=note))


OPTIONS = {
    "optimize": OptionRule(
        is_bool, "true or false", fixed(Effect.APPLIED, note="there are no optimisations")
    ),
    "profile": OptionRule(is_bool, "true or false", fixed(Effect.APPLIED)),
    "kernel_fusion": _ignored("numpy computes op by op"),
    "tiling_strategy": _ignored("numpy chooses its own"),
    "precision": OptionRule(
        lambda v: v in set(Precision),
        "a precision",
        lambda v: Resolution(
            Effect.APPLIED if v == Precision.FP32 else Effect.REJECTED, note="computes as written"
        ),
        compile=False,
    ),
    "threads": OptionRule(
        is_count, "a positive number", fixed(Effect.IGNORED, note="numpy's own"), compile=False
    ),
    "streams": OptionRule(
        is_count, "a positive number", fixed(Effect.IGNORED, note="one at a time"), compile=False
    ),
    "spin": OptionRule(is_bool, "true or false", fixed(Effect.IGNORED), compile=False),
    "memory_limit_bytes": OptionRule(
        is_count, "a positive number", fixed(Effect.IGNORED), compile=False
    ),
}


class ReferenceBackend:
    """``onnx.reference.ReferenceEvaluator`` on the host."""

    name = "reference"
    abi_version = ABI_VERSION
    simulated = False

    @property
    def version(self) -> str:
        """Version of onnx."""
        return importlib.metadata.version("onnx")

    def probe(self) -> Sequence[DeviceInfo]:
        """The host; absent if onnx.reference can't be imported."""
        try:
            import onnx.reference  # noqa: F401
        except ImportError as error:
            return [host_device(f"onnx.reference can't be imported: {error}")]
        return [host_device()]

    def capabilities(self, device: str) -> Capabilities:
        """fp32, as written; a last resort, since it is slower by orders of magnitude."""
        _check_device(device)
        return Capabilities(last_resort=True)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """Found by loading: an evaluator looks up every op when it is made."""
        from dioe_reference.context import evaluator, try_bytes

        _check_device(device)
        if precision is not Precision.FP32:
            reason = f"onnx.reference computes as written (fp32), not {precision}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        return support_by_trial(model, lambda whole: void(evaluator(whole)), try_bytes)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; ``resources`` have no effect on numpy."""
        from dioe_reference.context import ReferenceContext

        _check_device(device)
        return ReferenceContext(device, resources)


def void(_: object) -> None:
    """Drop a result."""


def _check_device(device: str) -> None:
    if device != "cpu" and not device.startswith("cpu:"):
        raise UnsupportedError(f"no device {device!r} here", place=PLACE, fix="use cpu")
