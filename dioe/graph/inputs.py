"""Made-up inputs that respect what consumes them: never zeros, never pure noise.

What reads an input says what it may hold (``roles``): a ``Gather`` bounds indices, an ``Equal``
names the values it knows, a mask is ones. Whole numbers that are only calculated with are wide, so
that arithmetic in too narrow a type shows; others that nothing bounds are small. Pictures and
other float tensors are random fields with 1/f amplitudes, as natural images have (D. J. Field,
"Relations between the statistics of natural images and the response properties of cortical cells",
1987); long one-dimensional signals are sums of sines; both with a little noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dioe.graph.guard import reading
from dioe.graph.model import Model
from dioe.graph.roles import Role, role_of
from dioe.graph.shapes import bind_dims
from dioe.text import printable
from dioe.types import Array, Dim, InputError, TensorSpec, Value

BATCH, CHANNELS, SIDE, TOKENS, SAMPLES, OTHER = 1, 3, 224, 64, 512, 8
"""Default sizes of unknown dimensions: the first one; channels and sides of pictures (rank 4 or 5);
tokens of integer inputs; samples of float inputs of rank 2; all others."""

LIMIT_BYTES = 2**30
"""Larger inputs are not made up: making one takes some eight times its size for a while."""

WIDE = 2**20
"""Whole numbers that are only calculated with lie within plus and minus this: beyond what 16 bits
or the mantissas of fp16 and bf16 hold, within that of fp32."""

_NOISE = 0.02
_AUDIO_SAMPLES = 256  # a float input of rank 1 to 3 whose long axis has this many is a signal

_WORDS = ("a", "small", "river", "runs", "past", "the", "old", "stone", "mill", "in", "spring")


def make_inputs(
    model: Model, shapes: Mapping[str, Sequence[Dim]] | None = None, seed: int = 0
) -> dict[str, Value]:
    """A feed for ``model``, the same for the same ``seed``.

    ``shapes`` binds unknown dimensions as ``Model.with_shapes`` does; those left get a default: 1
    for the first, 3 channels and sides of 224 for pictures, 64 tokens, 512 samples, 8 otherwise;
    one symbol gets one size. Raises InputError for a map, where a rank is unknown, or where an
    input would be larger than LIMIT_BYTES; ModelError for a malformed model.
    """
    rng = np.random.default_rng(seed)
    values = {value.name: value for value in model.ir.graph.inputs}
    symbols: dict[str, int] = {}
    feeds: dict[str, Value] = {}
    bound = bind_dims(model.inputs, shapes or {})
    for spec in model.inputs:
        shape = _concrete(spec, bound[spec.name], symbols)
        _check_size(spec, shape)
        with reading(model.place):
            role = role_of(values[spec.name], model.ir.graph)
        if spec.kind == "sequence":
            feeds[spec.name] = [_array(spec, shape, role, rng) for _ in range(2)]
        elif spec.kind == "map":
            raise InputError(f"can't make up the map {spec.name!r}", fix="give sample inputs")
        else:
            feeds[spec.name] = _array(spec, shape, role, rng)
    return feeds


# --- shapes -----------------------------------------------------------------------------------


def _concrete(
    spec: TensorSpec, shape: tuple[Dim, ...] | None, symbols: dict[str, int]
) -> tuple[int, ...]:
    if shape is None:
        raise InputError(
            f"the rank of input {spec.name!r} is unknown", fix="give its shape, or sample inputs"
        )
    sizes = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            sizes.append(dim)
            continue
        size = _default(spec, shape, axis)
        sizes.append(symbols.setdefault(dim, size) if dim is not None else size)
    return tuple(sizes)


def _check_size(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    each = 8 if spec.dtype.kind == "O" else spec.dtype.itemsize
    size = math.prod(shape) * each
    if size > LIMIT_BYTES:
        dims = ",".join(map(str, shape))
        raise InputError(
            f"input {spec.name!r} of shape [{dims}] would take {size / 1e9:,.1f} GB; "
            f"no more than {LIMIT_BYTES / 1e9:.1f} GB are made up",
            fix=f"give a smaller shape, such as --shape {printable(spec.name)}=1,…, "
            f"or sample inputs",
        )


def _default(spec: TensorSpec, shape: tuple[Dim, ...], axis: int) -> int:
    if axis == 0:
        return BATCH
    if spec.dtype.kind in "iub" and len(shape) <= 3:
        return TOKENS
    if len(shape) >= 4:
        channels_last = shape[-1] in (1, 3, 4) and not isinstance(shape[1], int)
        channel_axis = len(shape) - 1 if channels_last else 1
        return CHANNELS if axis == channel_axis else SIDE
    return SAMPLES if len(shape) == 2 else OTHER


# --- values -----------------------------------------------------------------------------------


def _array(spec: TensorSpec, shape: tuple[int, ...], role: Role, rng: np.random.Generator) -> Array:
    dtype = spec.dtype
    if dtype.kind == "O":
        words = rng.choice(np.array(_WORDS), size=shape)
        return np.asarray(words, dtype=object).reshape(shape)
    if dtype == np.bool_:
        return np.ones(shape, dtype) if role.mask else rng.random(shape) < 0.75
    if ir.DataType.from_numpy(dtype).is_integer():
        return _integers(shape, dtype, role, rng)
    if dtype.kind == "c":
        return (_field(shape, rng) + 1j * _field(shape, rng)).astype(dtype)
    if role.mask and not role.positive:
        return np.ones(shape, dtype)
    values = _signal(shape, rng) if _is_signal(shape) else _field(shape, rng)
    if role.positive:
        values = np.abs(values) + 0.1
    return np.asarray(values).astype(dtype)


def _integers(
    shape: tuple[int, ...], dtype: np.dtype[Any], role: Role, rng: np.random.Generator
) -> Array:
    if role.control:
        return np.ones(shape, dtype)
    if role.limit is not None:
        limit = max(role.limit, 1)
        # Row 0 is padding in most vocabularies; a two-row table holds two kinds of a token.
        return rng.integers(min(1, limit - 1) if limit > 2 else 0, limit, shape).astype(dtype)
    if role.compared:
        known = np.unique(np.concatenate(role.compared))
        if not shape:
            return np.asarray(known[rng.integers(known.size)]).astype(dtype)
        if known.size > 1:
            return rng.choice(known, size=shape).astype(dtype)
        return rng.integers(0, max(int(known[0]), 2), shape).astype(dtype)
    if role.mask:
        return np.ones(shape, dtype)
    low, high = _range(dtype)
    if dtype.itemsize == 1 and len(shape) >= 3:  # a picture in bytes
        scaled = (_field(shape, rng) + 1) / 2 * (high - low) + low
        return np.clip(np.rint(scaled), low, high).astype(dtype)
    # Single numbers are parameters, not data, more often than not.
    if role.arithmetic and math.prod(shape) > 1:
        return rng.integers(max(low, -WIDE), min(high, WIDE), shape, endpoint=True).astype(dtype)
    return rng.integers(1, min(8, high + 1), shape).astype(dtype)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the greatest number of an integer type, those of ml_dtypes included."""
    element = ir.DataType.from_numpy(dtype)
    if element.is_signed():
        return -(2 ** (element.bitwidth - 1)), 2 ** (element.bitwidth - 1) - 1
    return 0, 2**element.bitwidth - 1


