"""The cost history: what was measured, kept between runs.

A history is never in the way. A file that is read-only, locked, damaged, full or newer than this
DIOE is worked around, with one warning for each of these; costs are then remembered by this
process alone, and written as soon as the file takes them. ``History.info`` says how it stands.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO, TypeVar

from dioe.profiling.history_file import HistoryFile, HistoryProblem, HistoryState
from dioe.profiling.history_records import (
    COLUMNS,
    DIGEST,
    FAMILY,
    KIND,
    MEASURED_AT,
    CostKey,
    CostRecord,
    Row,
    replaces,
    to_json_line,
    to_record,
    to_row,
    to_shapes,
    utc_text,
)
from dioe.types import ConfigError, InputError

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "history.sqlite"

_PATIENCE_S = 5.0
"""How long to wait for another process's lock; one transaction takes milliseconds."""
_SHORT_PATIENCE_S = 0.1
"""The same once somebody has held the lock for longer than that."""
_LOOKING_PATIENCE_S = 0.5
"""The same where a lock is told and not waited for."""
_PAUSE_S = 10.0
"""After a failure the file is left alone for so long."""

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM costs"
_UPSERT = (
    f"INSERT INTO costs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (digest) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
    + " WHERE excluded.noisy <= costs.noisy"  # as history_records.replaces
)
_VALUES_A_QUERY = 500  # SQLite takes at least 999


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """How a history stands. ``reason`` says why its ``state`` isn't ok, and is empty if it is.

    ``entries`` counts costs by kind, the ``unwritten`` ones that only this process knows included.
    ``size_bytes`` is the file's; ``set_aside`` names damaged files kept beside it. ``oldest`` and
    ``newest`` are UTC in ISO 8601 form, empty where there are no entries.
    """

    path: Path | None
    state: HistoryState
    reason: str = ""
    schema_version: int | None = None
    entries: Mapping[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    oldest: str = ""
    newest: str = ""
    unwritten: int = 0
    set_aside: tuple[Path, ...] = ()


@dataclass(slots=True)
class _Memory:
    """What this process knows of one file: the costs that couldn't be written yet, and how it is.

    The lock also keeps this process's file operations apart.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    patience_s: float = _PATIENCE_S
    read_again_at: float = 0.0
    write_again_at: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)


_memories: dict[Path, _Memory] = {}
_memories_lock = threading.Lock()


def _memory_of(path: Path) -> _Memory:
    with _memories_lock:
        return _memories.setdefault(path, _Memory())


def _renew_locks() -> None:
    """In a forked child: another thread of the parent may hold a lock, and isn't here."""
    global _memories_lock  # noqa: PLW0603
    _memories_lock = threading.Lock()
    for memory in _memories.values():
        memory.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class History:
    """Measured costs in ``folder/history.sqlite``; None keeps them in memory only.

    Several threads may use one history, and several processes one folder at once. Every ``put`` is
    on disk when it returns, so an interrupt loses nothing. All histories of one folder in a process
    share what could not be written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._file = None if folder is None else HistoryFile(Path(folder) / FILE_NAME)
        self._memory = _Memory() if self._file is None else _memory_of(self._file.path)

    @property
    def path(self) -> Path | None:
        """The file, which need not exist yet; None for a history in memory."""
        return self._file.path if self._file is not None else None

    def get(self, key: CostKey) -> CostRecord | None:
        """The cost under ``key``, None if it isn't known."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[CostKey]) -> dict[CostKey, CostRecord]:
        """The costs that are known, by key, in the order of ``keys``."""
        wanted = {key.digest: key for key in keys}
        found = self._found(DIGEST, list(wanted))
        return {key: found[digest][1] for digest, key in wanted.items() if digest in found}

    def similar(self, key: CostKey) -> list[tuple[dict[str, tuple[int, ...]], CostRecord]]:
        """The costs under ``key`` for any shapes, its own included, with their shapes.

        Smallest shapes first. See `interpolate`.
        """
        found = [
            (shapes, record)
            for row, record in self._found(FAMILY, [key.family]).values()
            if (shapes := self._decoded(row, to_shapes)) is not None
        ]
        return sorted(found, key=lambda item: sorted(item[0].items()))

    def put(self, key: CostKey, record: CostRecord) -> None:
        """Keep a cost, in place of the one under ``key``; a noisy one never displaces a quiet one.

        Raises InputError for ``extra`` that JSON can't hold, and nothing else.
        """
        self.put_many([(key, record)])

    def put_many(self, costs: Iterable[tuple[CostKey, CostRecord]]) -> None:
        """Keep several costs at once, which is faster than one by one; see `put`."""
        rows = [to_row(key, record) for key, record in costs]
        with self._memory.lock:
            for row in rows:
                old = self._memory.rows.get(row[DIGEST])
                if old is None or replaces(row, old):
                    self._memory.rows[row[DIGEST]] = row
            self.flush()

    def flush(self) -> int:
        """Write what could not be written before; gives the number of costs still unwritten."""
        memory, file = self._memory, self._file
        with memory.lock:
            rows = list(memory.rows.values())
            if file is None or not rows or time.monotonic() < memory.write_again_at:
                return len(rows)
            try:
                file.write(lambda c: c.executemany(_UPSERT, rows), memory.patience_s)
            except HistoryProblem as problem:
                memory.write_again_at = time.monotonic() + _PAUSE_S
                self._work_around(problem)
            else:
                memory.patience_s = _PATIENCE_S
                for row in rows:
                    del memory.rows[row[DIGEST]]
            return len(memory.rows)

    def info(self) -> HistoryInfo:
        """How the history stands. Looks at the whole file and changes nothing."""
        file, state, reason, version = self._file, HistoryState.MEMORY, "", None
        written: list[tuple[str, str, str]] = []
        with self._memory.lock:
            unwritten = list(self._memory.rows.values())
            if file is not None:
                state = HistoryState.ABSENT
                try:
                    if file.exists:
                        version, written = file.survey(_LOOKING_PATIENCE_S)
                        file.check_writable(_LOOKING_PATIENCE_S)
                        state = HistoryState.OK
                except HistoryProblem as problem:
                    state, reason = problem.state, problem.reason
        known = {digest: (kind, moment) for digest, kind, moment in written}
        known |= {row[DIGEST]: (row[KIND], row[MEASURED_AT]) for row in unwritten}
        kinds = Counter(kind for kind, _ in known.values())
        moments = [moment for _, moment in known.values()]
        return HistoryInfo(
            path=self.path,
            state=state,
            reason=reason,
            schema_version=version,
            entries=dict(sorted(kinds.items())),
            size_bytes=file.size_bytes if file is not None else 0,
            oldest=min(moments, default=""),
            newest=max(moments, default=""),
            unwritten=len(unwritten) if file is not None else 0,
            set_aside=tuple(file.set_aside_files()) if file is not None else (),
        )

    def clear(self, older_than_days: float | None = None) -> int:
        """Forget all costs, or those measured longer ago; gives their number.

        Without an age, damaged files that were set aside are deleted too. Raises ConfigError if
        the file can't be written to, InputError for an age that is none.
        """
        before = None if older_than_days is None else _days_ago(older_than_days)
        with self._memory.lock:
            rows = self._memory.rows
            gone = {d for d, row in rows.items() if before is None or row[MEASURED_AT] < before}
            if self._file is not None:
                try:
                    gone |= _delete(self._file, before)
                except HistoryProblem as problem:
                    raise self._told(problem) from None
            for digest in gone & set(rows):
                del rows[digest]
        return len(gone)

    def export(self, stream: TextIO) -> int:
        """Write every cost as a line of JSON, ``{"key": {...}, "record": {...}}``.

        Gives the number of lines. Raises ConfigError if the file can't be read.
        """
        with self._memory.lock:
            unwritten = dict(self._memory.rows)
        count = 0
        for row in self._all_rows():
            line = self._decoded(row, to_json_line)
            if line is None:
                continue
            own = unwritten.get(row[DIGEST])
            if own is not None and replaces(own, row):
                continue  # written below
            unwritten.pop(row[DIGEST], None)
            stream.write(line + "\n")
            count += 1
        for row in unwritten.values():
            stream.write(to_json_line(row) + "\n")
        return count + len(unwritten)

    def _found(self, column: int, values: list[str]) -> dict[str, tuple[Row, CostRecord]]:
        """What is known under these digests or families, by digest."""
        query = f"{_SELECT} WHERE {COLUMNS[column]} IN (%s)"

        def select(connection: sqlite3.Connection) -> list[Row]:
            rows: list[Row] = []
            for start in range(0, len(values), _VALUES_A_QUERY):
                part = values[start : start + _VALUES_A_QUERY]
                rows += connection.execute(query % ", ".join("?" * len(part)), part)
            return rows

        found: dict[str, tuple[Row, CostRecord]] = {}
        with self._memory.lock:
            for row in self._read(select) or []:
                record = self._decoded(row, to_record)
                if record is not None:
                    found[row[DIGEST]] = row, record
            wanted = set(values)
            for digest, row in self._memory.rows.items():
                if row[column] in wanted and (
                    digest not in found or replaces(row, found[digest][0])
                ):
                    found[digest] = row, to_record(row)
        return found

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What ``work`` gives; None where there is no file, or none that can be read now."""
        memory = self._memory
        if self._file is None or time.monotonic() < memory.read_again_at:
            return None
        try:
            return self._file.read(work, memory.patience_s)
        except HistoryProblem as problem:
            memory.read_again_at = time.monotonic() + _PAUSE_S
            self._work_around(problem)
            return None

    def _all_rows(self) -> Iterator[Row]:
        """Every row of the file, a page at a time so that writers needn't wait long."""
        last = ""
        while self._file is not None:
            after = last

            def page(connection: sqlite3.Connection, after: str = after) -> list[Row]:
                query = f"{_SELECT} WHERE digest > ? ORDER BY digest LIMIT {_VALUES_A_QUERY}"
                return connection.execute(query, (after,)).fetchall()

            try:
                with self._memory.lock:
                    rows = self._file.read(page, _PATIENCE_S)
            except HistoryProblem as problem:
                raise self._told(problem) from None
            if not rows:
                return
            yield from rows
            last = rows[-1][DIGEST]

    def _decoded(self, row: Row, decode: Callable[[Row], T]) -> T | None:
        """What the row holds; None, with one warning, if nobody here wrote it."""
        try:
            return decode(row)
        except ValueError as error:
            if "entry" not in self._memory.warned:
                self._memory.warned.add("entry")
                log.warning("cost history: entries of %s are left out: %s", self.path, error)
            return None

    def _work_around(self, problem: HistoryProblem) -> None:
        memory = self._memory
        if problem.state is HistoryState.LOCKED:
            memory.patience_s = _SHORT_PATIENCE_S
        if problem.state not in memory.warned:
            memory.warned.add(problem.state)
            log.warning(
                "cost history: %s can't be used now (%s); what is measured is remembered by this "
                "process only", self.path, problem,
            )  # fmt: skip

    def _told(self, problem: HistoryProblem) -> ConfigError:
        return ConfigError(
            f"the cost history can't be used ({problem})",
            place=str(self.path),
            fix=_FIXES.get(problem.state, "delete or move the file, or choose another folder"),
        )


_FIXES = {
    HistoryState.LOCKED: "try again when the process that holds it is done",
    HistoryState.READ_ONLY: "get the right to write to the folder and the file",
    HistoryState.NEWER: "use the newer DIOE, or delete the file",
    HistoryState.FULL: "make space on the disk",
}


def _delete(file: HistoryFile, before: str | None) -> set[str]:
    """Delete the costs measured before a time, or all; gives their digests."""

    def delete(connection: sqlite3.Connection) -> set[str]:
        where = "WHERE ?1 IS NULL OR measured_at < ?1"
        found = connection.execute(f"SELECT digest FROM costs {where}", (before,))
        digests = {digest for (digest,) in found}
        connection.execute(f"DELETE FROM costs {where}", (before,))
        return digests

    digests: set[str] = set()
    if file.exists:
        # what is set aside goes as well, below
        level = logging.INFO if before is None else logging.WARNING
        digests = file.write(delete, _PATIENCE_S, level=level)
        try:
            file.shrink(_PATIENCE_S)
        except HistoryProblem as problem:  # they are gone all the same
            log.info("cost history: %s keeps its size: %s", file.path, problem)
    if before is None:
        file.delete_set_aside()
    return digests


def _days_ago(days: float) -> str:
    wrong = InputError(f"older_than_days is {days!r}", fix="give a number of days")
    if not days >= 0:
        raise wrong
    try:
        return utc_text(datetime.now(UTC) - timedelta(days=days))
    except OverflowError:
        raise wrong from None
