"""The host as a device, over described machines and the real one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dioe.hardware import discover_host, fingerprint, host_pool, machine, versions
from dioe.hardware.files import FileTree
from dioe.hardware.host import Counts, other_machine
from dioe.hardware.spec import DeviceSpec
from dioe.types import KnownAs

COUNTS = Counts(usable=(2, 3, 6), logical=8, physical=4, memory_bytes=16 << 30)


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def quota(tmp_path: Path) -> FileTree:
    """A container with half a core more than two, and 4 GiB."""
    _write(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name : A CPU\nflags : avx2 fma\n")
    _write(tmp_path, "proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    _write(tmp_path, "proc/self/cgroup", "0::/\n")
    _write(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000\n")
    _write(tmp_path, "sys/fs/cgroup/memory.max", str(4 << 30))
    return FileTree(tmp_path)


def test_quota_and_memory_limit(quota: FileTree) -> None:
    device = discover_host(quota, COUNTS)
    assert (device.id, device.kind, device.name) == ("cpu", "cpu", "A CPU")
    assert device.known_as is KnownAs.HARDWARE
    assert device.cores == (2, 3, 6)
    assert device.capacity == 2.5
    assert (device.logical_cores, device.physical_cores) == (8, 4)
    assert (device.memory_bytes, device.memory_total_bytes) == (4 << 30, 16 << 30)
    assert device.vector_extensions == ("avx2", "fma")
    assert device.is_virtual is False
    assert device.limited


def test_affinity_below_the_quota(quota: FileTree) -> None:
    one = Counts(usable=(5,), logical=8, physical=4, memory_bytes=2 << 30)
    device = discover_host(quota, one)
    assert (device.capacity, device.memory_bytes) == (1.0, 2 << 30)


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    device = discover_host(FileTree(tmp_path), COUNTS)
    assert device.capacity == 3.0
    assert device.memory_bytes == 16 << 30
    assert (device.caches, device.numa_nodes, device.vector_extensions) == ((), (), ())
    assert device.is_virtual is None
    assert device.name


def test_xen_is_virtual(quota: FileTree) -> None:
    _write(quota.root, "sys/hypervisor/type", "xen\n")
    assert discover_host(quota, COUNTS).is_virtual is True


def test_this_machine() -> None:
    device = discover_host()
    assert device == discover_host()
    assert device.capacity is not None
    assert 0 < device.capacity <= len(device.cores) <= (device.logical_cores or 0)
    assert device.memory_bytes is not None
    assert 0 < device.memory_bytes <= (device.memory_total_bytes or 0)
    if hasattr(os, "sched_getaffinity"):
        assert set(device.cores) == os.sched_getaffinity(0)


def test_machine_object() -> None:
    pool = host_pool()
    report = machine(pool)
    assert json.loads(json.dumps(report)) == report
    assert report["cores"] == len(pool.devices[0].cores)
    assert report["fingerprint"] == fingerprint(pool)
    assert report.items() >= versions().items()
    assert {"name", "capacity", "memory_bytes", "caches", "vector_extensions"} <= set(report)
    assert {"os", "kernel", "python"} == set(versions())


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        (DeviceSpec("cpu"), ""),
        (DeviceSpec("cpu", device="epyc-9755", capacity=1.0), ""),
        (DeviceSpec("cpu", device="./mine.yaml", logical_cores=2), ""),
        (DeviceSpec("cpu", device="epyc-9654"), "is described as epyc-9654, and here is epyc-9755"),
        (DeviceSpec("cpu", logical_cores=192), "has 192 logical cores, and here are 2"),
    ],
)
def test_whether_a_cpu_is_another_one(described: DeviceSpec, reason: str) -> None:
    assert (
        other_machine(described, DeviceSpec("cpu", device="epyc-9755", logical_cores=2)) == reason
    )
    assert other_machine(described, DeviceSpec("cpu", logical_cores=described.logical_cores)) == ""
