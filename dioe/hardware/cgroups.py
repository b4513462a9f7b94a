"""CPU quota and memory limit of this process's control groups, version 1 and 2.

A limit anywhere between a process's group and the root of the hierarchy holds, so the smallest one
on that way counts. Sources: the kernel's ``Documentation/admin-guide/cgroup-v2.rst``,
``cgroup-v1/memory.rst`` and ``scheduler/sched-bwc.rst``; ``proc_pid_mountinfo(5)``,
``cgroups(7)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from dioe.hardware.files import FileTree

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """Limits of this process; None where there is none. ``cpus`` is CPU time in cores."""

    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted cgroup hierarchy: which part of it (``root``) is seen at ``point``.

    ``controllers`` is empty for version 2.
    """

    root: str
    point: str
    version: int
    controllers: frozenset[str]


def parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """The cgroup hierarchies in the text of ``/proc/self/mountinfo``."""
    mounts = []
    for line in mountinfo.splitlines():
        # id parent major:minor root point options [optional …] - type source super-options
        before, dash, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not dash or len(left) < 5 or len(right) < 3 or right[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if right[0] == "cgroup2" else 1
        controllers = frozenset(right[2].split(",")) if version == 1 else frozenset[str]()
        mounts.append(Mount(_unescaped(left[3]), _unescaped(left[4]), version, controllers))
    return tuple(mounts)


def parse_groups(cgroup: str) -> tuple[tuple[frozenset[str], str], ...]:
    """Controllers (none for version 2) and path of each line of ``/proc/self/cgroup``."""
    groups = []
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            groups.append((frozenset(filter(None, parts[1].split(","))), parts[2]))
    return tuple(groups)


def parse_cpu_max(text: str) -> float | None:
    """Cores that version 2's ``cpu.max`` allows: ``150000 100000`` is 1.5, ``max`` is None."""
    quota, _, period = text.partition(" ")
    return _ratio(quota, period or "100000")


def parse_bytes(text: str) -> int | None:
    """A limit of ``memory.max`` or ``memory.limit_in_bytes``; None for ``max``."""
    return int(text) if text.isdecimal() else None


def read_limits(files: FileTree) -> CgroupLimits:
    """The limits that hold for this process; none where cgroups aren't mounted."""
    mounts = parse_mounts(files.text("/proc/self/mountinfo") or "")
    groups = parse_groups(files.text("/proc/self/cgroup") or "")

    def cpus(folder: str, version: int) -> float | None:
        if version == 2:
            return parse_cpu_max(files.text(f"{folder}/cpu.max") or "")
        quota = files.text(f"{folder}/cpu.cfs_quota_us") or ""  # -1: no quota
        return _ratio(quota, files.text(f"{folder}/cpu.cfs_period_us") or "")

    def memory(folder: str, version: int) -> int | None:
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        return parse_bytes(files.text(f"{folder}/{name}") or "")

    return CgroupLimits(
        cpus=_smallest(mounts, groups, "cpu", cpus),
        memory_bytes=_smallest(mounts, groups, "memory", memory),
    )


def _smallest(
    mounts: tuple[Mount, ...],
    groups: tuple[tuple[frozenset[str], str], ...],
    controller: str,
    read: Callable[[str, int], _Number | None],
) -> _Number | None:
    values = [
        read(folder, mount.version)
        for mount in mounts
        for controllers, group in groups
        if _belongs(mount, controllers, controller)
        for folder in _ancestors(mount, group)
    ]
    return min((value for value in values if value is not None), default=None)


def _belongs(mount: Mount, controllers: frozenset[str], controller: str) -> bool:
    if mount.version == 2:
        return not controllers  # the one line without controllers; files tell which are enabled
    return controller in mount.controllers and controller in controllers


def _ancestors(mount: Mount, group: str) -> Iterator[str]:
    """Folders from the group up to the mount point.

    Inside a container the mount shows only a part of the hierarchy: paths are relative to that
    part's root. A group outside it (``/../x``) leaves the mount point itself.
    """
    try:
        inside = PurePosixPath(group).relative_to(mount.root)
    except ValueError:
        inside = PurePosixPath()
    if ".." in inside.parts:
        inside = PurePosixPath()
    folder = PurePosixPath(mount.point) / inside
    while True:
        yield str(folder)
        if str(folder) == str(PurePosixPath(mount.point)):
            return
        folder = folder.parent


def _ratio(quota: str, period: str) -> float | None:
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _unescaped(text: str) -> str:
    """Mount paths write white space and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
