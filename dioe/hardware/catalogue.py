"""The catalogue: descriptors and pools that come with DIOE (``hwconfigs/``)."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from dioe.hardware.descriptor import DeviceDescriptor, load_descriptor
from dioe.types import ConfigError
from dioe.yaml_text import known_key

log = logging.getLogger(__name__)

DEVICES, POOLS = "devices", "pools"

_KIND = re.compile(rb"^kind: *([a-z0-9_]+) *$", re.MULTILINE)
_REPORTED = re.compile(rb"^reported_as:", re.MULTILINE)


def folder(section: str = "") -> Path:
    """Where the catalogue is: inside an installed package, or at the top of a checkout."""
    package = Path(str(resources.files("dioe")))
    found = [p for p in (package / "hwconfigs", package.parent / "hwconfigs") if p.is_dir()]
    if not found:
        raise ConfigError(
            "the catalogue isn't there", place=str(package / "hwconfigs"), fix="install DIOE again"
        )
    return found[0] / section


def names(section: str = DEVICES) -> list[str]:
    """What is in a section, sorted: the names of its files without ``.yaml``."""
    return sorted(path.stem for path in folder(section).glob("*.yaml"))


def path_of(name: str, section: str = DEVICES) -> Path | None:
    """The file of that name; None where there is none."""
    return folder(section) / f"{name}.yaml" if name in names(section) else None


@cache
def descriptor(name: str) -> DeviceDescriptor:
    """The descriptor of that name. Raises ConfigError, with the nearest name."""
    path = path_of(name)
    if path is None:
        raise ConfigError(
            f"the catalogue has no device {name!r}",
            fix=known_key(name, names()).replace("keys", "devices"),
        )
    return load_descriptor(path)


def descriptors() -> list[DeviceDescriptor]:
    """All descriptors, by name. Raises ConfigError where a file is damaged."""
    return [descriptor(name) for name in names()]


def matching(
    reported: str, kind: str, vector_extensions: Collection[str] = ()
) -> DeviceDescriptor | None:
    """The descriptor of the device that a driver reports under this name; None for an unknown one.

    Of several that fit, the one that asks for the most vector extensions. Never raises: a device
    that was found is there, whatever is wrong with the catalogue (which is logged).
    """
    fitting = [
        found
        for found in _reported(kind)
        if reports(found, reported) and set(found.vector_extensions) <= set(vector_extensions)
    ]
    return max(fitting, key=lambda found: len(found.vector_extensions), default=None)


def reports(known: DeviceDescriptor, reported: str) -> bool:
    """Whether a name is one under which drivers report the device."""
    return any(fnmatchcase(reported, pattern) for pattern in known.reported_as)


def find_descriptor(name: str) -> DeviceDescriptor | None:
    """The descriptor of that name; None where there is none, or it is damaged."""
    try:
        return descriptor(name)
    except ConfigError:  # for who compares with it; its own validation tells what is wrong
        return None


@cache
def _reported(kind: str) -> tuple[DeviceDescriptor, ...]:
    """The descriptors of a kind of device that name what drivers report, those that load."""
    found = []
    try:
        paths = sorted(folder(DEVICES).glob("*.yaml"))
    except ConfigError as error:
        log.warning("devices get no figures from the catalogue: %s", error)
        return ()
    for path in paths:
        try:
            # a look at the text spares reading the files of all other kinds as YAML
            text = path.read_bytes()
            if kind.encode() in _KIND.findall(text) and _REPORTED.search(text):
                found.append(descriptor(path.stem))
        except (ConfigError, OSError) as error:
            log.warning("%s is left out of the catalogue: %s", path, error)
    return tuple(found)
