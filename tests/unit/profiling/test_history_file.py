"""Trouble with the file of the cost history never gets in the way, and is told once.

Each kind is made for real where that is possible: damage, locks, rights (tests that run as root
give them up), a newer version; a full disk by SQLite's own page limit.
"""

from __future__ import annotations

import io
import logging
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

from dioe.profiling import History, HistoryState, history, history_file
from dioe.types import ConfigError
from tests.unit.profiling.costs import (
    KEY,
    cost,
    file_of,
    forget,
    in_processes,
    key,
    p50,
    put_many_times,
)

NOBODY = 65534


@contextmanager
def warned(caplog: pytest.LogCaptureFixture, *says: object, times: int = 1) -> Iterator[None]:
    """Assert that the block warns so many times, and says this."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dioe"):
        yield
    assert len(caplog.records) == times, caplog.text
    for text in says:
        assert str(text) in caplog.text


def works_in_memory(folder: Path, *, reads: bool = False) -> None:
    """Assert that histories of this folder remember what they can't write."""
    for i in range(3):
        History(folder).put(key(f"new-{i}"), cost(float(i)))
    History(folder).put(key("new-1"), cost(9.0, noisy=True))
    found = History(folder).get_many([KEY, *(key(f"new-{i}") for i in range(4))])
    assert [record.p50_ms for record in found.values()] == [1.5] * reads + [0.0, 1.0, 2.0]
    assert len(History(folder).similar(KEY)) == int(reads)
    assert History(folder).flush() == 3
    info = History(folder).info()
    assert info.unwritten == 3
    assert info.reason
    assert info.entries == {"block": 3 + reads}


