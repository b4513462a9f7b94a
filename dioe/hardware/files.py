"""Reading the small text files by which Linux describes a machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileTree:
    """The files under ``root``, named by absolute paths such as ``/proc/cpuinfo``.

    On the machine itself ``root`` is ``/``; tests hand in another machine's files.
    """

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """Where the file of that name is."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Contents without white space at the ends; None if the file can't be read.

        Not every kernel and container has every file, and each one that is missing has a
        meaning of its own to the caller ("no limit", "not known").
        """
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def numbered(self, folder: str, prefix: str) -> list[tuple[int, str]]:
        """Entries ``<prefix><number>`` of a folder, with their paths, by number."""
        try:
            names = [entry.name for entry in self.path(folder).iterdir()]
        except OSError:
            return []
        numbers = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        return sorted((int(n), f"{folder}/{prefix}{n}") for n in numbers if n.isdecimal())
