"""A user's own modelled devices: what a file may say, what is wrong in one, and who it hurts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dioe.registry import PluginState, Registry
from dioe.types import ConfigError, KnownAs, Precision
from dioe_null import DeviceModel, NullBackend, backends, read_devices
from dioe_null.device_file import VARIABLE

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "null_devices.yaml"

FILE = """\
format: dioe-null-devices
version: 1
devices:
  - id: npu:0
    name: small
    peak_tflops: {fp32: 1, fp16: 4.5}
    memory_bytes: 1_000_000
    memory_gbps: 10
    source: assumed
    link: {bandwidth_gbps: 2, latency_us: 30, source: measured}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "devices.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_fields_are_those_of_a_description(tmp_path: Path) -> None:
    (device,) = read_devices(written(tmp_path, FILE))
    assert (device.id, device.name, device.memory_bytes) == ("npu:0", "small", 1_000_000)
    assert device.peak_tflops == {Precision.FP32: 1, Precision.FP16: 4.5}
    assert (device.link.bandwidth_gbps, device.link.latency_us) == (2, 30)
    assert (device.source, device.link.source) == ("assumed", "measured")
    assert device == DeviceModel("npu:0", "small", device.peak_tflops, 10**6, 10, device.link,
                                 source="assumed")  # fmt: skip
    headless = FILE.partition("version: 1\n")[2]
    assert read_devices(written(tmp_path, headless)) == [device]


@pytest.mark.parametrize(
    ("old", "new", "place", "match"),
    [
        ("memory_gbps", "memory_gpbs", ":8:5", r"'memory_gpbs'\n  did you mean 'memory_gbps'"),
        ("bandwidth_gbps", "bandwith_gbps", ":10:12", "did you mean 'bandwidth_gbps'"),
        ("devices:", "device:", ":3:1", "did you mean 'devices'"),
        ("fp16: 4.5", "fp61: 4.5", ":6:28", "did you mean 'fp16'"),
        ("fp16: 4.5", "fp16: fast", ":6:28", "fp16 is 'fast'"),
        ("1_000_000", "1e6", ":7:5", "memory_bytes is '1e6'"),
        ("1_000_000", "1.0e+6", ":7:5", "whole number"),
        ("memory_gbps: 10", "memory_gbps: 1e1", ":8:5", "write it as 10.0"),
        ("memory_gbps: 10", "memory_gbps: .inf", ":8:5", "memory_gbps is inf"),
        ("latency_us: 30", "latency_us: -1", ":10:31", "give 0 or more"),
        ("npu:0", "npu", ":4:5", "npu:0"),
        ("npu:0", "'cpu:1'", ":4:5", "no id of a modelled device"),
        ("name: small", "name: 3", ":5:5", "name is 3"),
        ("    name: small\n", "", ":4:5", "'name' is missing"),
        ("    source: assumed\n", "", ":4:5", "no source"),
        ("source: measured", "source: ''", ":10:47", "no source"),
        ("link: {", "link: 3 #", ":10:5", "link is 3"),
        ("version: 1", "version: 2", ":2:1", "version is 2"),
        ("dioe-null-devices", "dioe-pool", ":1:1", "this DIOE reads 'dioe-null-devices'"),
        (FILE, FILE + FILE.partition("devices:\n")[2], ":11:5", "second device has the id 'npu:0'"),
        (FILE, "devices: [1]", ":1:11", "a device is 1"),
        (FILE, "devices: []", ":1:1", "there are no devices"),
        (FILE, "version: 1", ":1:1", "there are no devices"),
        (FILE, "- id: npu:0", ":1:1", "a list, not a mapping"),
        ("name: small", "name: [", ":7:5", "not YAML"),
        ("name: small", "name: !!python/name:os.system x", ":5:11", "tag"),
        ("name: small", "id: npu:1", ":5:5", "written twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, place: str, match: str
) -> None:
    assert old in FILE
    path = written(tmp_path, FILE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=match) as caught:
        read_devices(path)
    assert caught.value.place == f"{path}{place}"
    assert caught.value.fix


def test_a_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert [d.id for d in _null().probe()] == ["npu:0", "gpu:0"]
    default = _null().version
    monkeypatch.setenv(VARIABLE, "")
    assert _null().version == default
    monkeypatch.setenv(VARIABLE, str(written(tmp_path, FILE)))
    (device,) = _null().probe()
    assert (device.id, device.name, device.known_as) == ("npu:0", "small", KnownAs.MODELLED)
    assert _null().version != default
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match=f"{VARIABLE}=.*none.yaml: no such file"):
        backends()


def _null() -> NullBackend:
    (backend,) = backends()
    assert isinstance(backend, NullBackend)
    return backend


def test_a_broken_file_fails_this_backend_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, FILE.replace("memory_gbps", "memory_gpbs"))
    monkeypatch.setenv(VARIABLE, str(path))
    registry = Registry()
    states = {status.name: status for status in registry.statuses}
    assert states["null"].state is PluginState.FAILED
    assert states["null"].reason == (
        f"{path}:8:5: unknown key 'memory_gpbs'; did you mean 'memory_gbps'?"
    )
    assert states["onnxruntime"].state is PluginState.READY
    with pytest.raises(ConfigError, match="memory_gpbs"):
        registry.backend("null")


def test_the_example_describes_a_pool() -> None:
    devices = read_devices(EXAMPLE)
    assert [device.id for device in devices] == ["gpu:0", "npu:0"]
    for device in devices:
        assert device.source
        assert device.link.source
        peaks = device.peak_tflops
        assert peaks[Precision.FP32] < peaks[Precision.FP16] < peaks[Precision.INT8]
    json.dumps([dict(info.details) for info in NullBackend(devices).probe()])
