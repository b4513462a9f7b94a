"""The host as a device: its description, its memory, and what a context on it owns."""

from __future__ import annotations

import platform
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import psutil

from dioe.host_backend.device_memory import buffer_shape, check_alike
from dioe.host_backend.values import aligned_empty
from dioe.types import (
    DONE,
    BackendError,
    Buffer,
    DeviceInfo,
    DeviceState,
    Event,
    HostBuffer,
    InputError,
    Resources,
    Sample,
    TensorSpec,
    UnsupportedError,
)

MAX_THREADS = 4096
"""More than any host has cores; runtimes start what they are told, and fail on the way."""

HOST_UUID = "host-cpu"
"""Backends that run on the host say so, and the registry merges them into one device."""


def host_device(absent_because: str = "") -> DeviceInfo:
    """The host CPU as a device; absent, with the reason, where one is given."""
    return DeviceInfo(
        id="cpu",
        kind="cpu",
        name=_cpu_name(),
        state=DeviceState.ABSENT if absent_because else DeviceState.PRESENT,
        reason=absent_because,
        uuid=HOST_UUID,
        memory_bytes=int(psutil.virtual_memory().total),
    )


def check_host(device: str, place: str) -> None:
    """Raise UnsupportedError unless ``device`` is the host, or a part of its cores."""
    if device != "cpu" and not device.startswith("cpu:"):
        raise UnsupportedError(f"no device {device!r} here", place=place, fix="use cpu")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _all_seconds(times: Any) -> float:
    # Linux counts guest time within user time as well.
    twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - twice)


def check_resources(resources: Resources) -> None:
    """Raise InputError for counts that runtimes would refuse in their own ways, or die of."""

    def check(what: str, value: object, low: int, high: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(
                f"{value!r} is not a number from {low} to {high}", place=f"resources.{what}"
            )

    check("streams", resources.streams, 1, MAX_THREADS)
    if resources.threads is not None:
        check("threads", resources.threads, 1, MAX_THREADS)
    for core in resources.cores or ():
        check("cores", core, 0, MAX_THREADS - 1)
    if resources.memory_limit_bytes is not None:
        check("memory_limit_bytes", resources.memory_limit_bytes, 1, 2**63 - 1)


class Registered(Protocol):
    """Something that a context closes when it is closed itself."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Registered)


class HostContext:
    """Memory, counters and ownership of a context on the host CPU. Thread-safe.

    Raises InputError for resources that can't be.
    """

    def __init__(self, device: str, resources: Resources) -> None:
        check_resources(resources)
        self.device, self.resources = device, resources
        self._owned: weakref.WeakSet[Registered] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        self._times = psutil.cpu_times()

    def own(self, thing: T) -> T:
        """Close ``thing`` with this context, unless it is gone by then."""
        with self._lock:
            self._owned.add(thing)
        return thing

    def check_open(self) -> None:
        """Raise BackendError once the context is closed."""
        if self._closed:
            raise BackendError("the context is closed", place=self.device)

    def alloc(self, spec: TensorSpec) -> Buffer:
        """An uninitialised buffer for a static spec, aligned to 64 bytes."""
        self.check_open()
        return HostBuffer(aligned_empty(buffer_shape(spec), spec.dtype), self.device)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy between host buffers of one dtype and shape; done when this returns."""
        check_alike(src, dst)
        src.ready.wait()
        source, target = src.numpy(), dst.numpy()
        np.copyto(target, source)
        return DONE

    def memory_info(self) -> Mapping[str, int]:
        """Bytes of host memory: total, available, and resident in this process."""
        memory = psutil.virtual_memory()
        return {
            "total_bytes": int(memory.total),
            "available_bytes": int(memory.available),
            "process_bytes": int(psutil.Process().memory_info().rss),
        }

    def utilization(self) -> Sample | None:
        """Busy time of all cores since the last call (or since opening), in percent."""
        now = psutil.cpu_times()
        with self._lock:
            before, self._times = self._times, now
        total = _all_seconds(now) - _all_seconds(before)
        if total <= 0:
            return None
        idle = now.idle - before.idle
        return Sample(max(0.0, 100.0 * (1 - idle / total)), "percent", "psutil.cpu_times")

    def power(self) -> Sample | None:
        """Always None: the host has no counter that one executable's share could be read from."""
        return None

    def close(self) -> None:
        """Close everything compiled in this context. May be called again."""
        with self._lock:
            self._closed = True
            owned = list(self._owned)
            self._owned.clear()
        for thing in owned:
            thing.close()
