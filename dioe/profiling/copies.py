"""What it costs to bring a value into a device's memory and out of it: a line by its bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dioe.types import Buffer, Context, HostBuffer, TensorSpec

_SIZES = (1 << 10, 1 << 22)
"""Bytes: a copy's own cost, and one whose bytes are all that counts."""

_TRIES = 4

_Copy: TypeAlias = Callable[[Buffer, Buffer], None]


@dataclass(frozen=True, slots=True)
class CopyCosts:
    """Milliseconds of a copy from the host into a device's memory, and of one back."""

    to_fixed_ms: float = 0.0
    to_ms_per_byte: float = 0.0
    from_fixed_ms: float = 0.0
    from_ms_per_byte: float = 0.0

    def to_ms(self, nbytes: int) -> float:
        """The cost of bringing a value of that size into the memory."""
        return self.to_fixed_ms + self.to_ms_per_byte * nbytes

    def from_ms(self, nbytes: int) -> float:
        """The cost of bringing one out of it."""
        return self.from_fixed_ms + self.from_ms_per_byte * nbytes


def time_copies(context: Context) -> CopyCosts | None:
    """Copies of some sizes into the memory of a context and out of it, the fastest of some tries
    each: what disturbs a machine only adds time.

    None where the host addresses that memory in place, so that nothing is copied. Takes some tens
    of milliseconds. Raises what the backend raises (OutOfMemory, BackendError).
    """

    def copy(source: Buffer, target: Buffer) -> None:
        context.copy(source, target).wait()

    there, back = [], []
    for nbytes in _SIZES:
        spec = TensorSpec("copied", np.dtype(np.float32), (nbytes // 4,))
        device = context.alloc(spec)
        if isinstance(device, HostBuffer):
            return None
        host = HostBuffer(np.random.default_rng(nbytes).random(nbytes // 4, dtype=np.float32))
        there.append(_fastest_ms(copy, host, device))
        back.append(_fastest_ms(copy, device, host))
    return CopyCosts(*_line(there), *_line(back))


def _fastest_ms(copy: _Copy, source: Buffer, target: Buffer) -> float:
    times = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        copy(source, target)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def _line(times_ms: list[float]) -> tuple[float, float]:
    """Fixed part and slope of the line through what both sizes took."""
    per_byte = max(0.0, (times_ms[-1] - times_ms[0]) / (_SIZES[-1] - _SIZES[0]))
    return max(0.0, times_ms[0] - per_byte * _SIZES[0]), per_byte
