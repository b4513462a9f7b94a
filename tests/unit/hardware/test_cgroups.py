"""Quotas and memory limits of control groups, over trees of files as kernels show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.hardware.cgroups import (
    CgroupLimits,
    Mount,
    parse_cpu_max,
    parse_groups,
    parse_mounts,
    read_limits,
)
from dioe.hardware.files import FileTree

V2_MOUNT = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def _tree(root: Path, files: dict[str, str]) -> FileTree:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return FileTree(root)


def test_version_2_takes_the_smallest_on_the_way_to_the_root(tmp_path: Path) -> None:
    files = _tree(
        tmp_path,
        {
            "/proc/self/mountinfo": V2_MOUNT.format(root="/"),
            "/proc/self/cgroup": "0::/user.slice/app.scope\n",
            "/sys/fs/cgroup/user.slice/app.scope/cpu.max": "max 100000\n",
            "/sys/fs/cgroup/user.slice/app.scope/memory.max": "8589934592\n",
            "/sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
            "/sys/fs/cgroup/user.slice/memory.max": "4294967296\n",
        },
    )
    assert read_limits(files) == CgroupLimits(cpus=1.5, memory_bytes=4 << 30)


def test_version_2_in_a_container(tmp_path: Path) -> None:
    """With a cgroup namespace the group is /, and the limit lies at the mount point."""
    files = _tree(
        tmp_path,
        {
            "/proc/self/mountinfo": V2_MOUNT.format(root="/"),
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/cpu.max": "50000 100000\n",
            "/sys/fs/cgroup/memory.max": "max\n",
        },
    )
    assert read_limits(files) == CgroupLimits(cpus=0.5, memory_bytes=None)


@pytest.mark.parametrize("group", ["/docker/abc", "/docker/abc/../other", "/../x", "/elsewhere"])
def test_version_1_in_a_container(tmp_path: Path, group: str) -> None:
    """Without a namespace the mount shows only the container's part of the hierarchy."""
    files = _tree(
        tmp_path,
        {
            "/proc/self/mountinfo": V1_MOUNTS.format(root="/docker/abc"),
            "/proc/self/cgroup": f"4:memory:{group}\n3:cpu,cpuacct:{group}\n0::/\n",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
        },
    )
    assert read_limits(files) == CgroupLimits(cpus=2.5, memory_bytes=1 << 30)


def test_version_1_without_limits(tmp_path: Path) -> None:
    files = _tree(
        tmp_path,
        {
            "/proc/self/mountinfo": V1_MOUNTS.format(root="/"),
            "/proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n",
            "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
            "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read_limits(files) == CgroupLimits()


def test_without_cgroups(tmp_path: Path) -> None:
    assert read_limits(FileTree(tmp_path)) == CgroupLimits()


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", None),
        ("200000 100000", 2.0),
        ("200000", 2.0),
        ("0 100000", None),
        ("100000 0", None),
        ("", None),
        ("junk", None),
    ],
)
def test_cpu_max(text: str, cpus: float | None) -> None:
    assert parse_cpu_max(text) == cpus


def test_mounts_with_white_space_and_other_file_systems() -> None:
    text = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "31 23 0:28 / /mnt/c\\040groups rw - cgroup2 cgroup2 rw\n"
        "broken line\n"
    )
    assert parse_mounts(text) == (Mount("/", "/mnt/c groups", 2, frozenset()),)


def test_groups_may_hold_colons() -> None:
    assert parse_groups("3:cpu,cpuacct:/a:b\n0::/x\nbroken\n") == (
        (frozenset({"cpu", "cpuacct"}), "/a:b"),
        (frozenset(), "/x"),
    )
