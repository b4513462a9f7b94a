"""Values in shared memory: how tensors, strings, sequences and maps are described in frames.

A ``Packer`` describes values and says how much memory they need before any is copied; an
``Unpacker`` gives them back. What comes from a worker is checked: a wrong description raises
BackendError, and no description unfolds into more than the memory it lies in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from dioe.registry.worker.memory import aligned
from dioe.types import Array, BackendError, Buffer, InputError, Value

Described = dict[str, Any]
"""A value as a frame holds it."""

MAX_RANK = 32
MAX_DEPTH = 8
LENGTH = np.dtype("<u4")  # of one string

_NAMES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
_ML_NAMES = (
    "bfloat16", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "int4", "uint4", "int2", "uint2",
)  # fmt: skip
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in (*_NAMES, *_FLOATS)} | {
    name: np.dtype(getattr(ml_dtypes, name)) for name in _ML_NAMES if hasattr(ml_dtypes, name)
}
"""By the names they have in frames, on every machine in little endian."""


def dtype_named(name: object) -> np.dtype[Any]:
    """The dtype of that name, ``object`` for strings; raises BackendError."""
    if name == "object":
        return np.dtype(object)
    try:
        return DTYPES[str(name)]
    except KeyError:
        raise malformed(f"there is no dtype {name!r:.40}") from None


def malformed(what: str) -> BackendError:
    """The error for an answer that can't be understood."""
    return BackendError(f"a message of the worker can't be understood: {what}")


class Packer:
    """Describes values one after the other, then writes them all.

    ``find`` tells whether an array already lies in shared memory (segment, offset): then it is
    described where it is.
    """

    def __init__(self, find: Callable[[Array], tuple[int, int] | None] = lambda _: None) -> None:
        self.nbytes = 0
        self._find = find
        self._parts: list[tuple[int, Array]] = []

    def add(self, value: Value) -> Described:
        """How a frame describes the value; raises InputError for what can't travel."""
        if value is None:
            return {"kind": "none"}
        if isinstance(value, (list, tuple)):
            return {"kind": "sequence", "items": [self.add(item) for item in value]}
        if isinstance(value, dict):
            keys, values = (_one_dimensional(part) for part in (value.keys(), value.values()))
            return {"kind": "map", "keys": self.add(keys), "values": self.add(values)}
        if isinstance(value, Buffer) and not isinstance(value, np.ndarray):
            value = value.numpy()
        array = np.asarray(value)
        if array.dtype.kind in "OUST":
            return self._strings(array)
        name = array.dtype.name
        if DTYPES.get(name) != array.dtype:
            raise InputError(f"values of dtype {array.dtype} can't be given to a worker")
        described: Described = {"kind": "tensor", "dtype": name, "shape": list(array.shape)}
        found = self._find(array)
        if found is not None:
            return described | {"segment": found[0], "offset": found[1]}
        return described | {"offset": self._place(array)}

    def _strings(self, array: Array) -> Described:
        encoded = []
        for item in array.ravel():
            try:
                encoded.append(item if isinstance(item, bytes) else str(item).encode())
            except UnicodeEncodeError as error:
                raise InputError(f"a string that is no text can't travel: {error}") from error
        lengths = np.array([len(text) for text in encoded], LENGTH)
        text = np.frombuffer(b"".join(encoded), np.uint8)
        offset = self._place(lengths)
        return {
            "kind": "strings", "shape": list(array.shape), "offset": offset,
            "text": self._place(text), "nbytes": text.nbytes,
        }  # fmt: skip

    def _place(self, array: Array) -> int:
        offset = self.nbytes
        self._parts.append((offset, array))
        self.nbytes = aligned(offset + array.nbytes)
        return offset

    def write(self, memory: Array) -> None:
        """Copy all that was added into memory (uint8) of at least ``nbytes``."""
        for offset, array in self._parts:
            target = memory[offset : offset + array.nbytes].view(array.dtype)
            np.copyto(target.reshape(array.shape), array)


def _one_dimensional(items: Any) -> Array:
    array = np.array(list(items))
    return array.reshape(-1) if array.size else np.empty(0, np.int64)


class Unpacker:
    """Gives values back from the memory they were written to.

    ``memory`` maps a segment's id (None: the arena of the call) to its bytes as uint8, and raises
    for any other. Tensors are views of it. All of one Unpacker's values together may name as many
    bytes as ``budget`` and no more.
    """

    def __init__(self, memory: Callable[[int | None], Array], budget: int | None = None) -> None:
        self._memory = memory
        self._left = budget

    def value(self, described: object, depth: int = 0) -> Value:
        """The value that a frame describes; raises BackendError."""
        if not isinstance(described, dict) or depth > MAX_DEPTH:
            raise malformed("a value is not described")
        kind = described.get("kind")
        if kind == "none":
            return None
        if kind == "tensor":
            return self._tensor(described)
        if kind == "strings":
            return self._strings(described)
        if kind == "sequence":
            items = described.get("items")
            if not isinstance(items, list):
                raise malformed("a sequence has no items")
            return [self.value(item, depth + 1) for item in items]
        if kind == "map":
            keys, values = (self.value(described.get(n), depth + 1) for n in ("keys", "values"))
            if not isinstance(keys, np.ndarray) or not isinstance(values, np.ndarray):
                raise malformed("a map has no keys and values")
            return dict(zip(keys.ravel().tolist(), values.ravel().tolist(), strict=False))
        raise malformed(f"there is no kind {kind!r:.40}")

    def _tensor(self, described: Mapping[str, Any]) -> Array:
        dtype, shape = dtype_named(described.get("dtype")), _shape(described.get("shape"))
        if dtype.hasobject:
            raise malformed("strings are no tensor")
        nbytes = math.prod(shape) * dtype.itemsize
        data = self._bytes(described.get("segment"), described.get("offset"), nbytes)
        try:
            return data.view(dtype).reshape(shape)
        except (ValueError, OverflowError) as error:  # dimensions beyond numpy's, around a 0
            raise malformed(f"shape {shape!r:.80}: {error}") from None

    def _strings(self, described: Mapping[str, Any]) -> Array:
        shape = _shape(described.get("shape"))
        count, text_bytes = math.prod(shape), described.get("nbytes")
        segment = described.get("segment")
        lengths = self._bytes(segment, described.get("offset"), count * LENGTH.itemsize)
        text = bytes(self._bytes(segment, described.get("text"), text_bytes))
        ends = np.cumsum(lengths.view(LENGTH), dtype=np.uint64).tolist()
        if (ends[-1] if ends else 0) != len(text):
            raise malformed("lengths of strings don't add up to their text")
        found = np.empty(count, object)
        try:
            for i, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
                found[i] = text[begin:end].decode()
        except UnicodeDecodeError as error:
            raise malformed(f"strings are no UTF-8: {error}") from None
        return found.reshape(shape)

    def _bytes(self, segment: Any, offset: Any, nbytes: Any) -> Array:
        if not (segment is None or _is_count(segment)):
            raise malformed("a segment is no number")
        if not _is_count(offset) or not _is_count(nbytes):
            raise malformed("a value lies nowhere")
        memory = self._memory(segment)
        if offset + nbytes > memory.size:
            raise malformed("a value lies outside of its memory")
        if self._left is not None:
            self._left -= nbytes
            if self._left < 0:
                raise malformed("values overlap")
        return memory[offset : offset + nbytes]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK or not all(map(_is_count, value)):
        raise malformed("a shape is not a list of dimensions")
    return tuple(value)
