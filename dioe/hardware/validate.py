"""Validation: what a file of DIOE's is, all that is wrong in it, and what looks wrong.

The kind of file is told by its content: ``format: dioe-device``, ``format: dioe-pool``, a hardware
profile by its key ``hardware``, ``format: dioe-null-devices``. The last belongs to a backend, which
reads it itself; here it is only recognised.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pydantic import BaseModel

from dioe.hardware import catalogue, descriptor, pool_file
from dioe.hardware.descriptor import DeviceDescriptor
from dioe.hardware.findings import Finding, Severity
from dioe.hardware.lint import lint_descriptor, shown
from dioe.hardware.lint_pool import lint_pool
from dioe.hardware.pool_file import PoolFile, PoolParts, gather_pool
from dioe.hardware.profiles import HardwareSection, ProfileFile, misplaced_options
from dioe.hardware.quantities import BANDWIDTH, SIZE
from dioe.hardware.schema_errors import parse_or_errors
from dioe.types import ConfigError
from dioe.yaml_text import Document, known_key, read_document

NULL_FORMAT = "dioe-null-devices"


class FileKind(enum.StrEnum):
    """What sort of file it is."""

    DEVICE = "device"
    POOL = "pool"
    PROFILE = "profile"
    NULL_DEVICES = "null devices"
    UNKNOWN = "unknown"


class State(enum.StrEnum):
    """What came out for a file, best first."""

    OK = "ok"
    UNCHECKED = "unchecked"
    WARNINGS = "warnings"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class Report:
    """What a file is, in a few words, and what was found in it, by place."""

    file: str
    kind: FileKind
    summary: str
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> list[Finding]:
        """What can't be right."""
        return [f for f in self.findings if f.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """What asks for a second look."""
        return [f for f in self.findings if f.severity is Severity.WARNING]

    @property
    def state(self) -> State:
        """The worst of the findings; ``unchecked`` for a file that somebody else has to judge."""
        if self.errors:
            return State.ERRORS
        if self.warnings:
            return State.WARNINGS
        return State.UNCHECKED if self.kind is FileKind.NULL_DEVICES else State.OK


def validate(path: str | PathLike[str]) -> Report:
    """What is wrong in a file: every error that can be told, else what lint finds.

    Raises nothing: a file that can't be read is a report with that error.
    """
    try:
        document = read_document(Path(path))
        kind = _kind(document)
    except ConfigError as error:
        return _report(str(path), FileKind.UNKNOWN, "unreadable", [Finding.of(error)])
    return {
        FileKind.DEVICE: _device,
        FileKind.POOL: _pool,
        FileKind.PROFILE: _profile,
        FileKind.NULL_DEVICES: _null_devices,
    }[kind](document)


def shipped() -> list[Path]:
    """Every file of the catalogue."""
    return [
        catalogue.folder(section) / f"{name}.yaml"
        for section in (catalogue.DEVICES, catalogue.POOLS)
        for name in catalogue.names(section)
    ]


def find_file(name: str) -> Path:
    """The file that a user means: a path, or a name in the catalogue. Raises ConfigError."""
    if Path(name).suffix in (".yaml", ".yml") or "/" in name or _exists(name):
        return Path(name)
    sections = (catalogue.DEVICES, catalogue.POOLS)
    for section in sections:
        found = catalogue.path_of(name, section)
        if found is not None:
            return found
    known = [known for section in sections for known in catalogue.names(section)]
    close = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        "no such file, and no such name in the catalogue",
        place=name,
        fix=f"did you mean {close[0]!r}?" if close else "check the path",
    )


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # a name too long, or with a NUL: reading it tells
        return True


_FORMATS = {
    descriptor.FORMAT: FileKind.DEVICE,
    pool_file.FORMAT: FileKind.POOL,
    NULL_FORMAT: FileKind.NULL_DEVICES,
}
_MODELS: dict[FileKind, type[BaseModel]] = {
    FileKind.POOL: PoolFile,
    FileKind.DEVICE: DeviceDescriptor,
    FileKind.PROFILE: ProfileFile,
}


