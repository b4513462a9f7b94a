"""The driver's counters, read from a stand-in of its library that a C compiler makes here.

The header of the stand-in is written from Cambricon's published ``cndev.h``, apart from the ctypes
structures, so that each is a check of the other.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from dioe_cambricon.worker import cndev

SOURCE = r"""
#include <stdint.h>
#include <string.h>
typedef struct { int32_t version; uint32_t number; } CardInfo;
typedef struct { int32_t version; uint8_t uuid[37]; uint64_t ncs; } Uuid;
typedef struct { int64_t total, used, reserved, vtotal, vused; uint64_t global, rest[16]; } Memory;
typedef struct { int32_t usage, cap, machine, tdp, max_power, rest[16]; } Power;
typedef struct { int32_t version, average, core[80]; } Load;

int cndevInit(int reserved) { return reserved; }
int cndevGetDeviceCount(CardInfo *i) { if (i->version != 5) return 3; i->number = 2; return 0; }
int cndevGetDeviceHandleByIndex(int index, int32_t *handle) { *handle = 40 + index; return 0; }
const char *cndevGetCardNameStringByDevId(int handle) { return handle == 41 ? "MLU370-X8" : 0; }
int cndevGetUUID(Uuid *u, int handle) {
  if (u->version != 5) return 3;
  strcpy((char *)u->uuid, handle == 41 ? "b-1" : "a-0"); return 0;
}
int cndevGetMemoryUsageV2(Memory *m, int handle) {
  m->total = 24000; m->used = handle; m->rest[15] = 7; return 0;
}
int cndevGetDevicePowerInfo(Power *p, int handle) {
  if (handle == 40) return 10;
  p->usage = 63; p->rest[15] = 7; return 0;
}
int cndevGetDeviceUtilizationInfo(Load *l, int handle) {
  if (l->version > 6) return 3;
  l->average = handle == 41 ? 57 : 400; l->core[79] = 1; return 0;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make a stand-in of libcndev.so with")
    folder = tmp_path_factory.mktemp("neuware")
    (folder / "lib64").mkdir()
    (folder / "cndev.c").write_text(SOURCE)
    made = folder / "lib64" / "libcndev.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(made), str(folder / "cndev.c")]
    subprocess.run(command, check=True)
    return made


@pytest.fixture
def cards(library: Path, monkeypatch: pytest.MonkeyPatch) -> cndev.Cndev:
    monkeypatch.setenv("NEUWARE_HOME", str(library.parents[1]))
    for name in cndev.VISIBLE:
        monkeypatch.delenv(name, raising=False)
    found = cndev.load()
    assert found is not None
    return found


def test_what_is_read(cards: cndev.Cndev) -> None:
    assert cards.name(1) == "MLU370-X8"
    assert cards.uuid(1) == "MLU-b-1"
    assert cards.memory(1) == {"total_bytes": 24000 << 20, "available_bytes": (24000 - 41) << 20}
    power, load = cards.power(1), cards.utilization(1)
    assert power == {"value": 63.0, "unit": "W", "source": "cndevGetDevicePowerInfo"}
    assert load is not None
    assert (load["value"], load["unit"]) == (57.0, "percent")


def test_what_cannot_be_read_is_none_and_never_zero(cards: cndev.Cndev) -> None:
    assert cards.name(0) is None
    assert cards.power(0) is None
    assert cards.utilization(0) is None  # 400 percent
    assert cards.power(2) is None


def test_renumbered_cards(cards: cndev.Cndev, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLU_VISIBLE_DEVICES", "1")
    found = cndev.load()
    assert found is not None
    assert found.uuid(0) == "MLU-b-1"
    monkeypatch.setenv("CN_VISIBLE_DEVICES", "0,1")  # goes first
    found = cndev.load()
    assert found is not None
    assert found.uuid(0) == "MLU-a-0"
    monkeypatch.setenv("CN_VISIBLE_DEVICES", "MLU-b-1")
    found = cndev.load()
    assert found is not None
    assert found.uuid(0) is None


def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEUWARE_HOME", str(tmp_path))
    assert cndev.load() is None


def test_sizes_are_those_of_the_header() -> None:
    kinds = (
        (cndev.CardInfo, 8), (cndev.Uuid, 56), (cndev.MemoryInfo, 176), (cndev.PowerInfo, 84),
        (cndev.UtilizationInfo, 328),
    )  # fmt: skip
    for kind, size in kinds:
        assert ctypes.sizeof(kind) == size, kind.__name__
