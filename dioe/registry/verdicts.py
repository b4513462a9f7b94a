"""Verdicts on plugins that were tried, kept in the user's cache directory: the price is paid once.

A verdict is data, and is believed only if nobody but the user can have written it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from dioe.cachedir import cache_dir
from dioe.registry.status import PluginState, PluginStatus
from dioe.types import ABI_VERSION

log = logging.getLogger(__name__)

FORMAT, VERSION = "dioe-plugin-verdict", 1
HARM_IS_BELIEVED_S = 86_400.0
"""For a day: what made a plugin hang or crash (a driver) may have been repaired since."""

MAX_FILES = 5000
MAX_VERDICT_BYTES = 1 << 16


def plugin_key(point: importlib.metadata.EntryPoint) -> str | None:
    """A hash of all that the verdict may depend on and that is cheap to look at; None if the plugin
    can't be told from another (it belongs to no distribution)."""
    if point.dist is None:
        return None
    try:
        facts = {
            "point": [point.group, point.name, point.value],
            "distribution": [point.dist.name, point.dist.version],
            "requires": sorted(_required_versions(point.dist)),
            "files": sorted({*_recorded_files(point.dist), *_module_files(point.module)}),
            "python": [sys.version, EXTENSION_SUFFIXES],  # sysconfig isn't thread-safe at first
            "executable": sys.executable,
            "machine": [platform.node(), platform.machine()],
            "dioe": [importlib.metadata.version("dioe"), ABI_VERSION],
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        log.info("plugin %s has no key, it is tried each time: %s", point.name, error)
        return None


def _required_versions(distribution: importlib.metadata.Distribution) -> Iterator[list[str]]:
    for requirement in distribution.requires or ():
        name = re.match(r"[\w.-]+", requirement)
        if name is not None:
            try:
                yield [name[0], importlib.metadata.version(name[0])]
            except importlib.metadata.PackageNotFoundError:
                yield [name[0], ""]


def _recorded_files(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, ...]]:
    for file in (distribution.files or ())[:MAX_FILES]:
        if file.suffix != ".pyc":
            yield _facts(Path(str(distribution.locate_file(file))))


def _module_files(module: str) -> Iterator[tuple[str, ...]]:
    """Files of the entry point's top-level module, which an editable install doesn't record."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None:
        return
    if spec.origin is not None and not spec.submodule_search_locations:
        yield _facts(Path(spec.origin))
    left = MAX_FILES
    for folder in spec.submodule_search_locations or ():
        for root, folders, files in os.walk(folder):
            folders[:] = sorted(set(folders) - {"__pycache__"})
            for file in sorted(files)[:left]:
                left -= 1
                yield _facts(Path(root, file))


def _facts(path: Path) -> tuple[str, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (str(path),)
    return (str(path), str(found.st_size), str(found.st_mtime_ns))


def known_verdict(key: str, name: str, source: str) -> list[PluginStatus] | None:
    """An empty list if the plugin is known to have passed, its status if it did harm, else None."""
    path = _folder() / f"{key}.json"
    try:
        text = _read_own(path)
        data = json.loads(text)
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            return None
        passed, reason, at = data["passed"], data["reason"], data["tried_at"]
        if not isinstance(reason, str) or not isinstance(at, (int, float)):
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.info("the verdict on plugin %s can't be used: %s", name, error)
        return None
    if passed is True:
        return []
    if not 0 <= time.time() - at < HARM_IS_BELIEVED_S:
        return None
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
    reason += f" (tried {when}; DIOE_PLUGIN_TRIAL=always tries again)"
    return [PluginStatus(name, PluginState.FAILED, reason, source)]


def _read_own(path: Path) -> str:
    """The text of a file that only this user can write; raises OSError, ValueError."""
    for place in (path.parent, path):
        found = place.stat(follow_symlinks=False)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{place} can be written by others")
    with path.open("rb") as file:
        data = file.read(MAX_VERDICT_BYTES + 1)
    if len(data) > MAX_VERDICT_BYTES:
        raise ValueError("it is too long")
    return data.decode()


def keep_verdict(key: str, reason: str) -> None:
    """Keep that a plugin passed (no reason) or did harm. Does nothing where nothing can be kept."""
    data = {
        "format": FORMAT, "version": VERSION,
        "passed": not reason, "reason": reason, "tried_at": time.time(),
    }  # fmt: skip
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)  # owner-only
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.replace(name, folder / f"{key}.json")
    except OSError as error:
        log.info("a verdict can't be kept in %s: %s", folder, error)


def _folder() -> Path:
    return cache_dir() / "plugins"
