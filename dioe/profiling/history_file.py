"""The SQLite file of the cost history: opening, migrating and setting it aside.

Each operation opens a connection and closes it again (some 0.2 ms): nothing is shared between
threads or carried over a fork, and a file that was moved or replaced is noticed. The journal is
SQLite's own rollback journal, not a write-ahead log, whose shared memory doesn't work between
machines that share a home directory, and which readers need to write beside the file.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import filelock

from dioe.profiling.history_records import COLUMNS

log = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_ID = 0x44494F45
"""``PRAGMA application_id`` of the file, "DIOE": another program's database is not written to."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """CREATE TABLE costs (
            digest TEXT PRIMARY KEY NOT NULL, family TEXT NOT NULL,
            kind TEXT NOT NULL, subject TEXT NOT NULL, shapes TEXT NOT NULL, target TEXT NOT NULL,
            resources TEXT NOT NULL, options TEXT NOT NULL, versions TEXT NOT NULL,
            hardware TEXT NOT NULL,
            p50_ms REAL, p90_ms REAL, p99_ms REAL, spread_ms REAL,
            runs INTEGER NOT NULL, noisy INTEGER NOT NULL, extra TEXT NOT NULL,
            measured_at TEXT NOT NULL
        )""",
        "CREATE INDEX costs_by_family ON costs (family)",
    ),
)
"""Statements that bring a file from version *i* (``PRAGMA user_version``) to *i* + 1."""


class HistoryState(enum.StrEnum):
    """Whether costs are kept between processes, and if not, what is in the way."""

    OK = "ok"
    ABSENT = "absent"  # nothing was measured yet
    MEMORY = "memory"  # asked to keep nothing between processes
    READ_ONLY = "read-only"
    LOCKED = "locked"
    DAMAGED = "damaged"
    NEWER = "newer"  # written by a newer DIOE
    FULL = "full"  # no space left
    UNUSABLE = "unusable"  # can't be opened


class HistoryProblem(Exception):
    """The file can't be used; ``state`` says how and ``reason`` why."""

    def __init__(self, state: HistoryState, reason: str) -> None:
        super().__init__(f"{state}: {reason}")
        self.state, self.reason = state, reason


