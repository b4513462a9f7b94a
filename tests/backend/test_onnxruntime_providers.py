"""Finding ONNX Runtime's providers and their devices: by strict fakes where there is none here."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from dioe.types import (
    DeviceState,
    InputError,
    KnownAs,
    Precision,
    Precisions,
    Resources,
    UnsupportedError,
)
from dioe_onnxruntime import devices, providers, register_provider
from dioe_onnxruntime.backend import OnnxRuntimeBackend
from dioe_onnxruntime.providers import BUILT_IN, CPU, PLUGINS, Provider
from tests.backend.cases import relu

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Provider]:
    fresh: dict[str, Provider] = {}
    monkeypatch.setattr(providers, "_given", fresh)
    return fresh


def found() -> dict[str, Provider]:
    return {provider.backend: provider for provider in providers.providers()}


def hardware(kind: str, vendor_id: int, **metadata: str) -> Any:
    return SimpleNamespace(
        type=SimpleNamespace(name=kind),
        vendor="Contoso",
        vendor_id=vendor_id,
        device_id=0x2684,
        metadata=metadata,
    )


def listed(name: str, device: Any) -> Any:
    return SimpleNamespace(ep_name=name, device=device, ep_metadata={})


def test_the_cpu_comes_first_and_names_are_unlike() -> None:
    names = [provider.backend for provider in providers.providers()]
    assert names[0] == "onnxruntime"
    assert len(set(names)) == len(names)
    natives = [p.native for p in (CPU, *BUILT_IN, *PLUGINS.values())]
    assert len(set(natives)) == len(natives)
    assert set(natives) - {"ROCMExecutionProvider"} <= set(ort.get_all_providers())


def test_packages_of_plugins_are_found_by_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "onnxruntime_ep_contoso"
    package.mkdir()
    (package / "__init__.py").write_text(
        "def get_library_path(): return '/nowhere/libcontoso.so'\n"
        "def get_ep_names(): return ['ContosoExecutionProvider']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    provider = found()["onnxruntime.contoso"]
    assert "onnxruntime_ep_contoso" not in sys.modules
    (device,) = OnnxRuntimeBackend(provider).probe()
    assert device.state is DeviceState.ABSENT
    assert device.known_as is KnownAs.ABSENT
    assert "its plugin library can't be loaded" in device.reason
    assert "/nowhere/libcontoso.so" in device.reason
    with pytest.raises(UnsupportedError, match="can't be loaded"):
        OnnxRuntimeBackend(provider).open("gpu:0", Resources())
    (package / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    monkeypatch.delitem(sys.modules, "onnxruntime_ep_contoso")
    (device,) = OnnxRuntimeBackend(provider).probe()
    assert device.state is DeviceState.ABSENT


def test_builds_are_known_by_their_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda n: "1.31.1" if n == "onnxruntime-gpu" else real(n)
    )
    names = found()
    assert {"onnxruntime.cuda", "onnxruntime.tensorrt"} <= names.keys()
    if not HAS_CUDA:
        (device,) = OnnxRuntimeBackend(names["onnxruntime.cuda"]).probe()
        assert (device.id, device.state) == ("gpu:0", DeviceState.ABSENT)
        assert device.reason == "this onnxruntime was built without CUDAExecutionProvider"


def test_libraries_are_given_in_code(given: dict[str, Provider], tmp_path: Path) -> None:
    library = tmp_path / "libthing.so"
    with pytest.raises(InputError, match="no library"):
        register_provider("thing", library)
    library.write_bytes(b"not a library")
    register_provider("thing", library)
    register_provider("thing", library)  # the same again is nothing new
    assert found()["onnxruntime.thing"].library == str(library)
    (device,) = OnnxRuntimeBackend(given["thing"]).probe()
    assert "can't be loaded" in device.reason
    other = tmp_path / "other.so"
    other.write_bytes(b"")
    with pytest.raises(InputError, match="another"):
        register_provider("thing", other)
    for name in ("", "a/b", "a.b"):
        with pytest.raises(InputError, match="name"):
            register_provider(name, library)
    with pytest.raises(InputError, match="known"):
        register_provider("nobody")
    register_provider("xnnpack")  # built in, and not found by itself
    assert found()["onnxruntime.xnnpack"].native == "XnnpackExecutionProvider"
    register_provider("mine", native="MyExecutionProvider")
    assert found()["onnxruntime.mine"].native == "MyExecutionProvider"


def test_listed_devices_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(devices, "_try", lambda placed: tried.append(placed.info.name))
    cuda = next(p for p in BUILT_IN if p.name == "cuda")
    native = "CUDAExecutionProvider"
    two = [
        listed(native, hardware("GPU", 0x10DE, pci_bus_id="0000:0A:00.0")),
        listed(native, hardware("GPU", 0x10DE, Description="A GPU")),
        listed("OtherExecutionProvider", hardware("NPU", 1)),
    ]
    monkeypatch.setattr(ort, "get_ep_devices", lambda: two)
    first, second = (placed.info for placed in devices.find(cuda))
    assert (first.id, first.uuid, first.name) == ("gpu:0", "pci:0000:0a:00.0", "Contoso 0x2684")
    assert (second.id, second.uuid, second.name) == ("gpu:1", "", "A GPU")
    assert (first.known_as, first.shares) == (KnownAs.HARDWARE, None)
    assert tried == [first.name, second.name]


def test_a_device_that_fails_its_trial_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(placed: Any) -> None:
        if placed.info.name == "bad":
            raise UnsupportedError("its driver is too old")

    monkeypatch.setattr(devices, "_try", trial)
    cuda = next(p for p in BUILT_IN if p.name == "cuda")
    bad = listed("CUDAExecutionProvider", hardware("GPU", 0x10DE, Description="bad"))
    good = listed("CUDAExecutionProvider", hardware("GPU", 0x10DE, Description="good"))
    monkeypatch.setattr(ort, "get_ep_devices", lambda: [bad, good])
    assert [(p.info.id, p.info.name) for p in devices.find(cuda)] == [("gpu:0", "good")]
    monkeypatch.setattr(ort, "get_ep_devices", lambda: [bad, bad])
    (device,) = OnnxRuntimeBackend(cuda).probe()
    assert device.state is DeviceState.ABSENT
    assert device.reason.count("its driver is too old") == 1
    assert "cuDNN" in device.reason


def test_a_provider_of_the_older_kind_counts_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_try", lambda placed: None)
    monkeypatch.setattr(ort, "get_ep_devices", list)
    migraphx = next(p for p in BUILT_IN if p.name == "migraphx")
    monkeypatch.setattr(ort, "get_available_providers", lambda: [migraphx.native])
    one = hardware("GPU", 0x1002, pci_bus_id="0000:03:00.0")
    others = [hardware("GPU", 0x10DE), hardware("CPU", 0x1002)]
    for amd, uuids in (([one], ["pci:0000:03:00.0"]), ([one, one], ["", ""]), ([], [""])):
        monkeypatch.setattr(devices, "_hardware", lambda amd=amd: [*amd, *others])
        placed = devices.find(migraphx)
        assert [p.info.uuid for p in placed] == uuids
        assert [p.index for p in placed] == list(range(len(uuids)))
        assert [p.info.id for p in placed] == [f"gpu:{i}" for i in range(len(uuids))]


@pytest.mark.skipif(HAS_CUDA, reason="this build has CUDA")
def test_a_provider_that_is_not_there_is_no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime only warns of it and runs on the CPU."""
    cuda = next(p for p in BUILT_IN if p.name == "cuda")
    monkeypatch.setattr(ort, "get_available_providers", lambda: [cuda.native])
    with pytest.warns(UserWarning, match="not in available provider names"):
        (device,) = OnnxRuntimeBackend(cuda).probe()
    assert device.state is DeviceState.ABSENT


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="this onnxruntime was built without CUDA")
def test_cuda_runs_what_it_claims() -> None:
    import numpy as np

    from dioe.types import HostBuffer, TensorSpec
    from tests.backend.cases import floats

    register_provider("cuda")
    backend = OnnxRuntimeBackend(found()["onnxruntime.cuda"])
    (device, *_) = backend.probe()
    assert device.state is DeviceState.PRESENT
    assert backend.query(relu(), device.id, Precision.FP32).whole
    context = backend.open(device.id, Resources())
    request: Any = context.compile(relu(), Precisions(), {}).request()
    x, spec = floats(2, 4), TensorSpec("b", np.dtype(np.float32), (2, 4))
    a, b = context.alloc(spec), context.alloc(spec)
    context.copy(HostBuffer(x), a).wait()
    request.bind({"x": a}, {"y": b})
    request.run().wait()
    host = HostBuffer(np.empty((2, 4), np.float32))
    context.copy(b, host).wait()
    np.testing.assert_array_equal(host.array, np.maximum(x, 0))
    context.close()
