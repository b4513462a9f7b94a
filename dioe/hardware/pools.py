"""Pools as YAML files: read with exact places in errors, written whole or not at all.

The schema is that of the data classes in :mod:`dioe.hardware.spec`, strict and closed: unknown
keys, values of another type, and NaN are errors. Nothing in a file can name code or a library.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from dioe.hardware import catalogue
from dioe.hardware.figures import Closed
from dioe.hardware.host import host_pool
from dioe.hardware.limits import LimitsSection
from dioe.hardware.pool_file import FORMAT, read_pool
from dioe.hardware.spec import BoundaryCost, Bus, Cache, DeviceSpec, Link, NumaNode, Pool
from dioe.types import ConfigError, InputError
from dioe.yaml_text import known_key, read_document

Hardware: TypeAlias = "str | PathLike[str] | Pool | None"
"""What ``hardware=`` takes: a pool, the path of a pool file or the name of one in the catalogue, or
None for the host."""


def pool_from(hardware: Hardware) -> Pool:
    """The pool that ``hardware`` means. Raises ConfigError, and InputError for other types."""
    if hardware is None:
        return host_pool()
    if isinstance(hardware, Pool):
        return hardware
    if isinstance(hardware, str | PathLike):
        return load_pool(_file_meant(str(hardware)))
    raise InputError(
        f"hardware is a {type(hardware).__name__}",
        place="hardware",
        fix="give a pool, its file, its name in the catalogue, or None for this machine",
    )


def _file_meant(name: str) -> Path:
    """A file, or a pool of the catalogue, by its path or name. Raises ConfigError for what looks
    like a name and is none."""
    try:
        there = bool(name) and Path(name).exists()
    except (OSError, ValueError):  # too long, or with a NUL: reading it tells
        there = True
    shipped = catalogue.path_of(name, catalogue.POOLS)
    if there or Path(name).suffix in (".yaml", ".yml") or "/" in name:
        return Path(name)
    if shipped is not None:
        return shipped
    if name in catalogue.names():
        raise ConfigError(
            f"{name!r} is a device of the catalogue, not a pool",
            place="hardware",
            fix=f"write a pool file with it: devices: [{{id: KIND:0, device: {name}}}]",
        )
    raise ConfigError(
        f"no such file, and no pool of the catalogue: {name!r:.80}",
        place="hardware",
        fix=known_key(name, catalogue.names(catalogue.POOLS)).replace("keys", "pools"),
    )


def load_pool(path: str | PathLike[str]) -> Pool:
    """The pool in a YAML file. Raises ConfigError with ``file:line:column`` and a fix."""
    return read_pool(read_document(Path(path)))


def save_pool(pool: Pool, path: str | PathLike[str]) -> None:
    """Write a pool so that ``load_pool`` gives back an equal one; whole or not at all.

    What is at its default is left out, and so are figures of the catalogue's descriptor that a
    device names. Raises ConfigError where the file can't be written.
    """
    header: dict[str, Any] = {"format": FORMAT, "version": 1}
    if pool.name:
        header["name"] = pool.name
    body: dict[str, Any] = {
        "devices": [plain(_by_name(device)) for device in pool.devices],
        "links": [plain(link) for link in pool.links],
        "buses": [plain(bus) for bus in pool.buses],
        "boundaries": [plain(boundary) for boundary in pool.boundaries],
        "pins": dict(pool.pins),
        "limits": plain_figures(LimitsSection.of(pool.limits)),
    }
    for section in ("buses", "boundaries", "pins", "limits"):
        if not body[section]:
            del body[section]
    write_pool_data(header | body, path)


def write_pool_data(data: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write what a pool file holds, as plain data; whole or not at all. Raises ConfigError where
    the file can't be written."""
    text = yaml.dump(
        dict(data),
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


def _by_name(device: DeviceSpec) -> DeviceSpec:
    """The device without the figures that its name in the catalogue brings back."""
    known = catalogue.find_descriptor(device.device) if device.device else None
    if known is None:
        return device
    own = device.figures.beside(known.figures)
    return replace(device, figures=own) if own.over(known.figures) == device.figures else device


class _Dumper(yaml.SafeDumper):
    """Quotes text with line breaks of any kind: YAML folds U+0085 in plain text into a space."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def plain(item: DeviceSpec | Link | Bus | BoundaryCost | Cache | NumaNode) -> dict[str, Any]:
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
        return plain(value)
    if isinstance(value, Closed):
        return plain_figures(value)
    return str(value) if isinstance(value, str) else value  # an enum's member as plain text


def plain_figures(section: Closed) -> dict[str, Any]:
    """A section as YAML knows it, what is at its default left out."""
    # exclude_defaults keeps a None that a serialiser of its own would have written
    data: dict[str, Any] = section.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return data


def _write(path: Path, text: str) -> None:
    """Replace ``path``, or the file that a link names, in one step, so that no reader and no crash
    sees half of it."""
    path = Path(os.path.realpath(path))
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
