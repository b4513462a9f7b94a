"""One rule for where caches are."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.cachedir import cache_dir
from dioe.types import ConfigError


def test_the_tests_have_a_cache_of_their_own() -> None:
    assert cache_dir().name.startswith("dioe-cache")


def test_the_variable_counts_at_every_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("a", "b"):
        monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / name))
        assert cache_dir() == tmp_path / name
        assert not cache_dir().exists()  # it is for others to make


def test_home_and_relative_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DIOE_CACHE_DIR", "~/here")
    assert cache_dir() == tmp_path / "here"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIOE_CACHE_DIR", "there")
    assert cache_dir() == tmp_path / "there"


@pytest.mark.parametrize("value", [None, ""])
def test_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DIOE_CACHE_DIR")
    if value is not None:
        monkeypatch.setenv("DIOE_CACHE_DIR", value)
    assert cache_dir() == tmp_path / "dioe"


def test_a_file_where_a_folder_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setenv("DIOE_CACHE_DIR", str(path))
    with pytest.raises(ConfigError, match="the cache directory is not a directory") as caught:
        cache_dir()
    assert caught.value.place == f"DIOE_CACHE_DIR={path}"
    assert caught.value.fix
