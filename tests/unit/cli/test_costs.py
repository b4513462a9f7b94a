"""What commands keep of what they measured, and what they say of it when interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.cli import costs
from dioe.profiling import CostKey, CostRecord, history
from dioe.types import Resources


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))
    costs.start()
    return tmp_path / "cache"


def put() -> None:
    key = CostKey(
        kind="block", subject="s", shapes={}, target="cpu/a/fp32", resources=Resources(),
        options={}, versions={}, hardware="h",
    )  # fmt: skip
    costs.history().put(key, CostRecord(1.0, runs=3))


def test_a_command_that_measures_nothing_writes_nothing(folder: Path) -> None:
    assert costs.interrupted_text() == "interrupted; nothing was written"
    assert not folder.exists()


def test_what_was_measured_is_kept(folder: Path) -> None:
    put()
    assert "costs measured so far, which are kept" in costs.interrupted_text()
    assert (folder / "history.sqlite").exists()
    costs.start()
    assert costs.interrupted_text() == "interrupted; nothing was written"


def test_what_cant_be_kept_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("in the way")
    with pytest.raises(Exception, match="not a directory"):
        put()
    folder.unlink()
    (folder / history.FILE_NAME).mkdir(parents=True)
    put()
    assert "1 costs can't be kept" in costs.interrupted_text()
