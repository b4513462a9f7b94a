"""Memory that a client lends with a call, for what can't be described before: it only grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dioe.registry.worker.memory import Segment, host_limit_bytes
from dioe.registry.worker.process import WorkerProcess
from dioe.registry.worker.records import field
from dioe.registry.worker.values import Packer, Unpacker, malformed
from dioe.types import Array, OutOfMemory, Value

FIRST_BYTES = 1 << 16
"""An arena's first size: most results that aren't large tensors fit at once."""


class Arena:
    """One segment of a worker, replaced by a larger one when needed. One call at a time."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._segment: Segment | None = None

    def room(self, nbytes: int) -> Segment:
        """A segment with so much room; what an earlier one held may be gone."""
        if self._segment is None or len(self._segment) < nbytes:
            self._segment = None  # before there's another: the host may not have room for both
            self._segment = self._process.segment(max(FIRST_BYTES, 1 << (nbytes - 1).bit_length()))
        return self._segment


def pack(packer: Packer, arena: Arena) -> int | None:
    """Write what was packed into the arena; the segment to name, None if nothing was."""
    if not packer.nbytes:
        return None
    segment = arena.room(packer.nbytes)
    packer.write(segment.bytes())
    return segment.id


def collect(
    process: WorkerProcess, op: str, args: Mapping[str, Any], arena: Arena, limit_s: float
) -> dict[str, Value]:
    """Make a call whose results come in the arena: views of it, valid until it is used again."""
    segment = arena.room(1)
    answer = process.call(op, {**args, "arena": [segment.id, len(segment)]}, limit_s=limit_s)
    if "need" in answer:
        need = field(answer, "need", int)
        if need > host_limit_bytes():
            raise OutOfMemory(
                f"results of {need} bytes are more than half of the host's memory",
                place=process.place,
            )
        segment = arena.room(need)
        again = {"results": answer.get("results"), "arena": [segment.id, len(segment)]}
        answer = process.call("collect", again, limit_s=limit_s)
    return unpack(answer, segment)


def unpack(answer: Mapping[str, Any], segment: Segment) -> dict[str, Value]:
    """The values of an answer, which lie in this segment; raises BackendError."""

    def memory(identity: int | None) -> Array:
        if identity is not None:
            raise malformed("values of an answer lie in the arena that was lent")
        return segment.bytes()

    unpacker = Unpacker(memory, budget=len(segment))
    values = field(answer, "values", dict)
    return {str(name): unpacker.value(described) for name, described in values.items()}


def owned(value: Value) -> Value:
    """The value in memory of its own."""
    if isinstance(value, np.ndarray):
        return value if value.dtype.hasobject else value.copy()
    if isinstance(value, list):
        return [owned(item) for item in value]
    return value
