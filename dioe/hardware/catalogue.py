"""The catalogue: descriptors and pools that come with DIOE (``hwconfigs/``)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from dioe.hardware.descriptor import DeviceDescriptor, load_descriptor
from dioe.types import ConfigError
from dioe.yaml_text import known_key

DEVICES, POOLS = "devices", "pools"


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
    """All descriptors, by name."""
    return [descriptor(name) for name in names()]


def matching(reported: str, kind: str) -> DeviceDescriptor | None:
    """The descriptor of the device that a driver reports by this name; None for an unknown one."""
    for found in descriptors():
        if found.kind == kind and reports(found, reported):
            return found
    return None


def reports(known: DeviceDescriptor, reported: str) -> bool:
    """Whether a name is one under which drivers report the device."""
    return any(fnmatchcase(reported, pattern) for pattern in known.reported_as)


def find_descriptor(name: str) -> DeviceDescriptor | None:
    """The descriptor of that name; None where there is none, or it is damaged."""
    try:
        return descriptor(name)
    except ConfigError:  # for who compares with it; its own validation tells what is wrong
        return None
