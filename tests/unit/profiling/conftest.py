"""A cost history that is tried again at once, in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.profiling import history


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try the file again at once, and wait less for locks than a user would."""
    monkeypatch.setattr(history, "_PAUSE_S", 0.0)
    monkeypatch.setattr(history, "_LOOKING_PATIENCE_S", 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"
