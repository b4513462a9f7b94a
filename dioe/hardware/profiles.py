"""Hardware profiles as YAML files: which backend, in which precision, with which of its options.

A profile says what is wanted of one backend; what becomes of each key is the backend's answer
(:func:`resolve_profile`). The schema is closed but for ``options``, whose keys are the backend's
own. Nothing in a file can name code or a library: ``type`` is the name of an installed backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from dioe.hardware.figures import Closed
from dioe.hardware.schema_errors import parse
from dioe.registry import Registry
from dioe.types import ConfigError, Precision, Resolution
from dioe.yaml_text import Document, KeyPath, read_document


class OptimizerSection(Closed):
    """What a compiler decides; ``kernel_fusion`` is a switch or a level of the backend's."""

    kernel_fusion: bool | str | None = None
    """Whether ops are fused into one kernel, or the backend's own level of it."""
    tiling_strategy: str | int | bool | None = None
    """How loops are tiled: auto, or what the backend knows."""


class HardwareSection(Closed):
    """``hardware:`` of a profile; what is left out is for the backend to choose."""

    type: str = Field(min_length=1, max_length=200)
    """Name of an installed backend or of its plugin: cambricon, openvino."""
    precision: Precision | None = None
    """Computed in; the backend's default where it is left out."""
    threads: int | None = None
    """Threads of a CPU."""
    streams: int | None = None
    """Runs at once."""
    spin: bool | None = None
    """Whether idle threads burn cycles to react faster."""
    memory_limit_bytes: int | None = None
    """Memory of the device that may be used."""
    optimizer: OptimizerSection = OptimizerSection()
    """What a compiler decides."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of the backend's own, by their names."""


class ProfileFile(Closed):
    """The top level of a profile."""

    hardware: HardwareSection
    """The backend, and what is asked of it."""


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """A profile as it was read: ``type`` names the backend, ``options`` are what is asked of it,
    flat, under the names that ``Backend.resolve`` knows; ``file`` is where it comes from."""

    type: str
    options: Mapping[str, Any]
    file: str = ""


def load_profile(path: str | PathLike[str]) -> HardwareProfile:
    """The profile in a YAML file; of a descriptor, what its ``backend`` section asks for. Raises
    ConfigError with ``file:line:column`` and a fix."""
    document = read_document(Path(path))
    if document.data.get("format") == "dioe-device":
        return _of_descriptor(document)
    section = parse(document, ProfileFile).hardware
    for error in misplaced_options(section, document):
        raise error
    return _profile(section, document.file)


def _of_descriptor(document: Document) -> HardwareProfile:
    from dioe.hardware.descriptor import parse_descriptor  # whose sections are those of here

    section = parse_descriptor(document).backend
    if section is None:
        raise ConfigError(
            "the descriptor names no backend",
            place=document.file,
            fix="add 'backend: {type: …}' to it",
        )
    for error in misplaced_options(section, document, ("backend",)):
        raise error
    return _profile(section, document.file)


def _profile(section: HardwareSection, file: str) -> HardwareProfile:
    named = {
        **section.model_dump(exclude={"type", "optimizer", "options"}, exclude_none=True),
        **section.optimizer.model_dump(exclude_none=True),
    }
    return HardwareProfile(section.type, named | section.options, file)


def misplaced_options(
    section: HardwareSection, document: Document, at: KeyPath = ("hardware",)
) -> Iterator[ConfigError]:
    """An error for each key below ``options`` that belongs outside of them; ``at`` is where the
    section is in the document."""
    for key in section.options:
        if key in (HardwareSection.model_fields | OptimizerSection.model_fields):
            yield ConfigError(
                f"{key!r} isn't an option of the backend's own",
                place=document.place((*at, "options", key)),
                fix="write it outside of options",
            )


def resolve_profile(
    profile: HardwareProfile, registry: Registry
) -> dict[str, Mapping[str, Resolution]]:
    """What becomes of each key, by backend: a plugin may have several that ``type`` names.

    Raises UnsupportedError where none does.
    """
    return {
        name: backend.resolve(profile.options)
        for name, backend in registry.named(profile.type).items()
    }
