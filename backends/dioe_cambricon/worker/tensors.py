"""Tensors in shared memory, as frames describe them: ``dioe.registry.worker.values`` without what
an old numpy lacks, and without strings, sequences and maps, which no card computes."""

from __future__ import annotations

import numpy as np

from dioe_cambricon.worker.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Array = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT_BYTES = 64

DTYPES = {
    name: np.dtype(name)
    for name in (
        "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
        "float16", "float32", "float64",
    )
}  # fmt: skip
"""By the names they have in frames."""


def unpack(described: dict[str, Any], memory: Any, given: int | None) -> Array:
    """A view of the tensor that a frame describes; without a segment it lies in ``given``."""
    if described.get("kind") != "tensor" or described.get("dtype") not in DTYPES:
        what = described.get("dtype") or described.get("kind")
        raise InputError(f"values of {what} don't go to the card")
    dtype, shape = DTYPES[described["dtype"]], tuple(described["shape"])
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if nbytes == 0:
        return np.empty(shape, dtype)
    segment = described.get("segment")
    view = memory.view(given if segment is None else segment, described["offset"], nbytes)
    return np.frombuffer(view, dtype).reshape(shape)


class Results:
    """Arrays on their way to the client, one after the other in the arena that it lends."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.nbytes = 0
        self.described: dict[str, dict[str, Any]] = {}
        self._parts: list[tuple[int, Array]] = []
        for name, array in arrays.items():
            self.described[name] = {
                "kind": "tensor",
                "dtype": array.dtype.name,
                "shape": list(array.shape),
                "offset": self.nbytes,
            }
            self._parts.append((self.nbytes, array))
            self.nbytes += -(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def write(self, view: memoryview) -> None:
        """Copy all of them to where they are described."""
        target = np.frombuffer(view, np.uint8)
        for offset, array in self._parts:
            if array.nbytes:
                room = target[offset : offset + array.nbytes]
                room.view(array.dtype).reshape(array.shape)[...] = array
