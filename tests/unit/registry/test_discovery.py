"""Plugins as they are installed: good ones work whatever the others do."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from dioe.registry import PluginState, PluginStatus, Registry
from dioe.types import DeviceState, UnsupportedError

BACKEND = """
from dioe.types import ABI_VERSION, DeviceInfo, DeviceState

class Backend:
    name = "good"
    abi_version = ABI_VERSION
    simulated = False
    version = "1.2"

    def probe(self):
        return [DeviceInfo("cpu", "cpu", uuid="host")]

def backends():
    return [Backend()]
"""

_counter = itertools.count()


class Site:
    """A folder of installed distributions, each with one module and one entry point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, code: str, *, points: str | None = None) -> None:
        # modules stay in sys.modules after a test, so that each gets a name of its own
        module = f"dioe_plugin_{next(_counter)}"
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        text = points or f"[dioe.backends]\n{name} = {module}:backends\n"
        (info / "entry_points.txt").write_text(text)

    def registry(self) -> Registry:
        found = importlib.metadata.distributions(path=[str(self.folder)])
        points = [point for distribution in found for point in distribution.entry_points]
        return Registry(point for point in points if point.group == "dioe.backends")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    return Site(tmp_path)


def statuses(registry: Registry) -> dict[str, PluginStatus]:
    return {status.name: status for status in registry.statuses}


def test_a_good_plugin(site: Site) -> None:
    site.install("good", BACKEND)
    registry = site.registry()
    (status,) = registry.statuses
    assert (status.name, status.state, status.reason) == ("good", PluginState.READY, "")
    assert (status.version, status.source[:18]) == ("1.2", "good: dioe_plugin_")
    assert [device.id for device in status.devices] == ["cpu"]
    assert registry.backend("good").version == "1.2"
    assert registry.placement("cpu").backends == {"good": "cpu"}
    assert registry.placements == (registry.placement("cpu"),)


def replaced(old: str, new: str) -> str:
    assert old in BACKEND
    return BACKEND.replace(old, new)


PROBE = 'return [DeviceInfo("cpu", "cpu", uuid="host")]'
LIST = "return [Backend()]"
FAILED, INCOMPATIBLE, ABSENT = PluginState.FAILED, PluginState.INCOMPATIBLE, PluginState.ABSENT

# code of a plugin named "bad", the state it gets, and the reason
BAD: dict[str, tuple[str, PluginState, str]] = {
    "missing import": (
        "import no_such_library",
        FAILED,
        "failed to load: ModuleNotFoundError: No module named 'no_such_library'",
    ),
    "raises on import": (
        "raise RuntimeError('driver too old')",
        FAILED,
        "failed to load: RuntimeError: driver too old",
    ),
    "syntax": ("def backends(:", FAILED, "failed to load: SyntaxError: invalid syntax"),
    "exits on import": ("raise SystemExit('no licence')", FAILED, "SystemExit: no licence"),
    "no function": ("x = 1", FAILED, "failed to load: AttributeError: module 'dioe_plugin_"),
    "function raises": (
        "def backends(): raise OSError(2, 'no device file')",
        FAILED,
        "failed to load: FileNotFoundError: [Errno 2] no device file",
    ),
    "not a list": (
        replaced(LIST, "return Backend()"),
        FAILED,
        "failed to load: TypeError: 'Backend' object is not iterable",
    ),
    "None": (replaced(LIST, "return None"), FAILED, "failed to load: TypeError: 'NoneType'"),
    "not backends": (
        replaced(LIST, "return [7]"),
        FAILED,
        "not a backend: AttributeError: 'int' object has no attribute 'name'",
    ),
    "no ABI version": (
        replaced("    abi_version = ABI_VERSION\n", "").replace('"good"', '"bad"'),
        FAILED,
        "not a backend: AttributeError: 'Backend' object has no attribute 'abi_version'",
    ),
    "name raises": (
        replaced('name = "good"', "@property\n    def name(self): raise SystemExit('name')"),
        FAILED,
        "not a backend: SystemExit: name",
    ),
    "newer ABI": (
        replaced("= ABI_VERSION", "= ABI_VERSION + 1").replace('"good"', '"bad"'),
        INCOMPATIBLE,
        "made for ABI version 2, this DIOE has 1: update the plugin",
    ),
    "ABI as text": (
        replaced("= ABI_VERSION", "= '1'").replace('"good"', '"bad"'),
        INCOMPATIBLE,
        "made for ABI version 1, this DIOE has 1: update the plugin",
    ),
    "probe raises": (
        replaced(PROBE, "raise RuntimeError('bus error')").replace('"good"', '"bad"'),
        FAILED,
        "probe failed: RuntimeError: bus error",
    ),
    "probe exits": (
        replaced(PROBE, "raise SystemExit(3)").replace('"good"', '"bad"'),
        FAILED,
        "probe failed: SystemExit: 3",
    ),
    "probe gives None": (
        replaced(PROBE, "return None").replace('"good"', '"bad"'),
        FAILED,
        "probe failed: TypeError: 'NoneType' object is not iterable",
    ),
    "probe gives junk": (
        replaced(PROBE, "return ['cpu', 3]").replace('"good"', '"bad"'),
        FAILED,
        "probe failed: TypeError: str instead of DeviceInfo was returned",
    ),
    "probe gives a junk kind": (
        replaced(PROBE, "return [DeviceInfo('cpu', ['cpu'])]").replace('"good"', '"bad"'),
        FAILED,
        "probe failed: TypeError: the kind of a device is list",
    ),
    "probe gives a junk state": (
        replaced(PROBE, "return [DeviceInfo('cpu', 'cpu', state='present')]").replace(
            '"good"', '"bad"'
        ),
        FAILED,
        "probe failed: TypeError: the state of a device is 'present', no DeviceState",
    ),
    "version raises": (
        replaced('version = "1.2"', "@property\n    def version(self): return 1 / 0").replace(
            '"good"', '"bad"'
        ),
        FAILED,
        "probe failed: ZeroDivisionError: division by zero",
    ),
    "nothing found": (
        replaced(PROBE, "return []").replace('"good"', '"bad"'),
        ABSENT,
        "no device found",
    ),
    "absent": (
        replaced(
            PROBE,
            "return [DeviceInfo('gpu:0', 'gpu', state=DeviceState.ABSENT, reason='no driver'),"
            " DeviceInfo('gpu:1', 'gpu', state=DeviceState.ERROR)]",
        ).replace('"good"', '"bad"'),
        ABSENT,
        "no driver",
    ),
}


