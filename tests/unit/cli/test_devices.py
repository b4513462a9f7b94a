"""``dioe devices``."""

from __future__ import annotations

from pathlib import Path

import pytest

import dioe as dioe_package
from dioe.hardware import catalogue, with_devices
from dioe.types import BackendError, DeviceInfo, KnownAs
from dioe_null import NullBackend
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
    assert set(found) == {"machine", "pool", "devices", "backends"}
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


POOLS = catalogue.names(catalogue.POOLS)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("arguments", [[], ["--catalogue"], *(["--hardware", p] for p in POOLS)])
def test_the_tables_fit(
    dioe: Dioe, monkeypatch: pytest.MonkeyPatch, columns: int, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = dioe("devices", *arguments)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= columns


def test_a_pool_of_the_catalogue(dioe: Dioe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = dioe("devices", "--hardware", "server-a100").out.splitlines()
    assert lines[0].strip() == "The pool: Server with two A100 SXM"
    (gpu,) = (line for line in lines if line.startswith(" gpu:1 "))
    for text in ("80.0 GiB", " 2039 ", "fp32\u00a019.5 fp16\u00a0312", " 400 ", "modelled"):
        assert text in gpu
    (link,) = (line for line in lines if line.startswith(" gpu:0 <-> gpu:1"))
    assert link.split()[3:] == ["NVLink", "3", "300", "-", "-"]
    assert any(line.startswith("bus slot-0, PCIe 4.0 x16: 31.5 GB/s") for line in lines)
    jetson = dioe("devices", "--hardware", "jetson-agx-orin").out
    assert "limits: 30 W together" in jetson
    assert "of cpu" in jetson


def test_what_a_pool_says_beside_its_devices(dioe: Dioe, tmp_path: Path) -> None:
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        """format: dioe-pool
version: 1
devices: [{id: cpu}, {id: 'gpu:0'}]
links:
- source: cpu
  destination: gpu:0
  bandwidth: {value: 12 GB/s, kind: derived, source: a test's own}
  latency: {value: 10 us, kind: derived, source: a test's own}
pins: {'type:Conv': 'gpu:0'}
limits: {memory: {'gpu:0': 8 GiB}, forbid: {'*': [int8], cpu: [bf16]}, max_stages: 3}
""",
        encoding="utf-8",
    )
    shown = dioe("devices", "--hardware", pool).out
    assert "cpu -> gpu:0" in shown
    assert "10 µs" in shown
    assert (
        "limits: gpu:0 8.0 GiB; no device in int8; cpu not in bf16; at most 3 stages"
        in " ".join(shown.split())
    )
    assert "pin: type:Conv on gpu:0" in shown
    found = dioe("devices", "--hardware", pool, "--json").json["pool"]
    assert found["links"][0]["latency_s"] == pytest.approx(1e-5)
    assert [device["id"] for device in found["devices"]] == ["cpu", "gpu:0"]


def test_measured_figures_are_marked(dioe: Dioe, tmp_path: Path) -> None:
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        """format: dioe-pool
version: 1
devices:
- id: gpu:0
  device: l4
  figures:
    peaks: [{precision: fp16, value: 61 TFLOPS, kind: measured, source: a test's own}]
""",
        encoding="utf-8",
    )
    shown = dioe("devices", "--hardware", pool).out
    assert "fp16\u00a061* " in shown
    assert "bf16\u00a0121\n" in shown or "bf16\u00a0121 " in shown
    assert "\n* measured\n" in shown


def test_the_catalogue(dioe: Dioe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = dioe("devices", "--catalogue").out
    for name in (*catalogue.names(), *POOLS):
        assert f"\n {name} " in shown
    found = dioe("devices", "--catalogue", "--json").json
    (a100,) = (device for device in found["devices"] if device["id"] == "a100-sxm-80g")
    assert a100["peaks"]["int8"] == 624e12
    assert a100["memory_bytes"] == 80 * 2**30
    assert set(found["pools"]) == set(POOLS)
    assert found["broken"] == []


def test_a_damaged_file_of_the_catalogue_is_told(
    dioe: Dioe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for section in (catalogue.DEVICES, catalogue.POOLS):
        (tmp_path / section).mkdir()
        (tmp_path / section / "damaged.yaml").write_text("format: [", encoding="utf-8")
    monkeypatch.setattr(catalogue, "folder", lambda section="": tmp_path / section)
    monkeypatch.setenv("COLUMNS", "1000")
    shown = dioe("devices", "--catalogue")
    assert shown.code == 0
    assert shown.out.count("damaged.yaml") == 2
    assert len(dioe("devices", "--catalogue", "--json").json["broken"]) == 2


def test_the_machine_is_written_and_read_back(dioe: Dioe, tmp_path: Path) -> None:
    pool = tmp_path / "pool.yaml"
    assert dioe("devices", "--write", pool).code == 0
    assert dioe_package.load_pool(pool) == dioe_package.host_pool()
    again = dioe("devices", "--hardware", pool)
    assert again.code == 0
    assert "The pool" in again.out
    here = dioe("devices", "--json").json["machine"]["fingerprint"]
    assert dioe("devices", "--hardware", pool, "--json").json["machine"]["fingerprint"] == here


def test_devices_of_all_backends_are_written_but_modelled_ones(
    dioe: Dioe, tmp_path: Path, use_backends: UseBackends
) -> None:
    runtime = use_backends(Simulated("acme"), NullBackend())
    path = tmp_path / "pool.yaml"
    assert dioe("devices", "--write", path).code == 0
    pool = dioe_package.load_pool(path)
    assert pool == with_devices(dioe_package.host_pool(), runtime.registry.placements)
    assert {d.id: d.known_as for d in pool.devices} == {"cpu": "hardware", "npu:0": "simulated"}
    here = dioe("devices", "--json").json["machine"]["fingerprint"]
    assert dioe("devices", "--hardware", path, "--json").json["machine"]["fingerprint"] == here


def test_a_place_that_cant_be_written_is_19(dioe: Dioe, tmp_path: Path) -> None:
    is_told(dioe("devices", "--write", tmp_path), 19, tmp_path)
    is_told(dioe("devices", "--write", tmp_path / "no" / "pool.yaml"), 19, "pool.yaml")


def test_the_catalogue_is_not_written(dioe: Dioe, tmp_path: Path) -> None:
    shown = dioe("devices", "--catalogue", "--write", str(tmp_path / "pool.yaml"))
    assert shown.code == 11
    assert "--write writes a pool of this machine" in shown.err
    assert not (tmp_path / "pool.yaml").exists()