def told(act: Callable[[], object], says: str) -> str:
    """Assert that this raises a ConfigError that says so; gives its fix."""
    with pytest.raises(ConfigError, match=says) as caught:
        act()
    return caught.value.fix


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def spoil(path: Path) -> None:
    """Overwrite all pages but the first."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + random.Random(5).randbytes(len(data) - 4096))


def other_columns(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE costs RENAME COLUMN p50_ms TO median_ms")
    connection.commit()
    connection.close()


def no_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE costs")
    connection.execute("CREATE TABLE other (a)")
    connection.commit()
    connection.close()


DAMAGES = {
    "text": lambda path: path.write_text("not a database at all, but some text" * 200),
    "noise": lambda path: path.write_bytes(random.Random(3).randbytes(5000)),
    "cut": cut,
    "spoiled": spoil,
    "other columns": other_columns,
    "no table": no_table,
}


@pytest.fixture
def filled(folder: Path) -> Path:
    """A folder whose history has 101 costs, KEY among them."""
    kept = History(folder)
    kept.put_many((key(i), cost(extra={"filler": "x" * 500})) for i in range(100))
    kept.put(KEY, cost())
    forget(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("first", ["get", "put"])
def test_a_damaged_file_is_set_aside(
    filled: Path, caplog: pytest.LogCaptureFixture, damage: str, first: str
) -> None:
    path = file_of(filled)
    DAMAGES[damage](path)
    contents = path.read_bytes()
    path.with_name(path.name + "-journal").write_text("of the damaged file")
    told = History(filled).info()
    assert told.state is HistoryState.DAMAGED
    assert told.reason
    assert path.read_bytes() == contents
    kept = History(filled)
    with warned(caplog, path, "history.sqlite.damaged-1", "new one"):
        if first == "get":
            assert kept.get(key(50)) is None
        kept.put(KEY, cost(7.0))
        assert p50(kept.get(KEY)) == 7.0
    aside = path.with_name("history.sqlite.damaged-1")
    assert aside.read_bytes() == contents
    assert kept.info().state is HistoryState.OK
    assert aside in kept.info().set_aside
    assert forget(filled).info().entries == {"block": 1}
    DAMAGES["text"](path)
    with warned(caplog, "history.sqlite.damaged-2"):
        kept.put(KEY, cost(8.0))
    assert p50(forget(filled).get(KEY)) == 8.0
    assert kept.clear() == 1
    assert {p.name for p in filled.iterdir()} == {"history.sqlite", "history.sqlite.lock"}


def test_clearing_a_damaged_file_leaves_none(
    filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES["noise"](file_of(filled))
    with warned(caplog, times=0):
        assert History(filled).clear() == 0
    assert History(filled).info().state is HistoryState.OK
    assert History(filled).info().set_aside == ()


def test_another_process_may_be_faster_with_a_damaged_file(
    filled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has put into the new file meanwhile stays."""
    path = file_of(filled)
    DAMAGES["text"](path)
    acquire = filelock.FileLock.acquire

    def slow(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
        path.rename(path.with_name("elsewhere"))
        in_processes(put_many_times, [(filled, 1, 1)])
        return acquire(*given, **named)

    monkeypatch.setattr(filelock.FileLock, "acquire", slow)
    with warned(caplog, times=0):
        History(filled).put(KEY, cost())
    assert len(forget(filled).get_many([KEY, key("1-0"), key("shared")])) == 3


def test_damage_that_cant_be_moved_is_left(
    filled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES["text"](file_of(filled))
    contents = file_of(filled).read_bytes()

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", fail)
    with warned(caplog, "can't be moved aside", "Permission denied"):
        works_in_memory(filled)
    assert file_of(filled).read_bytes() == contents
    assert History(filled).info().state is HistoryState.DAMAGED


def test_a_damaged_entry_is_left_out_and_measured_again(
    filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {
        "extra": "{", "noisy": "maybe", "runs": "many", "p50_ms": "fast", "measured_at": "once",
        "p90_ms": -1, "p99_ms": b"\xff", "spread_ms": "\udcff".encode("utf-8", "surrogatepass"),
    }  # fmt: skip
    connection = sqlite3.connect(file_of(filled))
    for i, (column, value) in enumerate(changes.items()):
        connection.execute(
            f"UPDATE costs SET {column} = ? WHERE digest = ?", (value, key(i).digest)
        )
    connection.execute("UPDATE costs SET extra = '[]' WHERE digest = ?", (key(8).digest,))
    connection.commit()
    connection.close()
    kept = History(filled)
    with warned(caplog, "left out"):
        assert list(kept.get_many(key(i) for i in range(10))) == [key(9)]
    assert kept.export(io.StringIO()) == 92
    assert kept.info().state is HistoryState.OK
    kept.put_many((key(i), cost(3.0, noisy=i == 1)) for i in range(9))
    assert len(forget(filled).get_many(key(i) for i in range(10))) == 10


def test_a_newer_file_is_left_alone(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    connection = sqlite3.connect(file_of(filled))
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    contents = file_of(filled).read_bytes()
    with warned(caplog, "newer", "99"):
        works_in_memory(filled)
    assert "newer DIOE" in told(History(filled).clear, "newer")
    assert "newer DIOE" in told(lambda: History(filled).export(io.StringIO()), "newer")
    assert History(filled).info().state is HistoryState.NEWER
    assert file_of(filled).read_bytes() == contents
    assert [path.name for path in filled.iterdir()] == [history.FILE_NAME]


def test_another_programs_database_is_left_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    connection = sqlite3.connect(file_of(folder))
    connection.execute("CREATE TABLE moz_places (url)")
    connection.commit()
    connection.close()
    contents = file_of(folder).read_bytes()
    with warned(caplog, "another program's database"):
        works_in_memory(folder)
    assert History(folder).info().state is HistoryState.UNUSABLE
    assert file_of(folder).read_bytes() == contents


def test_an_older_file_is_migrated(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (
        "ALTER TABLE costs ADD COLUMN energy_mj REAL",
        "UPDATE costs SET energy_mj = 2 * p50_ms",
    )
    monkeypatch.setattr(history_file, "MIGRATIONS", (*history_file.MIGRATIONS, later))
    assert History(filled).info().schema_version == 1
    assert History(filled).info().entries == {"block": 101}
    assert p50(History(filled).get(KEY)) == 1.5
    assert History(filled).info().schema_version == 2
    connection = sqlite3.connect(file_of(filled))
    (energy,) = connection.execute("SELECT sum(energy_mj) FROM costs").fetchone()
    connection.close()
    assert energy == pytest.approx(303.0)


def test_a_migration_that_fails_changes_nothing(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = file_of(filled).read_bytes()
    later = ("DELETE FROM costs", "CREATE NONSENSE")
    with monkeypatch.context() as patched:
        patched.setattr(history_file, "MIGRATIONS", (*history_file.MIGRATIONS, later))
        assert History(filled).get(KEY) is None
        assert file_of(filled).read_bytes() == contents
    assert p50(History(filled).get(KEY)) == 1.5


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else holds the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


def test_a_locked_file_is_worked_around(
    filled: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_SHORT_PATIENCE_S", 0.01)
    History(filled)._memory.patience_s = 0.2
    with locked(file_of(filled)), warned(caplog, "locked"):
        start = time.monotonic()
        works_in_memory(filled)
        assert time.monotonic() - start < 2.0
        assert History(filled).info().state is HistoryState.LOCKED
    # what was remembered is written with the next one
    History(filled).put(key("last"), cost())
    assert forget(filled).info().entries == {"block": 105}
    assert forget(filled).info().state is HistoryState.OK


def test_a_file_that_could_not_be_used_is_left_alone_for_a_while(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_PAUSE_S", 100.0)
    kept = History(filled)
    kept._memory.patience_s = 0.2
    with locked(file_of(filled)):
        start = time.monotonic()
        for i in range(50):
            kept.put(key(f"new-{i}"), cost())
            assert kept.get(KEY) is None
        assert time.monotonic() - start < 1.0
    assert kept.flush() == 50
    kept._memory.write_again_at = kept._memory.read_again_at = 0.0
    assert kept.flush() == 0
    assert p50(kept.get(KEY)) == 1.5


def test_clear_and_export_tell_of_a_lock(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_PATIENCE_S", 0.05)
    with locked(file_of(filled)):
        assert "try again" in told(History(filled).clear, "locked")
        assert "try again" in told(lambda: History(filled).export(io.StringIO()), "locked")
    assert History(filled).info().entries == {"block": 101}


def test_a_full_disk_is_worked_around(
    filled: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def full(*given: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*given, **named)
        connection.execute("PRAGMA max_page_count = 1")  # no more than there are
        return connection

    kept = History(filled)
    filler = {"filler": "x" * 100_000}
    with monkeypatch.context() as patched, warned(caplog, "full"):
        patched.setattr(sqlite3, "connect", full)
        for i in range(3):
            kept.put(key(f"new-{i}"), cost(extra=filler))
        assert p50(kept.get(KEY)) == 1.5
        assert p50(kept.get(key("new-1"))) == 1.5
    assert kept.flush() == 0
    assert forget(filled).info().entries == {"block": 104}


@pytest.fixture
def not_root() -> Iterator[Callable[[], None]]:
    """Call it to give up root's rights, for which no file is read-only, until the test ends."""
    user = os.geteuid()
    yield lambda: os.seteuid(NOBODY) if user == 0 else None
    if user == 0:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that a user without rights can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="dioe-test-", dir="/tmp") as name:
        os.chmod(name, 0o777)
        yield Path(name)


def handed_over(path: Path, mode: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, -1)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"), [(0o555, 0o444), (0o555, 0o644), (0o755, 0o444)]
)
def test_read_only_is_read_and_worked_around(
    public: Path,
    not_root: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
    folder_mode: int,
    file_mode: int,
) -> None:
    folder = public / "cache"
    History(folder).put(KEY, cost())
    handed_over(file_of(folder), file_mode)
    handed_over(folder, folder_mode)
    not_root()
    forget(folder)
    try:
        with warned(caplog, "read-only"):
            works_in_memory(folder, reads=True)
        info = History(folder).info()
        assert info.state is HistoryState.READ_ONLY
        assert "no right to write to" in info.reason
        out = io.StringIO()
        assert History(folder).export(out) == 4
        assert "right to write" in told(History(folder).clear, "read-only")
        assert len(History(folder).get_many([KEY, key("new-0")])) == 2
    finally:
        folder.chmod(0o755)
    file_of(folder).chmod(0o644)
    assert History(folder).flush() == 0
    assert forget(folder).info().entries == {"block": 4}


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_even_be_read_is_worked_around(
    public: Path, not_root: Callable[[], None], caplog: pytest.LogCaptureFixture, what: str
) -> None:
    folder = public / "cache"
    History(folder).put(KEY, cost())
    handed_over(file_of(folder), 0 if what == "file" else 0o600)
    handed_over(folder, 0o700 if what == "file" else 0)
    not_root()
    forget(folder)
    try:
        with warned(caplog, "unusable"):
            works_in_memory(folder)
        assert History(folder).info().state is HistoryState.UNUSABLE
    finally:
        folder.chmod(0o700)


def test_a_folder_that_may_not_be_made(
    public: Path, not_root: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    handed_over(public, 0o555)
    not_root()
    with warned(caplog, "Permission denied", public):
        for i in range(3):
            History(public / "cache").put(key(i), cost())
    assert len(History(public / "cache").get_many(key(i) for i in range(3))) == 3


@pytest.mark.parametrize("where", ["", "cache", "cache/history.sqlite"])
def test_something_else_in_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """A file where a folder is needed, and the other way round."""
    root = tmp_path / "root"
    obstacle = root / where
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    if where == "cache/history.sqlite":
        obstacle.mkdir()
    else:
        obstacle.write_text("in the way")
    with warned(caplog, root):
        for i in range(3):
            History(root / "cache").put(key(i), cost())
        assert len(History(root / "cache").get_many(key(i) for i in range(3))) == 3
    assert History(root / "cache").info().state is HistoryState.UNUSABLE
    assert obstacle.is_dir() or obstacle.read_text() == "in the way"
    assert History(root / "cache").flush() == 3