@pytest.mark.parametrize(("code", "state", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_plugin_hurts_no_other(
    site: Site, code: str, state: PluginState, reason: str
) -> None:
    site.install("bad", code)
    site.install("good", BACKEND)  # sorted by name: loaded after the bad one
    site.install("aaa", BACKEND.replace('"good"', '"aaa"'))
    registry = site.registry()
    found = statuses(registry)
    assert set(found) == {"aaa", "bad", "good"}
    assert found["bad"].state is state
    assert reason in found["bad"].reason
    assert found["bad"].source.startswith("bad: ")
    for name in ("aaa", "good"):
        assert found[name].state is PluginState.READY
        assert registry.backend(name).name == name
    assert registry.placement("cpu").backends == {"aaa": "cpu", "good": "cpu"}
    with pytest.raises(UnsupportedError) as caught:
        registry.backend("bad")
    assert caught.value.cause == f"backend 'bad' is not usable: {found['bad'].reason}"
    assert "usable backends: aaa, good;" in caught.value.fix


def test_absent_devices_are_listed(site: Site) -> None:
    site.install("bad", BAD["absent"][0])
    registry = site.registry()
    assert [(p.device.id, p.device.state, p.backends) for p in registry.placements] == [
        ("gpu:0", DeviceState.ABSENT, {}),
        ("gpu:1", DeviceState.ERROR, {}),
    ]
    with pytest.raises(UnsupportedError, match="usable backends: none"):
        registry.backend("bad")


def test_two_plugins_of_one_name(site: Site) -> None:
    site.install("first", BACKEND.replace('"1.2"', '"1"'))
    site.install("second", BACKEND.replace('"1.2"', '"2"').replace('"cpu"', '"npu"'))
    registry = site.registry()
    first, second = registry.statuses
    assert (first.name, first.state, first.version) == ("good", PluginState.READY, "1")
    assert (second.name, second.state) == ("good", PluginState.FAILED)
    assert second.reason == "another plugin already provides a backend of this name"
    assert second.source.startswith("second: ")
    assert registry.backend("good").version == "1"
    assert [p.device.id for p in registry.placements] == ["cpu"]


def test_nobody_takes_the_name_or_the_device_of_what_comes_with_dioe(site: Site) -> None:
    site.install("aaa", BACKEND.replace('"host")', '"host", name="mine")'))
    site.install("dioe", BACKEND.replace('"1.2"', '"built in"'))
    bare = BACKEND.replace('"good"', '"bare"').replace(', uuid="host"', "")
    site.install("bbb", bare)  # a CPU that nobody else knows
    registry = site.registry()
    assert registry.backend("good").version == "built in"
    own, claimed, other = registry.statuses
    assert (own.state, other.state) == (PluginState.READY, PluginState.READY)
    assert claimed.reason == "another plugin already provides a backend of this name"
    assert claimed.source.startswith("aaa: ")
    assert registry.placement("cpu").backends == {"good": "cpu"}
    assert registry.placement("cpu:1").backends == {"bare": "cpu"}


def test_a_plugin_with_several_backends(site: Site) -> None:
    code = """
    from dataclasses import dataclass

    from dioe.types import ABI_VERSION, DeviceInfo

    @dataclass
    class Backend:
        name: str
        abi_version: int
        version = "1"

        def probe(self):
            return [DeviceInfo("cpu", "cpu", uuid="host")]

    def backends():
        yield Backend("many", ABI_VERSION)
        yield Backend("many.old", 0)
        yield Backend("many.gpu", ABI_VERSION)
    """
    site.install("many", code)
    registry = site.registry()
    assert {name: status.state for name, status in statuses(registry).items()} == {
        "many": PluginState.READY,
        "many.old": PluginState.INCOMPATIBLE,
        "many.gpu": PluginState.READY,
    }
    assert set(registry.placement("cpu").backends) == {"many", "many.gpu"}


def test_unknown_names() -> None:
    registry = Registry([])
    assert (registry.statuses, registry.placements) == ((), ())
    with pytest.raises(UnsupportedError, match="backend 'x' is not usable") as no_backend:
        registry.backend("x")
    assert "usable backends: none" in no_backend.value.fix
    with pytest.raises(UnsupportedError, match="no device 'gpu:7' on this machine") as no_device:
        registry.placement("gpu:7")
    assert no_device.value.fix == "devices found: none"


def test_plugins_are_loaded_once_and_only_when_asked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "never")  # printing is held against a plugin
    code = BACKEND + "\nprint('imported')\n"
    site.install(
        "good", code.replace("def probe(self):", "def probe(self):\n        print('probed')")
    )
    registry = site.registry()
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("builtins.print", seen.append)
        assert seen == []
        barrier = threading.Barrier(4)

        def look() -> None:
            barrier.wait()
            assert registry.backend("good").name == "good"

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == ["imported", "probed"]


def test_an_interrupt_leaves_the_registry_unloaded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "never")
    site.install("aaa", BACKEND.replace('"good"', '"aaa"'))
    flag = site.folder / "ready"
    code = f"""
    import pathlib
    if not pathlib.Path({str(flag)!r}).exists():
        raise KeyboardInterrupt
    """
    site.install("good", textwrap.dedent(code) + BACKEND)
    registry = site.registry()
    with pytest.raises(KeyboardInterrupt):
        _ = registry.statuses
    flag.touch()
    assert [s.state for s in registry.statuses] == [PluginState.READY] * 2


