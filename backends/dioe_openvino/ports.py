"""Inputs and outputs of a compiled model by name, and how it is called and refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import openvino as ov

from dioe.host_backend import computed_outputs
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
    """Names, specs, indices and element types of a compiled model's inputs and outputs.

    ``outputs`` are those that OpenVINO computes. ``input_index`` leaves out inputs that nothing
    reads, which OpenVINO drops.
    """

    def __init__(self, compiled: ov.CompiledModel, head: Head) -> None:
        """Raises UnsupportedError where the ports aren't what the specs say."""
        computed = computed_outputs(head.inputs, head.outputs)
        self.inputs = {spec.name: spec for spec in head.inputs}
        self.outputs = {spec.name: spec for spec in computed}
        self.input_index = _indices(head.inputs, compiled.inputs)
        self.output_index = _indices(head.outputs, compiled.outputs)
        for spec in head.inputs:
            index = self.input_index.get(spec.name)
            if index is not None:
                _check_type(spec, compiled.inputs[index], "input")
        if set(self.input_index.values()) != set(range(len(compiled.inputs))):
            raise UnsupportedError(
                f"OpenVINO made {len(compiled.inputs)} inputs of {list(self.inputs)}", place=PLACE
            )
        for spec in computed:
            if spec.name not in self.output_index:
                raise UnsupportedError(f"OpenVINO lost the output {spec.name!r}", place=PLACE)
            _check_type(spec, compiled.outputs[self.output_index[spec.name]], "output")
        self.output_index = {name: self.output_index[name] for name in self.outputs}
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
            continue
        other = next((j for j, known in enumerate(names) if spec.name in known), None)
        if other is None and len(specs) == len(ports):
            other = i
        if other is not None:
            found[spec.name] = other
    return found


_ELEMENT_TYPES = {
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "float8_e8m0fnu": "f8e8m0",
    "float4_e2m1fn": "f4e2m1",
    "bfloat16": "bf16",
    "bool": "boolean",
}
"""OpenVINO's names of element types, where they aren't a letter and the number of bits."""


def _check_type(spec: TensorSpec, port: ov.ConstOutput, what: str) -> None:
    dtype = spec.dtype.name
    expected = _ELEMENT_TYPES.get(dtype) or (
        dtype.replace("uint", "u").replace("int", "i").replace("float", "f")
    )
    made = port.element_type.get_type_name()
    if made != expected:
        raise UnsupportedError(
            f"{what} {spec.name!r} is declared as {dtype}, OpenVINO makes {made} of it",
            place=PLACE,
        )
