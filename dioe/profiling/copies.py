"""What it costs to bring a value into a device's memory and out of it: a line by its bytes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dioe.types import Buffer, Context, HostBuffer, OutOfMemory, TensorSpec

_LEAST_BYTES = 1 << 10
"""Of a copy whose own cost is all that counts."""

_MOST_BYTES = (1 << 22, 1 << 19, 1 << 16, 1 << 13)
"""Of one whose bytes are all that counts: the first that there is memory for."""

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

    there, back = {}, {}
    for device in (_buffer(context, [_LEAST_BYTES]), _buffer(context, _MOST_BYTES)):
        if isinstance(device, HostBuffer):
            return None
        (count,) = device.shape
        host = HostBuffer(np.random.default_rng(count).random(count, dtype=np.float32))
        there[4 * count] = _fastest_ms(copy, host, device)
        back[4 * count] = _fastest_ms(copy, device, host)
    return CopyCosts(*_line(there), *_line(back))


def _buffer(context: Context, sizes: Sequence[int]) -> Buffer:
    """A buffer in the memory of a context, of the first of these sizes (in bytes) that fits."""
    *larger, least = sizes
    for nbytes in larger:
        with contextlib.suppress(OutOfMemory):
            return context.alloc(_spec(nbytes))
    return context.alloc(_spec(least))


def _spec(nbytes: int) -> TensorSpec:
    return TensorSpec("copied", np.dtype(np.float32), (nbytes // 4,))


def _fastest_ms(copy: _Copy, source: Buffer, target: Buffer) -> float:
    times = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        copy(source, target)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def _line(times_ms: Mapping[int, float]) -> tuple[float, float]:
    """Fixed part and slope of the line through what both sizes took."""
    (small, fast_ms), (large, slow_ms) = sorted(times_ms.items())
    per_byte = max(0.0, (slow_ms - fast_ms) / (large - small))
    return max(0.0, fast_ms - per_byte * small), per_byte
