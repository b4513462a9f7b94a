"""Copies into a device's memory, out of it and within it: the same bytes, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dioe.profiling.rounds import time_calls
from dioe.types import Array, Buffer, Context, DioeError, HostBuffer, OutOfMemory, TensorSpec

SIZES = (4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20)
"""Bytes of a copy: from where only its own cost counts to where only the bytes do."""

_COPY_S = 0.1


def check_transfers(
    context: Context, *, judged: bool = True, sizes: Sequence[int] = SIZES, seconds: float = _COPY_S
) -> list[dict[str, Any]]:
    """Each way at each size: ``way``, ``nbytes``, ``p50_ms`` (the median of ``runs``, waited for
    one by one), ``gbps`` and ``equal``.

    ``equal`` is None unless ``judged``: a modelled device has no values. A copy that fails has a
    ``reason`` in place of times.
    """
    found: list[dict[str, Any]] = []
    for nbytes in sizes:
        for way, copy in _WAYS.items():
            entry: dict[str, Any] = {"way": way, "nbytes": nbytes}
            try:
                found.append(entry | copy(context, nbytes, judged, seconds))
            except DioeError as error:
                found.append(entry | {"reason": " ".join(str(error).split())})
                if isinstance(error, OutOfMemory):
                    return found  # what is larger has no room either
    return found


def _to_device(context: Context, nbytes: int, judged: bool, seconds: float) -> dict[str, Any]:
    data, device, back = _data(nbytes), _buffer(context, nbytes), _zeros(nbytes)

    def check() -> Array:
        context.copy(device, HostBuffer(back)).wait()
        return back

    return _timed(context, HostBuffer(data), device, data, check if judged else None, seconds)


def _from_device(context: Context, nbytes: int, judged: bool, seconds: float) -> dict[str, Any]:
    data, device, back = _data(nbytes), _buffer(context, nbytes), _zeros(nbytes)
    context.copy(HostBuffer(data), device).wait()
    check = (lambda: back) if judged else None
    return _timed(context, device, HostBuffer(back), data, check, seconds)


def _within(context: Context, nbytes: int, judged: bool, seconds: float) -> dict[str, Any]:
    data, back = _data(nbytes), _zeros(nbytes)
    one, other = _buffer(context, nbytes), _buffer(context, nbytes)
    context.copy(HostBuffer(data), one).wait()

    def check() -> Array:
        context.copy(other, HostBuffer(back)).wait()
        return back

    return _timed(context, one, other, data, check if judged else None, seconds)


_WAYS: dict[str, Callable[[Context, int, bool, float], dict[str, Any]]] = {
    "host to device": _to_device,
    "device to host": _from_device,
    "device to device": _within,
}


def _timed(
    context: Context,
    source: Buffer,
    target: Buffer,
    data: Array,
    result: Callable[[], Array] | None,
    seconds: float,
) -> dict[str, Any]:
    samples = time_calls(lambda: context.copy(source, target).wait(), seconds=seconds)
    p50_ms = float(np.median(samples))
    return {
        "p50_ms": p50_ms,
        "gbps": data.nbytes / max(p50_ms, 1e-9) / 1e6,
        "runs": len(samples),
        "equal": None if result is None else bool(np.array_equal(result(), data)),
    }


def _data(nbytes: int) -> Array:
    return np.random.default_rng(nbytes).integers(0, 256, nbytes, dtype=np.uint8)


def _zeros(nbytes: int) -> Array:
    return np.zeros(nbytes, np.uint8)


def _buffer(context: Context, nbytes: int) -> Buffer:
    return context.alloc(TensorSpec("copied", np.dtype(np.uint8), (nbytes,)))