def _is_signal(shape: tuple[int, ...]) -> bool:
    long = [size for size in shape if size > 1]
    signals = [size for size in long if size >= _AUDIO_SAMPLES]
    return len(shape) <= 3 and len(long) <= 2 and len(signals) == 1


def _signal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Sums of sines along the longest axis, differing along all others; about [-1, 1]."""
    axis = int(np.argmax(shape))
    length = shape[axis]
    rest = tuple(size for i, size in enumerate(shape) if i != axis)
    t = np.arange(length) / length
    tones = 6
    # From one period over the whole to a twentieth of the samples, evenly in the logarithm.
    frequencies = np.exp(rng.uniform(0, np.log(max(length / 20, 2)), (*rest, tones)))
    phases = rng.uniform(0, 2 * np.pi, (*rest, tones))
    weights = 1 / np.sqrt(frequencies)
    waves = np.sin(2 * np.pi * frequencies[..., None] * t + phases[..., None])
    values = (waves * weights[..., None]).sum(-2)
    values += _NOISE * rng.standard_normal(values.shape)
    return np.moveaxis(values / np.abs(values).max(), -1, axis)


def _field(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A random field with a 1/f spectrum over its (up to two) largest axes; about [-1, 1]."""
    if not shape:
        return np.asarray(rng.uniform(0.25, 0.75))
    if 0 in shape:
        return np.zeros(shape)
    axes = sorted(sorted(range(len(shape)), key=lambda i: (-shape[i], -i))[:2])
    noise = rng.standard_normal(shape)
    grid = np.zeros((1,) * len(shape))
    for axis in axes:
        steps = np.fft.fftfreq(shape[axis]) * shape[axis]
        grid = grid + (steps**2).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    spectrum = np.fft.fftn(noise, axes=axes) / np.sqrt(np.maximum(grid, 1.0))
    values = np.real(np.fft.ifftn(spectrum, axes=axes))
    values += _NOISE * values.std() * rng.standard_normal(shape)
    return values / max(float(np.abs(values).max()), 1e-12)
