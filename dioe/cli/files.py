"""Files that commands write: whole or not at all, and never over what they are made from."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dioe.types import ConfigError, InputError


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of files that a command writes, and what such a file begins with."""

    name: str
    beginning: re.Pattern[bytes]


_TOLD_BY_BYTES = 2**20
"""So much of a file tells its kind: tools that sort the keys of JSON put others first."""

PLAN = Kind("a plan", re.compile(rb'\s*\{.*?"format"\s*:\s*"dioe-(pipeline-)?plan"', re.DOTALL))
MODELLED_PLAN = Kind(
    "a modelled plan", re.compile(rb'\s*\{.*?"format"\s*:\s*"dioe-modelled-plan"', re.DOTALL)
)
TRACE = Kind("a trace", re.compile(rb'\s*(\[|\{.*?"traceEvents"\s*:)', re.DOTALL))
PICTURE_SVG = Kind("an SVG picture", re.compile(rb"(<\?xml.*?\?>\s*)?\s*<svg\b", re.DOTALL))
POOL = Kind(  # of its keys only the devices have to be there, which modelled ones' files have too
    "a pool",
    re.compile(
        rb"(.*?\n)?[\"']?(format[\"']?\s*:\s*[\"']?dioe-pool|devices[\"']?\s*:(?!.*peak_tflops))",
        re.DOTALL,
    ),
)
SPLIT = Kind(
    "a split of a placement",
    re.compile(rb'\s*\{\s*("[a-zA-Z]+"\s*:\s*[-+.eE\d]+\s*,\s*)*"(cpus|fpgas)"\s*:'),
)
HTML = Kind(
    "an HTML page",
    re.compile(
        rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*|<\?xml.*?\?>\s*)*<(!doctype\s+html|html)\b",
        re.DOTALL | re.IGNORECASE,
    ),
)
VERIFICATION = Kind(
    "a report of dioe verify", re.compile(rb'\s*\{.*?"format"\s*:\s*"dioe-verification"', re.DOTALL)
)
ARRAY = Kind("a .npy array", re.compile(rb"\x93NUMPY"))
PICTURE = Kind("a picture", re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF....WEBP", re.DOTALL))


def check_output(path: Path, kind: Kind, inputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Raise if writing ``path`` would lose another file: said before long work, not after.

    A file of the same ``kind`` may be replaced, and an empty one; never one of the command's own
    ``inputs`` (None is one that wasn't given), be it by another name or through a link. Raises
    InputError then, and ConfigError where a file can't be put there at all.
    """
    check_place(path)
    if not path.exists():
        return
    check_not_read(path, inputs)
    try:
        with path.open("rb") as stream:
            beginning = stream.read(_TOLD_BY_BYTES)
    except OSError as error:
        raise _cant_write(path, error) from None
    if beginning and not kind.beginning.match(beginning):
        raise InputError(
            f"is there already and isn't {kind.name}: it would be lost",
            place=str(path),
            fix="choose another name, or move that file away",
        )


def check_not_read(path: Path, inputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Raise InputError if ``path`` is one of ``inputs``, be it by another name."""
    for given in inputs:
        if given is not None and _is_file_of(given, path):
            raise InputError(
                f"is what this command reads ({given}), and would be overwritten",
                place=str(path),
                fix="choose another name for what is written",
            )


def _is_file_of(name: str | os.PathLike[str], path: Path) -> bool:
    try:
        return os.path.samefile(name, path)
    except (OSError, ValueError):  # one isn't there: whoever reads it says so
        return False


def check_place(path: Path) -> None:
    """Raise ConfigError if a file can't be put at ``path``: said before long work, not after.

    A file may be replaced; a device, a pipe or a socket (``/dev/null``) never is.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long, a link to itself, a NUL
        raise _cant_write(path, error) from None
    if path.is_dir():
        raise ConfigError("is a folder", place=str(path), fix="name a file")
    if path.exists() and not path.is_file():
        raise ConfigError(
            "is no regular file, and would be replaced by one", place=str(path), fix="name a file"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(
            f"there is no folder {path.parent}", place=str(path), fix="make it, or choose another"
        )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises ConfigError with the reason."""
    write_files({path: text.encode()})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write every file, or none if one of them can't be; raises ConfigError with the reason.

    Each gets its name once all are written; a link's file is replaced and not the link. Parent
    folders have to be there.
    """
    umask = os.umask(0)
    os.umask(umask)
    with contextlib.ExitStack() as undo:
        renames: list[tuple[str, Path]] = []
        for path, content in contents.items():
            check_place(path)
            try:
                place = Path(os.path.realpath(path))
                handle, name = tempfile.mkstemp(dir=place.parent, prefix=".dioe-")
                undo.callback(Path(name).unlink, missing_ok=True)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                os.chmod(name, 0o666 & ~umask)  # mkstemp makes files for their owner only
            except OSError as error:
                raise _cant_write(path, error) from None
            renames.append((name, place))
        for name, place in renames:
            try:
                os.replace(name, place)
            except OSError as error:
                raise _cant_write(place, error) from None


def _cant_write(path: Path, error: OSError | ValueError) -> ConfigError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ConfigError(f"can't write: {reason}", place=str(path), fix="choose another place")
