"""``dioe cache``: it tells all that is kept, deletes what is asked for and no more, and exports."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from dioe.cli import cached_files
from dioe.profiling import History, history
from dioe.tuning.plan_cache import PlanCache
from dioe.types import Plan
from tests.unit.cli.conftest import Dioe, files_in, is_told
from tests.unit.profiling.costs import cost, key

FOREIGN = {
    "notes.txt", "plans/mine.json", "plans/notes.tmp", "packages/readme-first/a.txt",
    "packages/numpy-2.0.whl", "exports/model.onnx", "exports/model-1234.onnx", "history.sqlite-old",
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (history, "_PATIENCE_S"),
        (history, "_LOOKING_PATIENCE_S"),
        (cached_files, "_PATIENCE_S"),
    ):
        monkeypatch.setattr(module, name, 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The cache that the ``dioe`` fixture sets."""
    return tmp_path / "dioe-cache"


def put(path: Path, content: bytes = b"content") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def filled(folder: Path) -> Path:
    """Three costs, two plans and two models."""
    History(folder).put_many((key(i, kind="block" if i else "target"), cost()) for i in range(3))
    for name in "ab":
        PlanCache(folder).put(name * 64, Plan(model_sha256=name, hardware="cafe", stages=()))
    put(folder / "plans" / "tmpx0_y.tmp")
    put(folder / "packages" / "some-package-1.2.3" / "models" / "a.onnx", b"x" * 2000)
    put(folder / "packages" / "some-package-1.2.3" / "b.bin", b"x" * 48)
    put(folder / "packages" / "some-package-1.2.3.lock", b"")
    for suffix in ("onnx", "sha256", "lock"):
        put(folder / "exports" / f"net-0123456789abcdef.{suffix}", b"")
    return folder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answers(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Somebody sits at a terminal and types this."""
    monkeypatch.setattr(sys, "stdin", Terminal(text))


# --- info ---------------------------------------------------------------------------------------


def test_info_of_nothing(dioe: Dioe, folder: Path) -> None:
    shown = dioe("cache", "info")
    assert (shown.code, shown.err) == (0, "")
    assert str(folder) in shown.out.replace("\n", "")
    assert shown.out.count("absent") == 3
    found = dioe("cache", "info", "--json").json
    assert {part["state"] for part in found["parts"].values()} == {"absent"}
    assert not folder.exists()


def test_info(dioe: Dioe, filled: Path) -> None:
    before = files_in(filled)
    shown = dioe("cache", "info")
    assert (shown.code, shown.err) == (0, "")
    rows = {line.split()[0]: line.split() for line in shown.out.splitlines() if line.strip()}
    assert [rows[part][1:3] for part in ("history", "plans", "models")] == [
        ["ok", "3"], ["ok", "2"], ["ok", "2"]
    ]  # fmt: skip
    assert rows["models"][3:5] == ["2.0", "KiB"]
    assert "blocks alone: 2, whole models: 1" in shown.out
    found = dioe("cache", "info", "--json").json
    assert found["folder"] == str(filled)
    assert found["parts"]["models"]["size_bytes"] == 2048
    assert found["parts"]["plans"]["leftovers"] == 1
    assert found["parts"]["plans"]["oldest"] <= found["parts"]["plans"]["newest"]
    assert found["history"]["entries"] == {"block": 2, "target": 1}
    assert found["history"]["path"] == str(filled / "history.sqlite")
    assert files_in(filled) == before


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits(
    dioe: Dioe, filled: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(cached_files, "size_of", lambda path: 123456789012)
    History(filled).put_many((key(i, kind=f"a rather long kind {i}"), cost()) for i in range(20))
    lines = dioe("cache", "info").out.splitlines()
    assert max(map(len, lines)) <= columns
    (models,) = (line for line in lines if " models " in line)
    assert models.split()[-4:] == models.split()[-2:] * 2
    assert "GiB" in models


def test_info_tells_what_is_wrong(dioe: Dioe, filled: Path) -> None:
    (filled / "history.sqlite").write_text("no database" * 100)
    os.rename(filled / "plans", filled / "moved")
    (filled / "plans").write_text("in the way")
    put(filled / "history.sqlite.damaged-1", b"x" * 100)
    shown = dioe("cache", "info")
    assert (shown.code, shown.err) == (0, "")
    text = " ".join(shown.out.split())
    assert "history is damaged: file is not a database" in text
    assert "plans is unusable: Not a directory" in text
    assert "set aside: history.sqlite.damaged-1" in text
    found = dioe("cache", "info", "--json").json
    assert found["parts"]["history"]["size_bytes"] == 1200
    assert found["history"]["state"] == "damaged"


def test_names_cant_steer_a_terminal(
    dioe: Dioe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "\x1b[31m[red]"
    monkeypatch.setenv("DIOE_CACHE_DIR", str(odd))
    History(odd).put(key(kind="\x1b[31m[red]"), cost())
    shown = dioe("cache", "info").out
    assert "\x1b" not in shown
    assert shown.replace("\n", "").count("\\x1b[31m[red]") == 2


@pytest.mark.parametrize("command", ["info", "clear", "export"])
def test_help(dioe: Dioe, command: str) -> None:
    shown = dioe("cache", command, "-h")
    assert shown.code == 0
    assert "--debug" in shown.out
    assert command in dioe("cache", "--help").out


@pytest.mark.parametrize(
    "wrong", [["nonsense"], ["clear", "--what", "everything"], ["export"], ["info", "x"]]
)
def test_wrong_usage_is_2(dioe: Dioe, wrong: list[str]) -> None:
    assert dioe("cache", *wrong).code == 2


@pytest.mark.parametrize("command", [["info"], ["clear", "--yes"], ["export", "-"]])
def test_a_cache_that_is_no_folder_is_19(
    dioe: Dioe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "file"))
    is_told(dioe("cache", *command), 19, tmp_path / "file")


# --- clear --------------------------------------------------------------------------------------


def test_without_a_terminal_and_without_yes_it_refuses(dioe: Dioe, filled: Path) -> None:
    before = files_in(filled)
    is_told(dioe("cache", "clear"), 11, "no terminal", "--yes")
    assert files_in(filled) == before


def test_without_stdin_it_refuses(dioe: Dioe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    is_told(dioe("cache", "clear"), 11, "--yes")


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "what?\n"])
def test_anything_but_yes_deletes_nothing(
    dioe: Dioe, filled: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    before = files_in(filled)
    answers(monkeypatch, answer)
    shown = dioe("cache", "clear")
    assert shown.code == 0
    assert "delete 3 measured costs" in shown.err
    assert "2 plans" in shown.err
    assert "2 models (2.0 KiB)" in shown.err
    assert "nothing was deleted" in shown.out
    assert files_in(filled) == before


def test_an_interrupted_question_deletes_nothing(
    dioe: Dioe, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Terminal) -> str:
        raise KeyboardInterrupt

    before = files_in(filled)
    answers(monkeypatch, "y\n")
    monkeypatch.setattr(Terminal, "readline", interrupted)
    assert dioe("cache", "clear").code == 130
    assert files_in(filled) == before


@pytest.mark.parametrize("how", ["y\n", "YES\n", "--yes"])
def test_everything_goes_but_what_isnt_ours(
    dioe: Dioe, filled: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for name in FOREIGN:
        put(filled / name)
    if how != "--yes":
        answers(monkeypatch, how)
    shown = dioe("cache", "clear", *(["--yes"] if how == "--yes" else []))
    assert shown.code == 0
    for text in ("deleted 3 measured costs", "deleted 2 plans", "deleted 2 models"):
        assert text in shown.out
    assert files_in(filled) == FOREIGN | {"history.sqlite"}
    assert History(filled).info().entries == {}
    again = dioe("cache", "clear", "--yes")
    assert (again.code, again.err) == (0, "")
    assert again.out == f"nothing was deleted in {filled}\n"


@pytest.mark.parametrize("part", ["history", "plans", "models"])
def test_one_part_goes(dioe: Dioe, filled: Path, part: str) -> None:
    before = dioe("cache", "info", "--json").json["parts"]
    deleted = dioe("cache", "clear", "--what", part, "--yes", "--json").json
    after = dioe("cache", "info", "--json").json["parts"]
    assert deleted["folder"] == str(filled)
    assert deleted["failed"] == {}
    assert set(deleted["deleted"]) == {part}
    assert deleted["deleted"][part]["entries"] == before[part]["entries"] > 0
    assert after[part]["entries"] == 0
    for other in set(before) - {part}:
        assert after[other] == before[other]


def test_clearing_nothing_makes_nothing(dioe: Dioe, folder: Path) -> None:
    shown = dioe("cache", "clear", "--yes")
    assert (shown.code, shown.err) == (0, "")
    assert "nothing was deleted" in shown.out
    assert dioe("cache", "clear", "--yes", "--json").json["deleted"] == {}
    assert not folder.exists()


def test_a_damaged_history_is_cleared(dioe: Dioe, filled: Path) -> None:
    (filled / "history.sqlite").write_text("no database" * 10000)
    put(filled / "history.sqlite.damaged-1", b"x" * 100)
    shown = dioe("cache", "clear", "--what", "history", "--yes")
    assert (shown.code, shown.err) == (0, "")
    assert "KiB" in shown.out
    found = dioe("cache", "info", "--json").json["history"]
    assert (found["state"], found["set_aside"]) == ("ok", [])


def test_links_are_deleted_and_not_followed(dioe: Dioe, folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "precious" / "file")
    (folder / "packages").mkdir(parents=True)
    (folder / "packages" / "some-1.0").symlink_to(tmp_path / "precious")
    assert "deleted 1 model " in dioe("cache", "clear", "--yes").out
    assert (tmp_path / "precious" / "file").exists()
    assert not (folder / "packages" / "some-1.0").is_symlink()


@pytest.fixture
def locked(filled: Path) -> Iterator[Path]:
    """A filled cache whose history somebody else holds."""
    connection = sqlite3.connect(filled / "history.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield filled
    connection.close()


def test_what_cant_be_cleared_is_19_and_the_rest_goes(dioe: Dioe, locked: Path) -> None:
    package = locked / "packages" / "some-package-1.2.3"
    with filelock.FileLock(f"{package}.lock"):
        shown = dioe("cache", "clear", "--yes")
    assert shown.code == 19
    assert "history" in shown.err
    assert "locked" in shown.err
    assert f"{package} is being made by another process" in shown.err
    assert "deleted 2 plans" in shown.out
    assert "deleted 1 model " in shown.out
    assert package.exists()
    assert not list((locked / "plans").iterdir())


def test_what_cant_be_deleted_is_named(
    dioe: Dioe, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", fail)
    shown = dioe("cache", "clear", "--what", "plans", "--yes", "--json")
    assert shown.code == 19
    assert "Permission denied" in shown.err
    assert "and 2 more" in shown.err
    assert shown.json["deleted"] == {"plans": {"entries": 0, "size_bytes": 0}}
    assert "Permission denied" in shown.json["failed"]["plans"]


# --- export -------------------------------------------------------------------------------------


def kinds(text: str) -> list[str]:
    return sorted(json.loads(line)["key"]["kind"] for line in text.splitlines())


def test_export_to_a_file(dioe: Dioe, filled: Path, tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    before = files_in(tmp_path)
    shown = dioe("cache", "export", path)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.replace("\n", "") == f"3 measured costs written to {path}"
    assert kinds(path.read_text()) == ["block", "block", "target"]
    assert files_in(tmp_path) - before == {"costs.jsonl"}


def test_export_to_stdout(dioe: Dioe, filled: Path) -> None:
    shown = dioe("cache", "export", "-")
    assert (shown.code, shown.err) == (0, "")
    assert kinds(shown.out) == ["block", "block", "target"]


def test_export_of_nothing(dioe: Dioe, folder: Path, tmp_path: Path) -> None:
    assert dioe("cache", "export", "-").out == ""
    assert "0 measured costs" in dioe("cache", "export", tmp_path / "costs.jsonl").out
    assert (tmp_path / "costs.jsonl").read_text() == ""
    assert not folder.exists()


def test_export_never_overwrites_unless_told(dioe: Dioe, filled: Path, tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    path.write_text("precious")
    is_told(dioe("cache", "export", path), 19, path, "is there already", "--force")
    assert path.read_text() == "precious"
    assert dioe("cache", "export", path, "--force").code == 0
    assert len(kinds(path.read_text())) == 3


def test_a_place_that_cant_be_written_is_19(dioe: Dioe, filled: Path, tmp_path: Path) -> None:
    is_told(dioe("cache", "export", tmp_path), 19, tmp_path)
    is_told(dioe("cache", "export", tmp_path / "no" / "costs.jsonl"), 19, "no folder")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    is_told(dioe("cache", "export", pipe, "--force"), 19, "no regular file")
    assert pipe.is_fifo()


def test_a_history_that_cant_be_read_is_19(dioe: Dioe, locked: Path, tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    path.write_text("precious")
    is_told(dioe("cache", "export", path, "--force"), 19, "locked", "try again")
    is_told(dioe("cache", "export", "-"), 19, "locked")
    assert path.read_text() == "precious"
