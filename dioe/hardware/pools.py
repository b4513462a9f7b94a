"""Pools as YAML files: read with exact places in errors, written whole or not at all.

The schema is that of the data classes in :mod:`dioe.hardware.spec`, strict and closed: unknown
keys, values of another type, and NaN are errors. Nothing in a file can name code or a library.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dioe.hardware.host import host_pool
from dioe.hardware.schema_errors import config_error
from dioe.hardware.spec import Cache, DeviceSpec, Link, NumaNode, Pool, contradictions
from dioe.types import ConfigError, InputError
from dioe.yaml_text import read_document

Hardware: TypeAlias = "str | PathLike[str] | Pool | None"
"""What ``hardware=`` takes: a pool, the path of a pool file, or None for the host."""


class PoolFile(BaseModel):
    """The top level of a pool file; ``links`` and ``pins`` may be left out."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True
    )

    format: Literal["dioe-pool"] = "dioe-pool"
    version: Literal[1] = 1
    devices: tuple[DeviceSpec, ...]
    links: tuple[Link, ...] = ()
    pins: dict[str, str] = Field(default_factory=dict)


_CLASSES: Mapping[str, type[DeviceSpec | Link | Cache | NumaNode]] = {
    "devices": DeviceSpec,
    "links": Link,
    "caches": Cache,
    "numa_nodes": NumaNode,
}
"""What the items of the lists in a file are."""


def pool_from(hardware: Hardware) -> Pool:
    """The pool that ``hardware`` means. Raises ConfigError, and InputError for other types."""
    if hardware is None:
        return host_pool()
    if isinstance(hardware, Pool):
        return hardware
    if isinstance(hardware, str | PathLike):
        return load_pool(hardware)
    raise InputError(
        f"hardware is a {type(hardware).__name__}",
        place="hardware",
        fix="give a pool, the path of a pool file, or None for this machine",
    )


def load_pool(path: str | PathLike[str]) -> Pool:
    """The pool in a YAML file. Raises ConfigError with ``file:line:column`` and a fix."""
    document = read_document(Path(path))
    try:
        # Through JSON, where pydantic's strict mode takes lists for tuples, and nothing else.
        # YAML's dates are text that looks like one.
        file = PoolFile.model_validate_json(json.dumps(document.data, default=str))
    except ValidationError as error:
        raise config_error(document, error, _known_keys) from None
    for where, problem in contradictions(file.devices, file.links):
        raise ConfigError(problem, place=document.place(where), fix="correct it there")
    return Pool(file.devices, file.links, tuple(file.pins.items()))


def save_pool(pool: Pool, path: str | PathLike[str]) -> None:
    """Write a pool so that ``load_pool`` gives back an equal one; whole or not at all.

    What is at its default is left out. Raises ConfigError where the file can't be written.
    """
    header = {"format": "dioe-pool", "version": 1}
    body: dict[str, Any] = {
        "devices": [_plain(device) for device in pool.devices],
        "links": [_plain(link) for link in pool.links],
    }
    if pool.pins:
        body["pins"] = dict(pool.pins)
    text = yaml.dump(
        header | body,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    try:
        _write(Path(path), text)
    except OSError as error:
        raise ConfigError(
            f"the pool can't be written: {error.strerror or error}",
            place=str(path),
            fix="name a file in a folder that exists and is writable",
        ) from error


class _Dumper(yaml.SafeDumper):
    """Quotes text with line breaks of any kind: YAML folds U+0085 in plain text into a space."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _plain(item: DeviceSpec | Link | Cache | NumaNode) -> dict[str, Any]:
    """The fields of a data class that aren't at their defaults, as YAML knows them."""
    data = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if field.default is MISSING or value != field.default:
            data[field.name] = _yaml_value(value)
    return data


def _yaml_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_yaml_value(part) for part in value]
    if isinstance(value, Cache | NumaNode):
        return _plain(value)
    return str(value) if isinstance(value, str) else value  # an enum's member as plain text


def _write(path: Path, text: str) -> None:
    """Replace ``path`` in one step, so that no reader and no crash sees half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files for their owner only; a description is for everyone to read.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _known_keys(path: tuple[str | int, ...]) -> Iterator[str]:
    lists = [part for part in path if isinstance(part, str)]
    if lists and lists[-1] in _CLASSES:
        return (field.name for field in fields(_CLASSES[lists[-1]]))
    return iter(PoolFile.model_fields)
