"""Plugins that harm whoever imports them are found out in a worker and named, not loaded."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dioe.cachedir import cache_dir
from dioe.registry import PluginState, PluginStatus, Registry, verdicts
from dioe.registry.worker import WorkerBackend
from dioe.types import ConfigError, Resources

HEAD = """
import os, sys, time
from dioe.types import ABI_VERSION, DeviceInfo

with open({log!r}, "a") as file:
    file.write(f"{{os.getpid()}} {name}\\n")
"""

BODY = """
class Backend:
    name = {name!r}
    abi_version = ABI_VERSION
    simulated = False
    version = "1"

    def probe(self):
        {probe}
        return [DeviceInfo("cpu", "cpu", uuid="host-cpu")]

def backends():
    {load}
    return [Backend()]
"""


class Site:
    """Distributions of one module in a folder, each of which logs who imports it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "imports.log"

    def install(
        self,
        name: str,
        *,
        load: str = "pass",
        probe: str = "pass",
        code: str = "",
        group: str = "dioe.backends",
    ) -> Path:
        module = f"plugin_{self.folder.name.replace('-', '_')}_{name}"
        text = HEAD.format(log=str(self.log), name=name) + textwrap.dedent(code)
        text += BODY.format(name=name, load=load, probe=probe)
        path = self.folder / f"{module}.py"
        path.write_text(text, encoding="utf-8")
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:backends\n")
        importlib.invalidate_caches()
        return path

    def registry(self) -> Registry:
        found = importlib.metadata.distributions(path=[str(self.folder)])
        return Registry(point for one in found for point in one.entry_points)

    def importers(self) -> list[tuple[bool, str]]:
        """Whether it was this process, and what it imported, in order; the log starts anew."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        pairs = [line.split(" ") for line in lines]
        return sorted((int(pid) == os.getpid(), name) for pid, name in pairs)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


def status(registry: Registry, name: str) -> PluginStatus:
    return next(one for one in registry.statuses if one.name == name)


CRASH = "import ctypes; ctypes.string_at(0)"
HARM: dict[str, tuple[dict[str, str], str]] = {
    "segfault on import": ({"code": CRASH}, "was killed by SIGSEGV on import"),
    "segfault in the function": ({"load": CRASH}, "was killed by SIGSEGV on import"),
    "segfault in probe": ({"probe": CRASH}, "was killed by SIGSEGV in probe"),
    "abort": ({"probe": "os.abort()"}, "was killed by SIGABRT in probe"),
    "exits": ({"load": "os._exit(3)"}, "ended itself with exit code 3 on import"),
    "exits well": ({"probe": "os._exit(0)"}, "ended itself with exit code 0 in probe"),
    "garbage": (
        {"probe": "print('loading driver 7.1'); print('ok')"},
        "wrote to stdout, which is the application's: 'loading driver 7.1'",
    ),
    "garbage of bytes": (
        {"load": "os.write(1, b'\\x1b[2J\\xff' * 99999)"},
        "wrote to stdout, which is the application's: ",
    ),
    "garbage of a C library": (
        {"load": "import ctypes; ctypes.CDLL(None).puts(b'C was here')"},
        "wrote to stdout, which is the application's: 'C was here'",
    ),
}


@pytest.mark.parametrize(("how", "reason"), HARM.values(), ids=HARM.keys())
def test_a_harmful_plugin_is_named_and_hurts_nothing(
    site: Site, how: dict[str, str], reason: str
) -> None:
    site.install("bad", **how)
    site.install("good")
    registry = site.registry()
    found = status(registry, "bad")
    assert found.state is PluginState.FAILED
    assert reason in found.reason
    assert "\x1b" not in found.reason
    assert found.source.startswith("bad: plugin_")
    assert status(registry, "good").state is PluginState.READY
    assert registry.placement("cpu").backends == {"good": "cpu"}
    assert site.importers() == [(False, "bad"), (False, "good"), (True, "good")]
    # paid once: neither is tried again
    again = site.registry()
    assert status(again, "bad").state is PluginState.FAILED
    assert status(again, "bad").reason.startswith(found.reason + " (tried ")
    assert status(again, "good").state is PluginState.READY
    assert site.importers() == []


@pytest.mark.parametrize(
    ("how", "doing"),
    [({"code": "time.sleep(60)"}, "on import"), ({"probe": "time.sleep(60)"}, "in probe")],
)
def test_a_hanging_plugin_costs_its_limit(
    site: Site, how: dict[str, str], doing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("bad", **how)
    site.install("good")
    monkeypatch.setenv("DIOE_PLUGIN_TIMEOUT_S", "2.5")
    begin = time.monotonic()
    found = status(site.registry(), "bad")
    assert time.monotonic() - begin < 15
    assert found.state is PluginState.FAILED
    assert found.reason.startswith(f"gave no answer within 2.5 s {doing}")
    begin = time.monotonic()
    assert status(site.registry(), "good").state is PluginState.READY
    assert time.monotonic() - begin < 1


def test_plugins_of_dioe_itself_and_of_the_application_are_not_tried(site: Site) -> None:
    site.install("dioe")

    class Own(importlib.metadata.EntryPoint):
        def load(self) -> Any:
            raise RuntimeError("loaded here")

    (point,) = Registry([Own("own", "x:y", "dioe.backends")]).statuses
    assert point.reason == "failed to load: RuntimeError: loaded here"
    (mine,) = site.registry().statuses
    assert mine.state is PluginState.READY
    assert site.importers() == [(True, "dioe")]


def test_what_raises_is_not_imported_here_and_tried_each_time(site: Site) -> None:
    path = site.install("bad", load="raise RuntimeError('no driver')")
    for _ in range(2):
        (found,) = site.registry().statuses
        assert found.reason == "failed to load: RuntimeError: no driver"
        assert site.importers() == [(False, "bad")]
    assert not (cache_dir() / "plugins").exists()
    path.write_text(path.read_text().replace("raise RuntimeError('no driver')", "pass"))
    assert site.registry().statuses[0].state is PluginState.READY


def test_another_abi_is_told_without_importing_it_here(site: Site) -> None:
    path = site.install("old")
    path.write_text(path.read_text().replace("= ABI_VERSION", "= ABI_VERSION + 7"))
    (found,) = site.registry().statuses
    assert found.state is PluginState.INCOMPATIBLE
    assert "made for ABI version 8" in found.reason
    assert site.importers() == [(False, "old")]


def test_a_changed_plugin_is_tried_again(site: Site) -> None:
    path = site.install("plugin")
    assert site.registry().statuses[0].state is PluginState.READY
    site.importers()
    path.write_text(path.read_text().replace("pass", "os.abort()", 1))
    (found,) = site.registry().statuses
    assert "SIGABRT" in found.reason
    path.write_text(path.read_text().replace("os.abort()", "pass"))
    assert site.registry().statuses[0].state is PluginState.READY


def test_when_to_try_can_be_chosen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("good")
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "always")
    for _ in range(2):
        assert site.registry().statuses[0].state is PluginState.READY
        assert (False, "good") in site.importers()
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "never")
    assert site.registry().statuses[0].state is PluginState.READY
    assert site.importers() == []
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "perhaps")
    with pytest.raises(ConfigError, match="DIOE_PLUGIN_TRIAL=perhaps"):
        _ = site.registry().statuses
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "always")
    for limit in ("0", "-1", "nan", "inf", "soon"):
        monkeypatch.setenv("DIOE_PLUGIN_TIMEOUT_S", limit)
        with pytest.raises(ConfigError, match="DIOE_PLUGIN_TIMEOUT_S="):
            _ = site.registry().statuses


def one_verdict() -> Path:
    (path,) = (cache_dir() / "plugins").iterdir()
    return path


def edited(**fields: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit


SPOILED: dict[str, Callable[[Path], Any]] = {
    "junk": lambda path: path.write_text("[" * 100_000),
    "not UTF-8": lambda path: path.write_bytes(b"\xff"),
    "too long": lambda path: path.write_bytes(b" " * (1 << 20) + path.read_bytes()),
    "another format": edited(version=2),
    "no reason": edited(reason=None),
    "from the future": edited(tried_at=time.time() + 9999),
    "a day old": edited(tried_at=time.time() - verdicts.HARM_IS_BELIEVED_S - 1),
    "writable by others": lambda path: path.chmod(0o666),
    "in a folder of others": lambda path: path.parent.chmod(0o777),
    "a folder": lambda path: path.rename(path.with_suffix(".x")).with_suffix(".json").mkdir(),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_verdicts_that_cannot_be_believed(site: Site, spoil: Callable[[Path], Any]) -> None:
    site.install("bad", load="os._exit(3)")
    assert "exit code 3" in site.registry().statuses[0].reason
    path = one_verdict()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    site.importers()
    spoil(path)
    (found,) = site.registry().statuses
    assert found.reason == "ended itself with exit code 3 on import"
    assert site.importers() == [(False, "bad")]


def test_nowhere_to_keep_verdicts(site: Site) -> None:
    site.install("good")
    (cache_dir()).mkdir()
    (cache_dir() / "plugins").write_text("in the way")
    for _ in range(2):
        assert site.registry().statuses[0].state is PluginState.READY


def test_a_plugin_that_asks_for_a_worker_is_never_imported_here(site: Site) -> None:
    site.install("served", probe="print('may print')", group="dioe.backends.worker")
    registry = site.registry()
    found = status(registry, "served")
    assert (found.state, found.version) == (PluginState.READY, "1")
    backend = registry.backend("served")
    assert isinstance(backend, WorkerBackend)
    assert backend.probe() == list(found.devices)
    assert (backend.abi_version, backend.simulated) == (1, False)
    assert registry.placement("cpu").backends == {"served": "cpu"}
    assert site.importers() == [(False, "served")]
    with pytest.raises(Exception, match="AttributeError"):
        backend.open("cpu", Resources())  # what the plugin raises is told
    backend.host.close()


def test_a_served_plugin_that_fails(site: Site) -> None:
    site.install("served", load="raise OSError('no card')", group="dioe.backends.worker")
    site.install("crashing", probe="os.abort()", group="dioe.backends.worker")
    registry = site.registry()
    assert status(registry, "served").reason == "failed to load: OSError: no card"
    assert status(registry, "crashing").reason == "was killed by SIGABRT in probe"
    assert {on_us for on_us, _ in site.importers()} == {False}


def test_dioe_devices_names_them(site: Site) -> None:
    site.install("crashing", probe=CRASH)
    site.install("leaving", code="os._exit(5)")
    site.install("hanging", load="time.sleep(60)")
    site.install("printing", load="print('hello')")
    old = site.install("old")
    old.write_text(old.read_text().replace("= ABI_VERSION", "= 99"))
    site.install("fine")
    command = [sys.executable, "-c", "from dioe.cli import main; main()", "devices"]
    environment = os.environ | {
        "PYTHONPATH": str(site.folder), "DIOE_PLUGIN_TIMEOUT_S": "5", "COLUMNS": "250",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [*command, "--json"],
        capture_output=True, text=True, env=environment, check=True, timeout=90,
    )  # fmt: skip
    found = {b["name"]: (b["state"], b["reason"]) for b in json.loads(done.stdout)["backends"]}
    assert found["crashing"] == ("failed", "was killed by SIGSEGV in probe")
    assert found["leaving"] == ("failed", "ended itself with exit code 5 on import")
    assert found["hanging"][1].startswith("gave no answer within 5 s on import")
    assert found["printing"][1].endswith("which is the application's: 'hello'")
    assert found["old"][0] == "incompatible"
    assert found["fine"][0] == found["onnxruntime"][0] == found["reference"][0] == "ready"
    table = subprocess.run(
        command,
        capture_output=True, text=True, env=environment, check=True, timeout=90,
    )  # fmt: skip
    assert "was killed by SIGSEGV in probe (tried " in table.stdout


def test_importing_the_registry_starts_and_imports_nothing_for_workers() -> None:
    code = "import sys, dioe.registry; assert 'dioe.registry.worker' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
