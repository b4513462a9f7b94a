"""Hardware profiles as YAML files: which backend, in which precision, with which of its options.

A profile says what is wanted of one backend; what becomes of each key is the backend's answer
(:func:`resolve_profile`). The schema is closed but for ``options``, whose keys are the backend's
own. Nothing in a file can name code or a library: ``type`` is the name of an installed backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from dioe.hardware.schema_errors import config_error
from dioe.registry import Registry
from dioe.types import ConfigError, Precision, Resolution
from dioe.yaml_text import KeyPath, read_document


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True
    )


class OptimizerSection(_Closed):
    """What a compiler decides; ``kernel_fusion`` is a switch or a level of the backend's."""

    kernel_fusion: bool | str | None = None
    tiling_strategy: str | int | bool | None = None


class HardwareSection(_Closed):
    """``hardware:`` of a profile; what is left out is for the backend to choose."""

    type: str = Field(min_length=1, max_length=200)
    precision: Precision | None = None
    threads: int | None = None
    streams: int | None = None
    spin: bool | None = None
    memory_limit_bytes: int | None = None
    optimizer: OptimizerSection = OptimizerSection()
    options: dict[str, JsonValue] = Field(default_factory=dict)


class ProfileFile(_Closed):
    """The top level of a profile."""

    hardware: HardwareSection


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """A profile as it was read: ``type`` names the backend, ``options`` are what is asked of it,
    flat, under the names that ``Backend.resolve`` knows; ``file`` is where it comes from."""

    type: str
    options: Mapping[str, Any]
    file: str = ""


def load_profile(path: str | PathLike[str]) -> HardwareProfile:
    """The profile in a YAML file. Raises ConfigError with ``file:line:column`` and a fix."""
    document = read_document(Path(path))
    try:
        file = ProfileFile.model_validate_json(json.dumps(document.data, default=str))
    except ValidationError as error:
        raise config_error(document, error, _known_keys) from None
    section = file.hardware
    named = {
        **section.model_dump(exclude={"type", "optimizer", "options"}, exclude_none=True),
        **section.optimizer.model_dump(exclude_none=True),
    }
    for key in section.options:
        if key in (HardwareSection.model_fields | OptimizerSection.model_fields):
            raise ConfigError(
                f"{key!r} isn't an option of the backend's own",
                place=document.place(("hardware", "options", key)),
                fix="write it outside of options",
            )
    return HardwareProfile(section.type, named | section.options, document.file)


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


def _known_keys(path: KeyPath) -> Iterable[str]:
    if path[-1:] == ("optimizer",):
        return OptimizerSection.model_fields
    return HardwareSection.model_fields if path else ProfileFile.model_fields
