"""Specs of a model's inputs and outputs, and arrays that are checked against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dioe.types import Array, Buffer, Dim, InputError, StageModel, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

ALIGNMENT_BYTES = 64
"""A cache line, and the widest vector register: what CPU kernels like best."""


def tensor_specs(model: StageModel) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Specs of the model's inputs (without initializers) and outputs, in the model's order."""
    graph = model.ir.graph
    inputs = tuple(_spec(v) for v in graph.inputs if v.name not in graph.initializers)
    return inputs, tuple(_spec(v) for v in graph.outputs)


def _spec(value: ir.Value) -> TensorSpec:
    import onnx_ir as ir

    kind = "tensor"
    if isinstance(value.type, ir.SequenceType):
        kind = "sequence"
    elif isinstance(value.type, ir.OptionalType):
        kind = "optional"
    dtype = np.dtype(object) if value.dtype is None else np.dtype(value.dtype.numpy())
    shape = None if value.shape is None else tuple(_dim(d) for d in value.shape)
    return TensorSpec(value.name or "", dtype, shape, kind)


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    return dim if isinstance(dim, int) else dim.value


def named(names: Iterable[str]) -> str:
    """Names from a model as text: quoted, so that control characters in them stay harmless."""
    return ", ".join(repr(str(name)) for name in names)


def missing_inputs(names: Iterable[str], place: str) -> InputError:
    """The error for inputs that got no value."""
    return InputError(f"no value for input {named(names)}", place=place)


def name_list(names: Iterable[str]) -> list[str]:
    """Names in any sequence (a tuple, an array of str) as runtimes take them."""
    return names if type(names) is list else [str(name) for name in names]


def unknown_name(name: str, known: Iterable[str], what: str) -> InputError:
    """The error for a name that is none of the model's inputs (or outputs)."""
    return InputError(f"there is no {what} {name!r}", fix=f"known: {named(known) or 'none'}")


def host_array(value: object, spec: TensorSpec) -> Array:
    """The host array behind ``value`` (an array, a host buffer, a number); InputError if none."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Buffer):
        return value.numpy()
    if isinstance(value, (bool, int, float, complex, str, np.generic)):
        return np.asarray(value, dtype=spec.dtype)
    raise InputError(
        f"expected an array of {spec.dtype}, got {type(value).__name__}",
        place=f"input {spec.name!r}",
    )


def check_array(array: Array | Buffer, spec: TensorSpec, what: str = "input") -> None:
    """Raise InputError unless dtype and shape of an array, or of a buffer wherever it is, fit
    ``spec``; symbols fit any number."""
    if array.dtype != spec.dtype and not (spec.dtype.hasobject and array.dtype.kind in "OUST"):
        raise InputError(
            f"dtype is {array.dtype}, the model wants {spec.dtype}", place=f"{what} {spec.name!r}"
        )
    shape = spec.shape
    if shape is not None and array.shape != shape:
        fits = len(shape) == len(array.shape) and all(
            not isinstance(want, int) or want == have
            for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"shape is {list(array.shape)}, the model wants {list(shape)}",
                place=f"{what} {spec.name!r}",
            )


def contiguous(array: Array) -> Array:
    """``array`` itself where it is C-contiguous, else a copy; 0-d stays 0-d."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def match_outputs(names: Iterable[str], specs: Mapping[str, TensorSpec]) -> None:
    """Raise InputError for the first of ``names`` that is no output."""
    for name in names:
        if name not in specs:
            raise unknown_name(name, specs, "output")


def can_preset(spec: TensorSpec) -> bool:
    """True if a buffer for this output can be made before the run."""
    return spec.static and spec.kind == "tensor" and spec.dtype.kind != "O"


def static_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of a spec that is ``static``."""
    return tuple(d for d in spec.shape or () if isinstance(d, int))


def empty(spec: TensorSpec) -> Array:
    """A host array for an output of known shape, contents undefined."""
    return np.empty(static_shape(spec), spec.dtype)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised C-contiguous array whose data starts on a multiple of 64 bytes."""
    if dtype.hasobject:
        return np.full(shape, "", dtype=object)
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + nbytes].view(dtype).reshape(shape)
