"""``dioe devices``."""

from __future__ import annotations

from pathlib import Path

import pytest

import dioe as dioe_package
from dioe.types import BackendError, DeviceInfo, KnownAs
from tests.toys.backend import ToyBackend
from tests.unit.cli.conftest import Dioe, UseBackends, is_told


def test_devices_and_backends_are_listed(dioe: Dioe) -> None:
    shown = dioe("devices")
    assert shown.code == 0
    assert shown.err == ""
    for text in ("This machine", "cpu", "onnxruntime", "openvino", "reference", "ready"):
        assert text in shown.out


def test_json(dioe: Dioe) -> None:
    found = dioe("devices", "--json").json
    assert set(found) == {"machine", "devices", "backends"}
    assert found["machine"]["capacity"] > 0
    (cpu,) = (device for device in found["devices"] if device["known_as"] == "hardware")
    assert cpu["id"] == "cpu"
    assert cpu["backends"][:4] == ["onnxruntime", "openvino", "reference", "torch"]
    modelled = [device for device in found["devices"] if device["known_as"] == "modelled"]
    assert all(device["backends"] == ["null"] for device in modelled)
    absent = [device for device in found["devices"] if device["state"] != "present"]
    assert all(device["reason"] and not device["backends"] for device in absent)
    states = {backend["name"]: backend["state"] for backend in found["backends"]}
    builtin = ("null", "onnxruntime", "openvino", "reference", "torch")
    assert {name: states.pop(name) for name in builtin} == dict.fromkeys(builtin, "ready")
    states.pop("torch.inductor")  # there is a C++ compiler, or there is none
    assert set(states.values()) <= {"absent"}  # providers and devices that this machine lacks
    assert all(b["version"] for b in found["backends"] if b["state"] == "ready")


class Broken(ToyBackend):
    def probe(self) -> list[DeviceInfo]:
        raise BackendError("no [driver] here")


def test_a_broken_plugin_has_a_state_and_a_reason(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Broken("acme"))
    shown = dioe("devices")
    assert shown.code == 0
    assert "acme" in shown.out
    assert "failed" in shown.out
    assert "\nacme is failed: " in shown.out  # below the table
    assert "no [driver] here" in " ".join(shown.out.split())
    (status,) = [b for b in dioe("devices", "--json").json["backends"] if b["name"] == "acme"]
    assert status["state"] == "failed"
    assert "no [driver] here" in status["reason"]


class Simulated(ToyBackend):
    def probe(self) -> list[DeviceInfo]:
        return [DeviceInfo("npu:0", "npu", known_as=KnownAs.SIMULATED)]


def test_a_device_that_isnt_the_real_thing_says_so(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Simulated("acme"))
    lines = dioe("devices").out.splitlines()
    assert any("acme" in line and "npu:0 (simulated)" in line for line in lines)
    assert any("onnxruntime" in line and " cpu " in line for line in lines)


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits(dioe: Dioe, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, dioe("devices").out.splitlines())) <= columns


def test_the_machine_is_written_and_read_back(dioe: Dioe, tmp_path: Path) -> None:
    pool = tmp_path / "pool.yaml"
    assert dioe("devices", "--write", pool).code == 0
    assert dioe_package.load_pool(pool) == dioe_package.host_pool()
    again = dioe("devices", "--hardware", pool)
    assert again.code == 0
    assert "The pool" in again.out
    here = dioe("devices", "--json").json["machine"]["fingerprint"]
    assert dioe("devices", "--hardware", pool, "--json").json["machine"]["fingerprint"] == here


def test_a_place_that_cant_be_written_is_19(dioe: Dioe, tmp_path: Path) -> None:
    is_told(dioe("devices", "--write", tmp_path), 19, tmp_path)
    is_told(dioe("devices", "--write", tmp_path / "no" / "pool.yaml"), 19, "pool.yaml")
