"""Whatever a plugin gives or raises becomes a status, short enough for a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from dioe.registry.loading import inspect_backend, load_plugin
from dioe.registry.reports import MAX_BACKENDS, MAX_VERSION
from dioe.registry.status import PluginState
from dioe.types import ABI_VERSION, DeviceInfo


class Plugin:
    """A backend with whatever attributes a test gives it."""

    def __init__(self, **attributes: Any) -> None:
        self.name, self.abi_version, self.version = "plugin", ABI_VERSION, "1"
        self.devices: Iterable[Any] = [DeviceInfo("cpu", "cpu")]
        vars(self).update(attributes)

    def probe(self) -> Iterable[Any]:
        return self.devices


class Point(EntryPoint):
    """An entry point that gives what a test set."""

    given: Any = ()

    def load(self) -> Any:
        return lambda: Point.given


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raised(error: Exception) -> Iterable[Any]:
    yield DeviceInfo("cpu", "cpu")
    raise error


def load(monkeypatch: pytest.MonkeyPatch, given: Any) -> Any:
    monkeypatch.setattr(Point, "given", given)
    return load_plugin(Point("point", "module:function", "dioe.backends"), "somewhere")


def test_backends_as_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    one: Any = Plugin(version="1.2")
    assert load(monkeypatch, iter([one])) == ([one], None)
    status, backend = inspect_backend(one, "point", "somewhere")
    assert (status.name, status.state, status.version) == ("plugin", PluginState.READY, "1.2")
    assert backend is one


def test_plugins_without_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    found, status = load(monkeypatch, [])
    assert (found, status.state) == ([], PluginState.ABSENT)
    assert (status.name, status.reason) == ("point", "it gives no backend")


def test_plugins_with_backends_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found, status = load(monkeypatch, itertools.repeat(Plugin()))
    assert (found, status.state) == ([], PluginState.FAILED)
    assert f"there are more than {MAX_BACKENDS} backends" in status.reason


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (Plugin(name="a\nb"), r"not a backend: ValueError: the name of a backend is 'a\nb'"),
        (Plugin(devices=None), "probe failed: TypeError: 'NoneType' object is not iterable"),
        (Plugin(devices=itertools.repeat(DeviceInfo("a", "b"))), "more than 1024 devices"),
        (Plugin(devices=raised(Mute())), "probe failed: Mute: what it raised has no text"),
        (Plugin(devices=raised(OSError("\x1b[31m\n" * 10**6))), r"OSError: \x1b[31m \x1b[31m"),
    ],
)
def test_backends_that_are_none(plugin: Plugin, reason: str) -> None:
    status, backend = inspect_backend(plugin, "point", "somewhere")
    assert (status.state, backend) == (PluginState.FAILED, None)
    assert reason in status.reason
    assert status.reason.isprintable()
    assert len(status.reason) < 600
    assert status.name in ("point", "plugin")


def test_what_is_shown_of_good_ones_is_short_too() -> None:
    status, _ = inspect_backend(Plugin(version="1\n" * 10**6), "point", "somewhere")
    assert status.version == ("1 " * MAX_VERSION)[:MAX_VERSION] + "…"
    old, _ = inspect_backend(Plugin(abi_version="1\n2"), "point", "somewhere")
    assert (old.state, old.reason[:25]) == (PluginState.INCOMPATIBLE, "made for ABI version 1 2,")
