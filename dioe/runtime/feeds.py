"""Checking feeds against a model's inputs, with errors a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioe.types import Array, Buffer, HostBuffer, InputError, TensorSpec, Value


def check_feeds(feeds: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Value]:
    """``feeds`` as the backends take them: every input there, of its dtype and a fitting shape.

    Optional inputs that are left out are None. Arrays are passed on as they are, host buffers as
    their arrays. Python numbers, lists and other array-likes (a torch CPU tensor) become arrays of
    the input's dtype if that loses nothing. Raises InputError.
    """
    check_mapping(feeds, specs)
    known = {spec.name: spec for spec in specs}
    for name in feeds:
        if name not in known:
            folded = {each.casefold(): each for each in known}
            close = difflib.get_close_matches(str(name).casefold(), folded, n=1)
            hint = f"did you mean {folded[close[0]]!r}? " if close else ""
            raise InputError(
                f"the model has no input {name!r}",
                fix=f"{hint}its inputs: {', '.join(map(describe, specs)) or 'none'}",
            )
    left_out = [spec for spec in specs if spec.name not in feeds]
    missing = [spec for spec in left_out if spec.kind != "optional"]
    if missing:
        listing = ", ".join(map(describe, missing))
        raise InputError(f"missing input: {listing}", fix="give every input a value")
    checked: dict[str, Value] = {spec.name: None for spec in left_out}
    symbols: dict[str, tuple[int, str]] = {}
    for name, value in feeds.items():
        checked[name] = _check_value(value, known[name], symbols)
    return checked


def check_mapping(feeds: object, specs: Sequence[TensorSpec]) -> None:
    """Raise InputError unless ``feeds`` maps something to something."""
    if not isinstance(feeds, Mapping):
        raise InputError(
            f"a feed is a mapping of input names to arrays, not a {type(feeds).__name__}",
            fix=f"give every input by its name: {', '.join(map(describe, specs)) or 'none'}",
        )


def describe(spec: TensorSpec) -> str:
    """Name, dtype and shape in one word: ``x float32[1,3,?,?]``."""
    return f"{spec.name} {describe_type(spec)}"


def describe_type(spec: TensorSpec) -> str:
    """Dtype and shape: ``float32[1,3,?,?]``; the kind of what is no tensor."""
    if spec.kind != "tensor":
        return spec.kind
    dims = "*" if spec.shape is None else ",".join("?" if d is None else str(d) for d in spec.shape)
    return f"{_dtype_name(spec.dtype)}[{dims}]"


def describe_value(value: object) -> str:
    """What a value is, in the same words: ``float32[1,3]``, ``None``, ``a str, 'text'``."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray | Buffer):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    text = repr(value)
    shown = f", {text if len(text) <= 40 else text[:37] + '...'}"
    return f"a {type(value).__name__}{shown if isinstance(value, str | bool | int | float) else ''}"


def fits(value: object, spec: TensorSpec) -> bool:
    """Whether ``check_feeds`` takes ``value``, looked at alone, for an input."""
    try:
        _check_value(value, spec, {})
    except InputError:
        return False
    return True


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind in "OUS" else str(dtype)


def _check_value(value: Any, spec: TensorSpec, symbols: dict[str, tuple[int, str]]) -> Value:
    if spec.kind != "tensor":
        if spec.kind == "sequence" and not isinstance(value, list):
            raise InputError(
                f"input {spec.name!r} is a sequence, not a {type(value).__name__}",
                fix="give a list of arrays",
            )
        given: Value = value
        return given
    if isinstance(value, HostBuffer):
        value.ready.wait()
        value = value.array
    buffer = isinstance(value, Buffer) and not isinstance(value, np.ndarray)
    tensor: Array | Buffer = value if buffer else _as_array(value, spec)
    shape, dtype = tensor.shape, tensor.dtype
    if dtype != spec.dtype:
        text = spec.dtype.kind == "O" or dtype.kind == "O"
        raise InputError(
            f"input {spec.name!r} has dtype {dtype}, the model wants {_dtype_name(spec.dtype)}",
            fix=f"give an array of {_dtype_name(spec.dtype)}"
            if text
            else f"convert it: array.astype({str(spec.dtype)!r})",
        )
    if spec.shape is None:
        return tensor
    fits = len(shape) == len(spec.shape)
    if fits:
        for size, dim in zip(shape, spec.shape, strict=True):
            if isinstance(dim, int):
                fits = fits and size == dim
            elif isinstance(dim, str) and dim:
                first, where = symbols.setdefault(dim, (size, spec.name))
                if first != size:
                    raise InputError(
                        f"input {spec.name!r} has {dim} = {size}, but {where!r} has {first}",
                        fix="give inputs whose shared dimensions agree",
                    )
    if not fits:
        raise InputError(
            f"input {spec.name!r} has shape {list(shape)}, the model wants {describe(spec)}",
            fix="give an array of that shape",
        )
    return tensor


def _as_array(value: Any, spec: TensorSpec) -> Array:
    """``value`` as an array: of the input's dtype if it came without one and loses nothing."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"input {spec.name!r} is no array: {error}", fix="give a numpy array"
        ) from None
    if array.dtype == spec.dtype:
        if array.dtype.kind == "O" and not all(isinstance(item, str) for item in array.flat):
            raise InputError(
                f"input {spec.name!r} holds something else than text",
                fix="give an array of str; decode bytes first",
            )
        return array
    if spec.dtype.kind == "O":
        return array.astype(object) if array.dtype.kind in "US" else array
    if hasattr(value, "dtype") or array.dtype.kind not in "biuf":
        return array
    with np.errstate(over="ignore", invalid="ignore"):  # both are found below
        converted = array.astype(spec.dtype)
        back = converted.astype(array.dtype)
    if array.dtype.kind == "f" and "float" in spec.dtype.name:  # rounding is fine, overflow isn't
        exact = np.array_equal(np.isfinite(array), np.isfinite(back))
    else:
        exact = np.array_equal(array, back)
    return converted if exact else array