@pytest.fixture
def only_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Nothing is installed but what the test installs."""
    everywhere = importlib.metadata.distributions
    monkeypatch.setattr(
        importlib.metadata, "distributions", lambda: everywhere(path=[str(site.folder)])
    )
    return site


def test_installed_plugins_are_found(only_site: Site) -> None:
    only_site.install("dioe-test-good", BACKEND)
    only_site.install("other", "", points="[console_scripts]\nx = no_such_module:main\n")
    (status,) = Registry().statuses
    assert (status.name, status.state) == ("good", PluginState.READY)
    assert status.source.startswith("dioe-test-good: ")


@pytest.mark.parametrize("metadata", [b"", b"Name: na\xefve\n"])
def test_a_plugin_without_readable_metadata(site: Site, metadata: bytes) -> None:
    site.install("good", BACKEND)
    (site.folder / "good-1.0.dist-info/METADATA").write_bytes(metadata)
    registry = site.registry()
    (status,) = registry.statuses
    assert status.state is PluginState.READY
    assert status.source.startswith("unknown distribution: ")


def test_a_distribution_whose_entry_points_cannot_be_read(only_site: Site) -> None:
    only_site.install("good", BACKEND)
    only_site.install("other", BACKEND.replace('"good"', '"other"'))
    only_site.install("bad", "", points="[dioe.backends]\nno equals sign\n")
    (only_site.folder / "good-0.9.dist-info").mkdir()  # an older one that was left behind
    for file in ("METADATA", "entry_points.txt"):
        text = (only_site.folder / "good-1.0.dist-info" / file).read_text()
        (only_site.folder / "good-0.9.dist-info" / file).write_text(text)
    registry = Registry()
    found = statuses(registry)
    assert len(registry.statuses) == len(found) == 3
    assert found["good"].state is found["other"].state is PluginState.READY
    assert (found["bad"].state, found["bad"].source) == (PluginState.FAILED, "bad")
    assert found["bad"].reason.startswith("its entry points can't be read: ")
