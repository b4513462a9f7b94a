"""The machine DIOE runs on, as a device; and as the ``machine`` object of reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from dioe.hardware import catalogue
from dioe.hardware.cgroups import CgroupLimits, read_limits
from dioe.hardware.cpu import CpuInfo, parse_cpuinfo, read_caches, read_numa_nodes
from dioe.hardware.files import FileTree
from dioe.hardware.spec import DeviceSpec, Pool, fingerprint
from dioe.registry import Placement
from dioe.types import DeviceInfo, DeviceState, KnownAs


@dataclass(frozen=True, slots=True)
class Counts:
    """What the operating system counts: cores (``usable`` by id, from the affinity), memory."""

    usable: tuple[int, ...]
    logical: int
    physical: int | None
    memory_bytes: int


def read_counts() -> Counts:
    """The counts of this process on this machine, by psutil and the scheduler's affinity."""
    logical = psutil.cpu_count(logical=True) or os.cpu_count() or 1
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(logical))
    return Counts(
        usable=tuple(sorted(usable)),
        logical=max(logical, len(usable)),
        physical=psutil.cpu_count(logical=False),
        memory_bytes=psutil.virtual_memory().total,
    )


def discover_host(files: FileTree | None = None, counts: Counts | None = None) -> DeviceSpec:
    """The host as the device ``cpu``, as this process may use it: affinity, quota, memory limit.

    It has the catalogue's figures where its name is known there. Reads anew on each call. ``files``
    and ``counts`` describe another machine, for tests.
    """
    files = files or FileTree()
    counts = counts or read_counts()
    info = parse_cpuinfo(files.text("/proc/cpuinfo") or "")
    limits = read_limits(files)
    found = DeviceSpec(
        id="cpu",
        kind="cpu",
        name=info.name or platform.processor() or platform.machine(),
        known_as=KnownAs.HARDWARE,
        provenance="discovered on the machine",
        architecture=platform.machine(),
        cores=counts.usable,
        capacity=_capacity(counts, limits),
        logical_cores=counts.logical,
        physical_cores=counts.physical,
        memory_bytes=min(counts.memory_bytes, limits.memory_bytes or counts.memory_bytes),
        memory_total_bytes=counts.memory_bytes,
        caches=read_caches(files, counts.usable),
        vector_extensions=info.vector_extensions,
        numa_nodes=read_numa_nodes(files, counts.usable),
        is_virtual=_is_virtual(files, info),
    )
    return _described(found)


def _described(device: DeviceSpec) -> DeviceSpec:
    """The device with the figures that the catalogue has of such devices, if it has any. What only
    simulates a device doesn't have them."""
    if device.known_as is not KnownAs.HARDWARE:
        return device
    known = catalogue.matching(device.name, device.kind, device.vector_extensions)
    return device if known is None else replace(device, device=known.id, figures=known.figures)


def _capacity(counts: Counts, limits: CgroupLimits) -> float:
    usable = float(len(counts.usable))
    return usable if limits.cpus is None else min(usable, limits.cpus)


def _is_virtual(files: FileTree, info: CpuInfo) -> bool | None:
    # /sys/hypervisor/type is there under Xen, and under others that register with the kernel.
    return True if files.text("/sys/hypervisor/type") else info.is_virtual


def with_devices(pool: Pool, placements: Sequence[Placement]) -> Pool:
    """The pool and every present device that backends found and it doesn't name, but for those that
    are modelled: nothing is there. Devices that the catalogue knows have its figures."""
    known = {device.id for device in pool.devices}
    found = [
        _described(_reported(info, placement))
        for placement in placements
        if (info := placement.device).state is DeviceState.PRESENT
        and info.known_as is not KnownAs.MODELLED
        and info.id not in known
    ]
    ids = known | {device.id for device in found}
    return replace(
        pool,
        devices=(
            *pool.devices,
            *(replace(d, shares=d.shares if d.shares in ids else None) for d in found),
        ),
    )


def _reported(info: DeviceInfo, placement: Placement) -> DeviceSpec:
    return DeviceSpec(
        id=info.id,
        kind=info.kind,
        name=info.name,
        known_as=info.known_as,
        provenance=f"reported by {', '.join(sorted(placement.backends))}",
        memory_bytes=info.memory_bytes,
        shares=info.shares,
    )


def host_pool() -> Pool:
    """The pool that holds this machine's CPU and nothing else."""
    return Pool((discover_host(),))


def versions() -> dict[str, str]:
    """Operating system, kernel and Python, for keys and reports; no host name."""
    return {
        "os": _os_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no Linux, or a bare container
        return platform.system()


def other_machine(described: DeviceSpec, found: DeviceSpec) -> str:
    """Why a CPU as it is described can't be the one that was found; empty where it may be.

    By the descriptor that each names, and by the machine's logical cores; names don't tell, since
    virtual machines shorten them.
    """
    reasons = []
    own_file = described.device.endswith((".yaml", ".yml"))
    if described.device and found.device not in ("", described.device) and not own_file:
        reasons.append(f"is described as {described.device}, and here is {found.device}")
    if described.logical_cores and found.logical_cores != described.logical_cores:
        reasons.append(
            f"has {described.logical_cores} logical cores, and here are {found.logical_cores}"
        )
    return "; ".join(reasons)


def machine(pool: Pool) -> dict[str, Any]:
    """The ``machine`` object of reports: the pool's CPU, the system's versions, the fingerprint.

    ``cores`` counts the usable ones; ``capacity`` is in cores, sizes are in bytes.
    """
    cpu = next((device for device in pool.devices if device.kind == "cpu"), pool.devices[0])
    return {
        "name": cpu.name,
        "known_as": str(cpu.known_as),
        "architecture": cpu.architecture,
        "cores": len(cpu.cores),
        "capacity": cpu.capacity,
        "logical_cores": cpu.logical_cores,
        "physical_cores": cpu.physical_cores,
        "memory_bytes": cpu.memory_bytes,
        "caches": [{"name": cache.name, **asdict(cache)} for cache in cpu.caches],
        "vector_extensions": list(cpu.vector_extensions),
        "numa_nodes": len(cpu.numa_nodes),
        "is_virtual": cpu.is_virtual,
        "fingerprint": fingerprint(pool),
        **versions(),
    }
