"""What the backend says of itself, and which ops of a model it takes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dioe.host_backend import (
    OptionRule,
    check_host,
    fixed,
    host_device,
    is_bool,
    is_count,
    resolve_options,
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

if TYPE_CHECKING:
    import onnx_ir as ir

PLACE = "numpy"


def _ignored(note: str) -> OptionRule:
    return OptionRule(lambda _: True, "anything", fixed(Effect.IGNORED, note=note))


OPTIONS = {
    "optimize": OptionRule(
        is_bool, "true or false", fixed(Effect.APPLIED, note="there are no optimisations")
    ),
    "profile": OptionRule(
        lambda value: value is False, "false", fixed(Effect.REJECTED, note="takes no times")
    ),
    "kernel_fusion": _ignored("numpy computes op by op"),
    "tiling_strategy": _ignored("numpy chooses its own"),
    "precision": OptionRule(
        lambda value: value == Precision.FP32, "fp32", fixed(Effect.APPLIED), compile=False
    ),
    "threads": OptionRule(
        is_count, "a positive number", fixed(Effect.IGNORED, note="numpy's own"), compile=False
    ),
}


class NumpyBackend:
    """A handful of ops on the host, one after the other."""

    name = "numpy"
    abi_version = ABI_VERSION
    simulated = False

    @property
    def version(self) -> str:
        """Version of numpy: profiles measured with another one are not used."""
        return importlib.metadata.version("numpy")

    def probe(self) -> Sequence[DeviceInfo]:
        """The host CPU, under the uuid that all backends on it give."""
        return [host_device()]

    def capabilities(self, device: str) -> Capabilities:
        """fp32, as written; tried only where nothing else fits, since it is slow."""
        check_host(device, PLACE)
        return Capabilities(last_resort=True)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """The ops of ``OPS`` with the dtypes and attributes it says; a reason for all others."""
        check_host(device, PLACE)
        if precision is not Precision.FP32:
            reason = f"numpy computes as written (fp32), not {precision}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        refused = refusals(model)
        return Support(frozenset(model.op_ids) - refused.keys(), refused)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; numpy has no threads of its own to set."""
        from dioe_numpy.context import NumpyContext

        check_host(device, PLACE)
        return NumpyContext(device, resources)


def refusals(model: StageModel) -> dict[str, str]:
    """The ops that can't be run, each with the reason."""
    graph = model.ir.graph
    opset = model.ir.opset_imports.get("", 0)
    made = [value for node in graph for value in node.outputs]
    declared = {
        value.name: str(value.dtype.numpy())
        for value in (*graph.inputs, *graph.initializers.values(), *made)
        if value.dtype is not None and _is_tensor(value)
    }
    dtypes = dict(declared)
    found: dict[str, str] = {}
    for op_id, node in zip(model.op_ids, graph, strict=True):
        reason = _refusal(node, opset, dtypes)
        (output, *_) = node.outputs
        if not reason:
            dtype = dtypes[output.name] = dtypes[_first(node)]
            if declared.get(output.name, dtype) != dtype:
                reason = f"gives {dtype}, the model says {declared[output.name]}"
        if reason:
            found[op_id] = reason
    return found


def _refusal(node: ir.Node, opset: int, dtypes: Mapping[str | None, str]) -> str:
    """Why this op can't be run; empty if it can."""
    from dioe_numpy.ops import OPS

    op = OPS.get(node.op_type) if node.domain == "" else None
    if op is None:
        return f"there is no {node.domain or 'onnx'}::{node.op_type} in this backend"
    if opset < op.since:
        return f"{node.op_type} of opset {opset} computes otherwise than that of {op.since}"
    unknown = sorted(set(node.attributes) - op.attributes)
    if unknown:
        return f"attributes {', '.join(unknown)} of {node.op_type} are not computed here"
    dtype = dtypes.get(_first(node))
    if dtype not in op.dtypes:
        return f"{node.op_type} of {dtype or 'an unknown dtype'} is not computed here"
    return ""


def _first(node: ir.Node) -> str | None:
    """Name of the first input, whose dtype the result has."""
    return node.inputs[0].name if node.inputs and node.inputs[0] is not None else None


def _is_tensor(value: ir.Value) -> bool:
    import onnx_ir as ir

    return value.type is None or isinstance(value.type, ir.TensorType)
