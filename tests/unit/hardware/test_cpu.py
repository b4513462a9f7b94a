"""Parsing of /proc/cpuinfo and of the sysfs trees of caches and NUMA nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.hardware.cpu import (
    parse_cpuinfo,
    parse_cpulist,
    parse_size,
    read_caches,
    read_numa_nodes,
)
from dioe.hardware.files import FileTree
from dioe.hardware.spec import Cache, NumaNode

X86 = """\
processor\t: 0
model name\t: Some  CPU @ 2.0GHz
flags\t\t: fpu sse4_2 avx2 avx512f avx512_bf16 amx_tile hypervisor
core id\t\t: 0

processor\t: 1
model name\t: Some  CPU @ 2.0GHz
flags\t\t: fpu sse4_2 avx2 avx512f hypervisor
core id\t\t: 1
"""

ARM = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd aes asimdhp asimddp bf16 i8mm sve
CPU implementer\t: 0x41
CPU part\t: 0xd40

processor\t: 1
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd03
"""


def test_x86() -> None:
    info = parse_cpuinfo(X86)
    assert info.name == "Some CPU @ 2.0GHz"
    # avx512_bf16 and AMX are on one core only, and a thread may land on the other
    assert info.vector_extensions == ("avx2", "avx512f", "sse4_2")
    assert info.is_virtual is True
    assert parse_cpuinfo(X86.replace("hypervisor", "")).is_virtual is False


def test_arm() -> None:
    info = parse_cpuinfo(ARM)
    assert info.name == "ARM implementer 0x41 part 0xd03 + ARM implementer 0x41 part 0xd40"
    assert info.vector_extensions == ("asimddp", "asimdhp", "neon")
    assert info.is_virtual is None


def test_arm_with_a_trailing_hardware_line() -> None:
    text = "processor : 0\nFeatures : half neon vfpv4\n\nHardware : BCM2835\nRevision : a02082\n"
    info = parse_cpuinfo(text)
    assert (info.name, info.vector_extensions) == ("BCM2835", ("neon",))


def test_nothing_known() -> None:
    info = parse_cpuinfo("")
    assert (info.name, info.vector_extensions, info.is_virtual) == ("", (), None)


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    parse_cpuinfo(text)
    parse_cpulist(text)
    parse_size(text)


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("0", (0,)),
        ("0-3,8,10-11", (0, 1, 2, 3, 8, 10, 11)),
        ("0-1\n", (0, 1)),
        ("", ()),
        ("none", ()),
        ("3-", ()),
    ],
)
def test_cpulist(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cpulist(text) == cores


@given(st.sets(st.integers(0, 300)))
def test_cpulist_round_trip(cores: set[int]) -> None:
    assert parse_cpulist(",".join(str(core) for core in cores)) == tuple(sorted(cores))


@pytest.mark.parametrize(
    ("text", "size"), [("48K", 49152), ("32M", 32 << 20), ("512", 512), ("", None), ("1T", None)]
)
def test_size(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def _cache(root: Path, core: int, index: int, **files: str) -> None:
    folder = root / f"sys/devices/system/cpu/cpu{core}/cache/index{index}"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


def test_caches(tmp_path: Path) -> None:
    for core in range(4):
        pair = f"{core // 2 * 2}-{core // 2 * 2 + 1}"
        _cache(tmp_path, core, 0, level="1", type="Data", size="48K", shared_cpu_list=pair)
        _cache(tmp_path, core, 1, level="1", type="Instruction", size="32K", shared_cpu_list=pair)
        size = "2048K" if core < 2 else "1024K"
        _cache(tmp_path, core, 2, level="2", type="Unified", size=size, shared_cpu_list=pair)
        _cache(tmp_path, core, 3, level="3", type="Unified", size="32M", shared_cpu_list="0-3")
    files = FileTree(tmp_path)
    assert read_caches(files, range(4)) == (
        Cache(1, "data", 48 << 10, count=2, shared_by=2),
        Cache(2, "unified", 1 << 20, count=1, shared_by=2),
        Cache(2, "unified", 2 << 20, count=1, shared_by=2),
        Cache(3, "unified", 32 << 20, count=1, shared_by=4),
    )
    assert [cache.name for cache in read_caches(files, [3])] == ["L1d", "L2", "L3"]


def test_incomplete_caches_are_left_out(tmp_path: Path) -> None:
    _cache(tmp_path, 0, 0, level="1", type="Data")
    _cache(tmp_path, 0, 1, level="", type="Data", size="32K")
    _cache(tmp_path, 0, 2, level="2", size="256K", type="Unified")
    assert read_caches(FileTree(tmp_path), [0]) == (Cache(2, "unified", 256 << 10),)
    assert read_caches(FileTree(tmp_path), [7]) == ()


def test_numa_nodes(tmp_path: Path) -> None:
    for number, cores in {0: "0-3", 1: "4-7", 10: "8"}.items():
        folder = tmp_path / f"sys/devices/system/node/node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cores)
    files = FileTree(tmp_path)
    assert read_numa_nodes(files, [1, 2, 8]) == (NumaNode(0, (1, 2)), NumaNode(10, (8,)))
    assert read_numa_nodes(FileTree(tmp_path / "missing"), [0]) == ()
