"""The inputs a model is tuned on: the caller's, or made-up ones, grouped by their shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.graph import Model, make_inputs
from dioe.runtime.feeds import check_feeds
from dioe.types import Buffer, Feeds, InputError, Value

Samples = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

_GIVE = "give one mapping of input names to arrays, or a list of them"


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """Feeds of the same shapes: ``shapes`` binds the model's symbolic dimensions."""

    shapes: Mapping[str, tuple[int, ...]]
    feeds: tuple[Feeds, ...]
    real: bool


def shape_groups(
    model: Model,
    samples: Samples,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    state: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[ShapeGroup]:
    """Groups in the order of their first feed; one group of made-up inputs if there are no samples.

    A state input that a feed leaves out is made up as zeros, as a session starts with them, where
    ``shapes`` or the model tells its shape. Raises InputError for feeds that don't fit.
    """
    listed = [samples] if isinstance(samples, Mapping) else samples
    if listed is not None and not isinstance(listed, Sequence):
        raise InputError(f"sample_inputs is a {type(samples).__name__}", fix=_GIVE)
    if not listed:
        feeds = make_inputs(model, shapes, seed=seed)
        return [ShapeGroup(_shapes(feeds), (feeds,), real=False)]
    grouped: dict[tuple[Any, ...], list[Feeds]] = {}
    for sample in listed:
        if not isinstance(sample, Mapping):
            raise InputError(f"a sample is a {type(sample).__name__}", fix=_GIVE)
        feeds = check_feeds({**zero_state(model, sample, state, shapes), **sample}, model.inputs)
        key = tuple(sorted(_shapes(feeds).items()))
        grouped.setdefault(key, []).append(feeds)
    return [ShapeGroup(_shapes(group[0]), tuple(group), real=True) for group in grouped.values()]


def _shapes(feeds: Feeds) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(value.shape) for name, value in feeds.items() if isinstance(value, np.ndarray)
    }


def zero_state(
    model: Model,
    sample: Mapping[str, Any],
    state: Mapping[str, str] | None,
    shapes: Mapping[str, Sequence[int]] | None,
) -> dict[str, Any]:
    """Zeros for the state inputs that a sample leaves out, as a session starts with them."""
    missing = [name for name in (state or {}).values() if name not in sample]
    zeros = {}
    for spec in model.inputs:
        if spec.name not in missing:
            continue
        dims = (shapes or {}).get(spec.name, spec.shape or ())
        # a symbol left open is most often the batch; another sample input may say what it is
        sizes = [d if isinstance(d, int) else _symbol(model, sample, d) for d in dims]
        zeros[spec.name] = np.zeros(sizes, spec.dtype)
    return zeros


def _symbol(model: Model, sample: Mapping[str, Any], symbol: str | None) -> int:
    for spec in model.inputs:
        shape = getattr(sample.get(spec.name), "shape", None)
        if symbol and spec.shape and shape is not None and symbol in spec.shape:
            return int(shape[spec.shape.index(symbol)])
    return 1


def untold_note(outputs: Sequence[str]) -> str:
    """What to tell of outputs whose accuracy the samples say nothing of (``untold``)."""
    return (
        f"{', '.join(outputs)}: empty or NaN throughout on every sample, which tells nothing of "
        "accuracy; give samples with something in it, precision is lowered on no others"
    )


def samples_digest(samples: Sequence[Feeds]) -> str:
    """SHA-256, as hex, of the names, types, shapes and contents of feeds."""
    digest = hashlib.sha256()
    for feeds in samples:
        for name in sorted(feeds):
            digest.update(f"input {name!r}".encode())
            _update(digest, feeds[name])
    return digest.hexdigest()


def _update(digest: hashlib._Hash, value: Value) -> None:
    """Add a value's type, shape and contents."""
    if isinstance(value, Buffer) and not isinstance(value, np.ndarray):
        value = value.numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data)
        return
    if isinstance(value, np.ndarray):
        digest.update(f"strings{value.shape}".encode())
        value = value.ravel().tolist()
    if isinstance(value, dict):
        value = [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        digest.update(f"{len(value)} of".encode())
        for item in value:
            _update(digest, item)
        return
    digest.update(repr(value).encode() + b";")
