"""What ``onnx.reference`` offers, and which ops of a model it has."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import (
    OptionRule,
    check_host,
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
    **resource_rules(
        precision=lambda v: Resolution(
            Effect.APPLIED if v == Precision.FP32 else Effect.REJECTED, note="computes as written"
        ),
        threads=fixed(Effect.IGNORED, note="numpy's own"),
        streams=fixed(Effect.IGNORED, note="one at a time"),
        spin=fixed(Effect.IGNORED),
        memory_limit_bytes=fixed(Effect.IGNORED),
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
        check_host(device, PLACE)
        return Capabilities(last_resort=True)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """Found by loading: an evaluator looks up every op when it is made."""
        from dioe_reference.context import evaluator, try_bytes

        check_host(device, PLACE)
        if precision is not Precision.FP32:
            reason = f"onnx.reference computes as written (fp32), not {precision}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        return support_by_trial(model, lambda whole: void(evaluator(whole)), try_bytes)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; ``resources`` have no effect on numpy."""
        from dioe_reference.context import ReferenceContext

        check_host(device, PLACE)
        return ReferenceContext(device, resources)


def void(_: object) -> None:
    """Drop a result."""
