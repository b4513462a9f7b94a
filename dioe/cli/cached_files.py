"""What lies in the cache directory as files: tuned plans, fetched packages, exported models.

Only names that DIOE gives are counted and deleted, since the directory is the user's to choose and
may hold other things.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import filelock

from dioe.types import ConfigError

# the names that dioe.tuning.plan_cache, dioe.cli.fetch and benchmarks.zoo.export give
_PLAN = re.compile(r"[0-9a-f]{64}\.json")
_UNFINISHED_PLAN = re.compile(r"tmp\w+\.tmp")
_PACKAGE = re.compile(r"[A-Za-z0-9][\w.\-]*-\d[\w.+!]*")
_EXPORT = re.compile(r"[\w.\-]+-[0-9a-f]{16}\.onnx")
_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Contents:
    """One part of the cache. ``reason`` says why if its ``state`` is neither ok nor absent.

    ``oldest`` and ``newest`` are UTC in ISO 8601 form, empty where there are no entries.
    ``leftovers`` counts files of interrupted processes and damaged ones, which are no entries.
    """

    path: Path
    state: str
    reason: str = ""
    entries: int = 0
    size_bytes: int = 0
    oldest: str = ""
    newest: str = ""
    leftovers: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    """Paths that belong together, and the lock under which they are made, if there is one."""

    paths: tuple[Path, ...]
    lock: Path | None = None
    counts: bool = True


def plans(folder: Path) -> Contents:
    """The tuned plans in the cache ``folder``."""
    return _contents(folder / "plans", _plan_items(folder))


def models(folder: Path) -> Contents:
    """The fetched packages and the exported models in the cache ``folder``."""
    return _contents(folder / "packages", _model_items(folder))


def delete_plans(folder: Path) -> None:
    """Delete the tuned plans; raises ConfigError naming what is left."""
    _delete(_plan_items(folder))


def delete_models(folder: Path) -> None:
    """Delete fetched packages and exported models; raises ConfigError naming what is left."""
    _delete(_model_items(folder))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 for what isn't there."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(size_of(inner) for inner in list(path.iterdir()))
        return path.lstat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return 0


def _plan_items(folder: Path) -> Iterator[_Item]:
    for path in _listed(folder / "plans"):
        if _PLAN.fullmatch(path.name):
            yield _Item((path,))
        elif _UNFINISHED_PLAN.fullmatch(path.name):
            yield _Item((path,), counts=False)


def _model_items(folder: Path) -> Iterator[_Item]:
    for path in _listed(folder / "packages"):
        if _PACKAGE.fullmatch(path.name) and path.is_dir():
            yield _Item((path,), path.with_name(path.name + ".lock"))
    for path in _listed(folder / "exports"):
        if _EXPORT.fullmatch(path.name):
            yield _Item((path, path.with_suffix(".sha256")), path.with_suffix(".lock"))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _contents(path: Path, items: Iterable[_Item]) -> Contents:
    try:
        found = list(items)
        counted = [item for item in found if item.counts]
        made = [_modified(item.paths[0]) for item in counted]
        size_bytes = sum(size_of(inner) for item in found for inner in item.paths)
    except OSError as error:
        return Contents(path, "unusable", reason=_reason(error))
    return Contents(
        path,
        "ok" if found else "absent",
        entries=len(counted),
        size_bytes=size_bytes,
        oldest=min(made, default=""),
        newest=max(made, default=""),
        leftovers=len(found) - len(counted),
    )


def _modified(path: Path) -> str:
    moment = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    return moment.isoformat(timespec="milliseconds")


def _delete(items: Iterable[_Item]) -> None:
    left: list[str] = []
    try:
        for item in list(items):
            try:
                _delete_item(item)
            except filelock.Timeout:
                left.append(f"{item.paths[0]} is being made by another process")
            except OSError as error:
                left.append(_reason(error))
    except OSError as error:  # the folder can't be listed
        left.append(_reason(error))
    if left:
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        raise ConfigError(left[0] + more)


def _delete_item(item: _Item) -> None:
    with contextlib.ExitStack() as held:
        if item.lock is not None:
            held.enter_context(filelock.FileLock(item.lock, timeout=_PATIENCE_S))
        for path in item.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if item.lock is not None:  # who waits for it makes the same files anew, and whole
            item.lock.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason
