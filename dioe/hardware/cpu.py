"""What ``/proc/cpuinfo`` and ``/sys/devices/system`` say about a CPU (Linux; empty elsewhere)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dioe.hardware.files import FileTree
from dioe.hardware.spec import Cache, NumaNode

# Names as in /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c). The
# AVX-512 family is kept whole: virtual machines hide model names, and it tells generations apart.
_X86 = re.compile(r"sse4_[12]|fma|f16c|avx|avx2|avx_\w+|avx512\w+|avx10\w*|amx_\w+")
_ARM = re.compile(r"asimd|asimdhp|asimddp|i8mm|bf16|sve|sve2|svebf16|svei8mm|sme|sme2")
_ARM_NAMES = {"asimd": "neon", "neon": "neon"}  # 64-bit ARM calls NEON "asimd", 32-bit ARM "neon"

_SIZE = re.compile(r"(\d+)([KMG]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """The text of ``/proc/cpuinfo``, understood. ``is_virtual`` is None where it doesn't say."""

    name: str = ""
    vector_extensions: tuple[str, ...] = ()
    is_virtual: bool | None = None


def parse_cpuinfo(text: str) -> CpuInfo:
    """Name and features of the CPU; of features that only some cores have, none."""
    processors = [_fields(paragraph) for paragraph in re.split(r"\n\s*\n", text)]
    flags = [
        set((p.get("flags") or p.get("features") or "").split())
        for p in processors
        if "processor" in p
    ]
    common = set.intersection(*flags) if flags else set[str]()
    on_x86 = any("flags" in p for p in processors)
    return CpuInfo(
        name=_name(processors),
        vector_extensions=tuple(sorted(_vector_extensions(common))),
        is_virtual=("hypervisor" in common) if on_x86 else None,
    )


def _fields(paragraph: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in paragraph.splitlines())
    return {key.strip().lower(): value.strip() for key, colon, value in pairs if colon}


def _name(processors: Sequence[Mapping[str, str]]) -> str:
    for key in ("model name", "cpu model", "hardware", "uarch"):  # x86, MIPS, older ARM, RISC-V
        for fields in processors:
            if fields.get(key):
                return " ".join(fields[key].split())
    parts = {
        f"ARM implementer {p['cpu implementer']} part {p['cpu part']}"
        for p in processors
        if "cpu implementer" in p and "cpu part" in p
    }
    return " + ".join(sorted(parts))


def _vector_extensions(flags: Collection[str]) -> set[str]:
    found = {flag for flag in flags if _X86.fullmatch(flag) or _ARM.fullmatch(flag)}
    return found - set(_ARM_NAMES) | {_ARM_NAMES[flag] for flag in flags if flag in _ARM_NAMES}


def parse_cpulist(text: str) -> tuple[int, ...]:
    """Core ids of a kernel list such as ``0-3,8``; empty for what is none."""
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            return ()
        first = int(match[1])
        cores.update(range(first, int(match[2] or first) + 1))
    return tuple(sorted(cores))


def parse_size(text: str) -> int | None:
    """Bytes of a size such as ``1024K``."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _UNITS[match[2]] if match else None


def read_caches(files: FileTree, cores: Collection[int]) -> tuple[Cache, ...]:
    """Data and unified caches that the given cores use, by level.

    Caches of one level that differ in size (performance and efficiency cores) are listed apart.
    """
    instances: dict[tuple[int, str, int, int], set[str]] = defaultdict(set)
    for core in sorted(cores):
        folder = f"/sys/devices/system/cpu/cpu{core}/cache"
        for _, cache in files.numbered(folder, "index"):
            level, size = (
                files.text(f"{cache}/level"),
                parse_size(files.text(f"{cache}/size") or ""),
            )
            kind = (files.text(f"{cache}/type") or "").lower()
            if level is None or not level.isdecimal() or not size or kind == "instruction":
                continue
            shared = files.text(f"{cache}/shared_cpu_list") or str(core)
            count = max(1, len(parse_cpulist(shared)))
            instances[int(level), kind, size, count].add(shared)
    return tuple(
        Cache(level, kind, size, count=len(found), shared_by=shared_by)
        for (level, kind, size, shared_by), found in sorted(instances.items())
    )


def read_numa_nodes(files: FileTree, cores: Collection[int]) -> tuple[NumaNode, ...]:
    """NUMA nodes that have any of the given cores."""
    nodes = []
    for number, folder in files.numbered("/sys/devices/system/node", "node"):
        near = set(parse_cpulist(files.text(f"{folder}/cpulist") or "")) & set(cores)
        if near:
            nodes.append(NumaNode(number, tuple(sorted(near))))
    return tuple(nodes)
