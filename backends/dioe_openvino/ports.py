"""Inputs and outputs of a compiled model by name, and how it is called and refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import openvino as ov

from dioe.types import BackendError, TensorSpec, UnsupportedError
from dioe_openvino.blob import Head
from dioe_openvino.errors import PLACE

NO_FEEDS: dict[int, Any] = {}
"""What ``infer`` gets where everything is bound."""


def run_closed(*_: object) -> Any:
    """Stands in for what was closed."""
    raise closed()


def native_infer(request: ov.InferRequest) -> Callable[..., Any]:
    """``infer`` of the pybind11 request, without the dispatching of the Python class over it.

    8.5 µs a call with preset tensors where the wrapper takes 8.8 to 11; ``start_async`` and
    ``wait`` take 80.
    """
    infer: Callable[..., Any] = super(type(request), request).infer
    return infer


def closed() -> BackendError:
    """The error of using what was closed."""
    return BackendError("the executable is closed", place=PLACE)


class Ports:
    """Names, specs, indices and element types of a compiled model's inputs and outputs."""

    def __init__(self, compiled: ov.CompiledModel, head: Head) -> None:
        self.inputs = {spec.name: spec for spec in head.inputs}
        self.outputs = {spec.name: spec for spec in head.outputs}
        self.input_index = _indices(head.inputs, compiled.inputs)
        self.output_index = _indices(head.outputs, compiled.outputs)
        self.types = {
            name: compiled.inputs[i].element_type for name, i in self.input_index.items()
        } | {name: compiled.outputs[i].element_type for name, i in self.output_index.items()}


def _indices(specs: Sequence[TensorSpec], ports: Sequence[ov.ConstOutput]) -> dict[str, int]:
    """Where each spec's port is: the front end keeps the order and the names of ONNX."""
    names = [port.get_names() for port in ports]
    found = {}
    for i, spec in enumerate(specs):
        if i < len(names) and spec.name in names[i]:
            found[spec.name] = i
        else:
            found[spec.name] = next((j for j, known in enumerate(names) if spec.name in known), i)
    if len(specs) != len(ports):
        raise UnsupportedError(
            f"OpenVINO made {len(ports)} ports of {len(specs)} inputs or outputs", place=PLACE
        )
    return found
