"""Executables from models, in the memory of the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dioe.host_backend import HostContext, check_options, tensor_specs
from dioe.types import Executable, Feeds, Precision, Precisions, StageModel, UnsupportedError
from dioe_numpy.backend import OPTIONS, PLACE, refusals
from dioe_numpy.executable import NumpyExecutable, Step
from dioe_numpy.ops import OPS

if TYPE_CHECKING:
    import onnx_ir as ir


class NumpyContext(HostContext):
    """``HostContext`` has the memory, the counters, and closes what was compiled."""

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """Steps in the order of the model. Raises UnsupportedError for what ``query`` refuses."""
        self.check_open()
        check_options(PLACE, OPTIONS, options)
        if precisions.used != (Precision.FP32,):
            raise UnsupportedError(
                f"computes as written (fp32), not {'+'.join(precisions.used)}", place=PLACE
            )
        for op, reason in refusals(model).items():
            raise UnsupportedError(reason, place=f"{PLACE}: op {op!r}")
        inputs, outputs = tensor_specs(model)
        graph = model.ir.graph
        weights = {name: value.const_value.numpy() for name, value in _constants(graph)}
        steps = [_step(node) for node in graph]
        return self.own(NumpyExecutable(inputs, outputs, weights, steps))

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: there is no compiled form."""
        raise UnsupportedError("numpy has no compiled form to load", place=PLACE)


def _constants(graph: ir.Graph) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in graph.initializers.items() if value.const_value]


def _step(node: ir.Node) -> Step:
    """One op as the executable runs it."""
    return Step(
        compute=OPS[node.op_type].compute,
        inputs=tuple("" if value is None else value.name or "" for value in node.inputs),
        output=node.outputs[0].name or "",
        attributes={name: value.value for name, value in node.attributes.items()},
    )
