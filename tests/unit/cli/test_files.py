"""Files that commands write: whole or not at all, and never in the place of a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dioe.cli.files import check_place, write_files, write_text
from dioe.types import ConfigError
from tests.unit.cli.conftest import Dioe, files_in, is_told


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_is_never_replaced(pipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no regular file"):
        check_place(pipe)
    with pytest.raises(ConfigError, match="no regular file"):
        write_files({tmp_path / "first": b"1", pipe: b"2"})
    assert pipe.is_fifo()
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("link", [False, True])
def test_neither_is_a_device_behind_a_link(tmp_path: Path, link: bool) -> None:
    path = Path(os.devnull)
    if link:
        path = tmp_path / "nowhere"
        path.symlink_to(os.devnull)
    with pytest.raises(ConfigError, match="no regular file"):
        write_text(path, "text")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("there", [False, True])
def test_a_link_stays_and_its_file_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    if there:
        file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert files_in(tmp_path) == {"elsewhere/file", "link"}


def test_links_in_a_circle_are_no_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.symlink_to(second)
    second.symlink_to(first)
    with pytest.raises(ConfigError):
        write_text(first / "file", "text")


def test_the_command_refuses_before_any_work(dioe: Dioe, pipe: Path) -> None:
    for place in (os.devnull, pipe):
        is_told(dioe("plan", "missing.onnx", "-o", place), 19, place, "no regular file")
    assert Path(os.devnull).is_char_device()
    assert pipe.is_fifo()
