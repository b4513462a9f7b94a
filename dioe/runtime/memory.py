"""Memories that stages work in, and explicit copies from one to another, counted as they run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dioe.host_backend import nbytes_of
from dioe.types import Buffer, Context, HostBuffer, TensorSpec, Value

HOST_DEVICE = "cpu"


class Memory:
    """The memory of one context on a device that isn't the host, and copies into and out of it."""

    def __init__(self, device: str, context: Context) -> None:
        self.device = device
        self._context = context

    def buffer(self, spec: TensorSpec) -> Buffer:
        """A new buffer for a tensor of static shape. Raises OutOfMemory."""
        return self._context.alloc(spec)

    def copy(self, source: Buffer, destination: Buffer) -> None:
        """Copy and wait until it is done. Raises BackendError."""
        self._context.copy(source, destination).wait()


def memories(devices: Sequence[str], contexts: Sequence[Context]) -> list[Memory | None]:
    """The memory of each context on its device, None where that is the host's; one object for each
    context.

    A device whose buffers the host can address in place counts as the host.
    """
    known: dict[int, Memory | None] = {}
    for device, context in zip(devices, contexts, strict=True):
        if id(context) not in known:
            known[id(context)] = _memory(device, context)
    return [known[id(context)] for context in contexts]


def _memory(device: str, context: Context) -> Memory | None:
    if is_host(device):
        return None
    probe = context.alloc(TensorSpec("probe", np.dtype(np.float32), (1,)))
    return None if isinstance(probe, HostBuffer) else Memory(device, context)


def is_host(device: str) -> bool:
    """True for the CPU and the lanes it is split into (``cpu:0``)."""
    return device.partition(":")[0] == HOST_DEVICE


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What one value's copies between two devices came to: bytes of one copy, number, total ms."""

    value: str
    source: str
    destination: str
    nbytes: int
    count: int
    total_ms: float

    @property
    def mean_ms(self) -> float:
        """Mean time of one copy."""
        return self.total_ms / max(self.count, 1)


class TransferLog:
    """What the copies of a loaded plan's requests come to; each request counts for itself."""

    def __init__(self) -> None:
        self._tallies: list[_Tally] = []

    def tally(self, value: str, source: str, destination: str) -> _Tally:
        """A new count, which stays when the request that counts is gone."""
        tally = _Tally(value, source, destination)
        self._tallies.append(tally)
        return tally

    def reports(self) -> tuple[TransferReport, ...]:
        """A report for each value, way and size, in the order they first came."""
        found: dict[tuple[str, str, str, int], tuple[int, int]] = {}
        for tally in tuple(self._tallies):
            for nbytes, (count, ns) in tuple(tally.sizes.items()):
                key = (tally.value, tally.source, tally.destination, nbytes)
                before = found.get(key, (0, 0))
                found[key] = (before[0] + count, before[1] + ns)
        return tuple(TransferReport(*key, count, ns / 1e6) for key, (count, ns) in found.items())


class _Tally:
    """Copies of one value on one way, by one request."""

    __slots__ = ("destination", "sizes", "source", "value")

    def __init__(self, value: str, source: str, destination: str) -> None:
        self.value, self.source, self.destination = value, source, destination
        self.sizes: dict[int, tuple[int, int]] = {}
        """Bytes of a copy: how many there were, and their nanoseconds together."""


class Transfer:
    """One value's way into another memory: a copy in each run."""

    __slots__ = ("_memory", "_source", "_tally", "_target", "value")

    def __init__(self, memory: Memory, tally: _Tally) -> None:
        """``memory`` is the one of the two that isn't the host's."""
        self.value = tally.value
        self._memory, self._tally = memory, tally
        self._source: Buffer | None = None
        self._target: Buffer | None = None

    def between(self, source: Buffer, target: Buffer) -> None:
        """What every run copies from now on."""
        self._source, self._target = source, target

    @property
    def target(self) -> Buffer | None:
        """Where every run copies to."""
        return self._target

    def run(self) -> None:
        """Copy, if it is known what and where to."""
        if self._source is not None and self._target is not None:
            self.copy(self._source, self._target)

    def copy(self, source: Buffer, target: Buffer) -> None:
        """Copy this, and count it."""
        start = time.perf_counter_ns()
        self._memory.copy(source, target)
        took = time.perf_counter_ns() - start
        sizes, nbytes = self._tally.sizes, nbytes_of(source)
        count, ns = sizes.get(nbytes, (0, 0))
        sizes[nbytes] = (count + 1, ns + took)


def is_device_buffer(value: Value) -> bool:
    """True for a buffer that isn't plain host memory."""
    return isinstance(value, Buffer) and not isinstance(value, HostBuffer | np.ndarray)
