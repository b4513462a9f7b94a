"""What a backend says of itself and of its devices."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from dioe.testing.models import relu
from dioe.testing.subject import Subject
from dioe.types import (
    ABI_VERSION,
    Capabilities,
    DeviceInfo,
    DeviceState,
    KnownAs,
    Precision,
    Resources,
    UnsupportedError,
)

RUNTIMES = ("onnx", "onnxruntime", "openvino", "tensorrt", "torch", "tensorflow", "jax", "cupy")


def test_a_backend_says_who_it_is(subject: Subject) -> None:
    """Name, contract version and the version of the runtime are texts that reports can print."""
    backend = subject.backend
    assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", backend.name)
    assert backend.abi_version == ABI_VERSION
    assert isinstance(backend.simulated, bool)
    assert isinstance(backend.version, str)
    assert backend.version.strip()


def test_devices_are_sane(subject: Subject) -> None:
    """Ids are ``kind`` or ``kind:index``, each once; what can't be used says why."""
    devices = subject.backend.probe()
    assert all(isinstance(device, DeviceInfo) for device in devices)
    ids = [device.id for device in devices]
    assert subject.device in ids
    assert len(set(ids)) == len(ids)
    for device in devices:
        assert re.fullmatch(rf"{re.escape(device.kind)}(:\d+)?", device.id), device.id
        assert device.state is DeviceState.PRESENT or device.reason, device.id
        assert device.memory_bytes is None or device.memory_bytes > 0
        assert device.shares is None or device.shares != device.id
        assert all(isinstance(v, str | int | float | bool) for v in device.details.values())


def test_probing_again_finds_the_same(subject: Subject) -> None:
    """Ids and uuids stay, since profiles and plans are kept by them."""
    first, second = ({d.id: d.uuid for d in subject.backend.probe()} for _ in range(2))
    assert first == second


def test_simulated_devices_are_known_as_such(subject: Subject) -> None:
    """All devices of a backend that computes no values are modelled, and none of another's are: a
    simulated device computes the right ones, if slowly."""
    present = [d for d in subject.backend.probe() if d.state is DeviceState.PRESENT]
    for device in present:
        assert device.known_as is not KnownAs.ABSENT, device.id
        assert (device.known_as is KnownAs.MODELLED) == subject.backend.simulated, device.id


def test_capabilities_are_consistent(subject: Subject) -> None:
    """At least one precision is computed, and everything computed can be stored."""
    can = subject.capabilities
    assert isinstance(can, Capabilities)
    assert can.computes
    assert all(isinstance(p, Precision) for p in can.computes | can.stores)
    assert can.computes - {Precision.INT4} <= can.stores | {Precision.INT8}
    assert not can.mixes_precisions or len(can.computes) > 1
    assert subject.backend.capabilities(subject.device) == can


def test_other_devices_are_refused(subject: Subject) -> None:
    """A device that there is not is refused by name."""
    backend, device = subject.backend, "nosuch:99"
    with pytest.raises(UnsupportedError, match=device):
        backend.open(device, Resources())
    with pytest.raises(UnsupportedError, match=device):
        backend.capabilities(device)
    with pytest.raises(UnsupportedError, match=device):
        backend.query(relu(), device, Precision.FP32)


def test_nothing_heavy_is_imported_before_probe(subject: Subject) -> None:
    """The plugin's function gives its backends without importing the runtime behind them."""
    module, _, function = subject.entry_point.partition(":")
    code = (
        f"import sys, {module}\n"
        f"names = [backend.name for backend in {module}.{function}()]\n"
        f"assert {subject.backend.name!r} in names, names\n"
        f"heavy = sorted({set(RUNTIMES)!r} & set(sys.modules))\n"
        "assert not heavy, f'imported: {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