def _kind(document: Document) -> FileKind:
    if "format" in document.data:
        written = document.data["format"]
        if isinstance(written, str) and written in _FORMATS:
            return _FORMATS[written]
        raise ConfigError(
            f"the format {written!r:.60} is none of DIOE's",
            place=document.place(("format",)),
            fix=known_key(str(written)[:60], _FORMATS).replace("keys", "formats"),
        )
    # without the header: what its keys look like
    likeness = {kind: _likeness(document, model) for kind, model in _MODELS.items()}
    best = max(likeness, key=likeness.__getitem__)
    if not likeness[best]:
        raise ConfigError(
            "none of the keys is of a file of DIOE's",
            place=document.place(()),
            fix=f"begin it with 'format: …': one of {', '.join(_FORMATS)}; or with 'hardware:'",
        )
    return best


_LIKE = 0.8
"""Of two keys, of which one is the other misspelt (``difflib``'s ratio)."""


def _likeness(document: Document, model: type[BaseModel]) -> int:
    known = list(model.model_fields)
    return sum(bool(difflib.get_close_matches(key, known, 1, _LIKE)) for key in document.data)


def _report(file: str, kind: FileKind, summary: str, findings: Iterable[Finding] = ()) -> Report:
    unique = dict.fromkeys(findings)  # one place may be met twice: by both directions of a link
    first = sorted(unique, key=lambda f: (f.position[0] != file, f.position, f.severity))
    return Report(file, kind, summary, tuple(first))


def _errors(errors: Sequence[ConfigError]) -> Iterator[Finding]:
    return map(Finding.of, errors)


def _device(document: Document) -> Report:
    found = parse_or_errors(document, DeviceDescriptor)
    if isinstance(found, list):
        return _report(document.file, FileKind.DEVICE, "device", _errors(found))
    if found.backend is not None:
        misplaced = list(misplaced_options(found.backend, document, ("backend",)))
        if misplaced:
            return _report(document.file, FileKind.DEVICE, "device", _errors(misplaced))
    memory = found.memory
    parts = [
        _counted(len(found.peaks), "peak"),
        "" if memory.size is None else SIZE.write(memory.size.value),
        "" if memory.bandwidth is None else shown(BANDWIDTH, memory.bandwidth.value),
    ]
    summary = f"device {found.id}: {', '.join(filter(None, parts))}"
    return _report(document.file, FileKind.DEVICE, summary, lint_descriptor(found, document))


def _pool(document: Document) -> Report:
    parts, errors = gather_pool(document)
    if errors:
        return _report(document.file, FileKind.POOL, "pool", _errors(errors))
    return _report(document.file, FileKind.POOL, _pool_summary(parts), lint_pool(parts))


def _pool_summary(parts: PoolParts) -> str:
    listed = ", ".join(
        f"{device.id} ({device.device})" if device.device else device.id for device in parts.devices
    )
    links = _counted(len(parts.links), "link") if parts.links else "no links"
    buses = f", {_counted(len(parts.buses), 'bus', 'buses')}" if parts.buses else ""
    return f"pool of {listed}; {links}{buses}"


def _profile(document: Document) -> Report:
    found = parse_or_errors(document, ProfileFile)
    if isinstance(found, list):
        return _report(document.file, FileKind.PROFILE, "profile", _errors(found))
    section: HardwareSection = found.hardware
    errors = list(misplaced_options(section, document))
    summary = f"profile for {section.type}; `dioe resolve` tells what becomes of each key"
    return _report(document.file, FileKind.PROFILE, summary, _errors(errors))


def _null_devices(document: Document) -> Report:
    summary = (
        "devices of the null backend, which reads them itself: "
        f"DIOE_NULL_DEVICES={document.file} dioe devices"
    )
    return Report(document.file, FileKind.NULL_DEVICES, summary)


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
