"""What is found in a file: errors, and what looks wrong. Each has its place, and what to do."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from dioe.types import ConfigError

_PLACE = re.compile(r"(?P<file>.*):(?P<line>\d+):(?P<column>\d+)", re.DOTALL)


class Severity(enum.StrEnum):
    """How bad it is: an error can't be right; a warning may be, and asks for a second look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: by which rule, where (``file:line:column``), why, what to do."""

    severity: Severity
    rule: str
    place: str
    cause: str
    fix: str

    @classmethod
    def of(cls, error: ConfigError) -> Finding:
        """An error that reading a file raised."""
        return cls(Severity.ERROR, "readable", error.place, error.cause, error.fix)

    @property
    def position(self) -> tuple[str, int, int]:
        """The file, line and column; 0 where only the file is known."""
        match = _PLACE.fullmatch(self.place)
        if match is None:
            return self.place, 0, 0
        return match["file"], int(match["line"]), int(match["column"])