class HistoryFile:
    """The file at ``path``. Every failure of its methods is a HistoryProblem.

    A damaged file is renamed to ``NAME.damaged-N`` by ``read`` and ``write``, with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def exists(self) -> bool:
        """True if there is something at the path."""
        return self._identity() is not None

    @property
    def size_bytes(self) -> int:
        """Size of the file, 0 if there is none."""
        try:
            return self.path.stat().st_size
        except OSError:  # `read` tells why
            return 0

    def read(self, work: Callable[[sqlite3.Connection], T], timeout_s: float) -> T | None:
        """What ``work`` gives on one state of the file; None if nothing is there."""
        if not self.exists:
            return None
        try:
            with self._connection(timeout_s) as connection:
                connection.execute("BEGIN")
                version = self._version(connection)
                if version == 0:
                    return None
                if version == len(MIGRATIONS):
                    return work(connection)
            return self._write(work, timeout_s)  # an older file: migrated first
        except _Damaged as damage:
            self._set_aside(damage, timeout_s)
            return None

    def survey(self, timeout_s: float) -> tuple[int, list[tuple[str, str, str]]]:
        """The schema's version and each cost's digest, kind and time, from a file that is there.

        Reads and checks all of the file and changes nothing.
        """
        with self._connection(timeout_s) as connection:
            connection.execute("BEGIN")
            version = self._version(connection)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _Damaged(verdict.strip())
            if version == 0:
                return 0, []
            return version, connection.execute(
                "SELECT digest, CAST(kind AS TEXT), CAST(measured_at AS TEXT) FROM costs"
            ).fetchall()

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        timeout_s: float,
        *,
        level: int = logging.WARNING,
    ) -> T:
        """What ``work`` gives; its changes are kept whole or not at all. Makes the file.

        A damaged file that is set aside is logged with ``level``.
        """
        try:
            return self._write(work, timeout_s)
        except _Damaged as damage:
            self._set_aside(damage, timeout_s, level)
            return self._write(work, timeout_s)

    def check_writable(self, timeout_s: float) -> None:
        """Raise HistoryProblem if the file that is there could not be written to."""
        for place in (self.path, self.path.parent):
            if not _may(place, os.W_OK):
                raise HistoryProblem(HistoryState.READ_ONLY, f"no right to write to {place}")
        with self._connection(timeout_s) as connection:
            connection.execute("BEGIN IMMEDIATE")

    def shrink(self, timeout_s: float) -> None:
        """Give back the space of deleted rows."""
        with self._connection(timeout_s) as connection:
            connection.execute("VACUUM")

    def set_aside_files(self) -> list[Path]:
        """The damaged files that were set aside, with what belonged to them."""
        try:
            return sorted(self.path.parent.glob(f"{self.path.name}.damaged-*"))
        except OSError:  # the folder itself can't be read, which `read` reports
            return []

    def delete_set_aside(self) -> None:
        """Delete the damaged files that were set aside."""
        try:
            for path in self.set_aside_files():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _from_os(error) from None

    def _write(self, work: Callable[[sqlite3.Connection], T], timeout_s: float) -> T:
        self._create()
        with self._connection(timeout_s) as connection:
            connection.execute("BEGIN IMMEDIATE")
            version = self._version(connection)
            for statement in itertools.chain.from_iterable(MIGRATIONS[version:]):
                connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            result = work(connection)
            connection.execute("COMMIT")
            return result

    def _create(self) -> None:
        """Make folder and file for their owner only; SQLite gives its journal the file's mode."""
        if self.exists:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if not self.path.parent.is_dir():
                raise HistoryProblem(
                    HistoryState.UNUSABLE, f"{self.path.parent} is no folder"
                ) from None
        except OSError as error:
            raise _from_os(error) from None

    @contextlib.contextmanager
    def _connection(self, timeout_s: float) -> Iterator[sqlite3.Connection]:
        identity = self._identity()
        try:
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=rw", uri=True, timeout=timeout_s, isolation_level=None
            )
            with contextlib.closing(connection):  # closing rolls back what isn't committed
                connection.text_factory = _decoded
                connection.execute("PRAGMA trusted_schema = OFF")  # the file is data
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except sqlite3.Error as error:
            raise self._problem(error, identity) from error
        except _Damaged as damage:
            damage.identity = identity
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        """The schema's version, 0 for an empty file; raises HistoryProblem if it can't be used."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (filled,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version <= 0 and not filled:
            return 0
        if application != APPLICATION_ID or version <= 0:
            raise HistoryProblem(HistoryState.UNUSABLE, "another program's database")
        if version > len(MIGRATIONS):
            reason = f"its version is {version}, this DIOE reads {len(MIGRATIONS)}"
            raise HistoryProblem(HistoryState.NEWER, reason)
        if version == len(MIGRATIONS):
            found = {row[1] for row in connection.execute("PRAGMA table_info(costs)")}
            missing = [name for name in COLUMNS if name not in found]
            if missing:
                raise _Damaged(f"it has no column {missing[0]}")
        return int(version)

    def _problem(self, error: sqlite3.Error, identity: tuple[int, int] | None) -> HistoryProblem:
        reason = str(error)
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return _Damaged(reason, identity)
        state = _STATES.get(code, HistoryState.UNUSABLE)
        if code == sqlite3.SQLITE_CANTOPEN:
            if self.path.is_dir():
                reason = "a folder is in its place"
            elif not _may(self.path, os.R_OK):
                reason = "no right to read it"
            elif not _may(self.path.parent, os.W_OK):
                state = HistoryState.READ_ONLY  # there's no place for the journal
                reason = f"no right to write to {self.path.parent}"
        return HistoryProblem(state, reason)

    def _identity(self) -> tuple[int, int] | None:
        """Which file is at the path, None if there is none; raises HistoryProblem."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HistoryProblem(HistoryState.UNUSABLE, error.strerror or str(error)) from None
        return found.st_dev, found.st_ino

    def _set_aside(self, damage: _Damaged, timeout_s: float, level: int = logging.WARNING) -> None:
        """Rename the damaged file, unless another process has just done so."""
        try:
            with filelock.FileLock(f"{self.path}.lock", timeout=timeout_s):
                if self._identity() != damage.identity:
                    return
                names = {path.name for path in self.path.parent.iterdir()}
                aside = next(
                    name
                    for number in itertools.count(1)
                    if (name := f"{self.path.name}.damaged-{number}") not in names
                )
                # what belongs to the file goes first: it would spoil a new one
                for suffix in ("-journal", "-wal", "-shm", ""):
                    if self.path.name + suffix in names:
                        self.path.with_name(self.path.name + suffix).rename(
                            self.path.with_name(aside + suffix)
                        )
        except (OSError, filelock.Timeout) as error:
            raise HistoryProblem(
                HistoryState.DAMAGED, f"{damage.reason}; it can't be moved aside: {error}"
            ) from None
        log.log(
            level, "cost history: %s is damaged (%s); it is kept as %s and a new one is started",
            self.path, damage.reason, aside,
        )  # fmt: skip


class _Damaged(HistoryProblem):
    """The file's contents are not what was written."""

    def __init__(self, reason: str, identity: tuple[int, int] | None = None) -> None:
        super().__init__(HistoryState.DAMAGED, reason)
        self.identity = identity


_STATES = {
    sqlite3.SQLITE_BUSY: HistoryState.LOCKED,
    sqlite3.SQLITE_LOCKED: HistoryState.LOCKED,
    sqlite3.SQLITE_READONLY: HistoryState.READ_ONLY,
    sqlite3.SQLITE_FULL: HistoryState.FULL,
}
_OS_STATES = {
    errno.EROFS: HistoryState.READ_ONLY,
    errno.EACCES: HistoryState.READ_ONLY,
    errno.EPERM: HistoryState.READ_ONLY,
    errno.ENOSPC: HistoryState.FULL,
    errno.EDQUOT: HistoryState.FULL,
}


def _from_os(error: OSError) -> HistoryProblem:
    reason = error.strerror or str(error)
    state = _OS_STATES.get(error.errno or 0, HistoryState.UNUSABLE)
    return HistoryProblem(state, f"{reason}: {error.filename}" if error.filename else reason)


def _may(path: Path, mode: int) -> bool:
    """``os.access`` by the rights that opening a file goes by."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
