"""Where there is no card, no library or no Python for it: the reason, and what it costs."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from dioe.types import DeviceState, KnownAs, Precision, UnsupportedError
from dioe_cambricon import backends
from dioe_cambricon.backend import MagicMindBackend
from dioe_cambricon.host import VARIABLE, CambriconHost
from tests.backend.cases import relu


def reason_now() -> str:
    """Why the only device is absent."""
    host = CambriconHost("magicmind", "cambricon.magicmind")
    backend = MagicMindBackend(host)
    try:
        (device,) = backend.probe()
        assert (device.id, device.kind) == ("mlu:0", "mlu")
        assert device.state is DeviceState.ABSENT
        assert device.known_as is KnownAs.ABSENT
        assert backend.version == ""
        with pytest.raises(UnsupportedError, match="mlu:0"):
            backend.query(relu(), "mlu:0", Precision.FP32)
        return device.reason
    finally:
        host.close()


def test_without_the_variable_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    def start(self: CambriconHost, limit_s: float) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(CambriconHost, "start", start)
    assert f"{VARIABLE} isn't set" in reason_now()
    assert "docs/cambricon.md" in reason_now()


def test_a_python_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/bin/python")
    assert "/nowhere/bin/python is no program" in reason_now()


def test_a_program_that_is_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/bin/false")
    assert "/bin/false failed" in reason_now()
    assert "exit code 1" in reason_now()


def test_a_python_without_magicmind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert "magicmind can't be imported" in reason_now()
    assert "No module named 'magicmind'" in reason_now()


def test_a_python_without_numpy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv.create(tmp_path, symlinks=True, with_pip=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bin" / "python"))
    assert "No module named 'numpy'" in reason_now()


def test_no_card(monkeypatch: pytest.MonkeyPatch, vendor_python: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(vendor_python))
    monkeypatch.setenv("DIOE_FAKE_CARDS", "0")
    assert "finds no card" in reason_now()


def test_names() -> None:
    assert [backend.name for backend in backends()] == ["cambricon.magicmind", "cambricon.torch"]
