"""Files that commands write: all of them whole, or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dioe.types import ConfigError


def check_place(path: Path) -> None:
    """Raise ConfigError if a file can't be put at ``path``: said before long work, not after.

    A file may be replaced; a device, a pipe or a socket (``/dev/null``) never is.
    """
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


def _cant_write(path: Path, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"can't write: {reason}", place=str(path), fix="choose another place")
