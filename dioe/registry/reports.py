"""What plugins say of themselves, checked before anybody merges it, prints it or writes it down.

Ids and names go into targets, files and tables, so only those are taken that can't be mistaken for
anything else there; texts for people are made one line that no terminal is steered by.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from dioe.text import printable
from dioe.types import DeviceInfo, DeviceState, KnownAs

T = TypeVar("T")

MAX_BACKENDS, MAX_DEVICES = 64, 1024
"""More than anybody has: who gives more counts wrong, or never ends."""

MAX_LINE, MAX_VERSION = 500, 40
"""Characters of a text that is shown in a table, and of a version there."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")


def one_line(text: str, most: int = MAX_LINE) -> str:
    """``text`` in one line that is safe to show, cut where it is long."""
    line = printable(" ".join(text[: 2 * most].split()))
    return line[:most] + "…" if len(line) > most or len(text) > 2 * most else line


def some(found: Iterable[T], most: int, what: str) -> list[T]:
    """All of ``found``, which may be endless; raises ValueError if it is more than ``most``."""
    kept = list(itertools.islice(found, most + 1))
    if len(kept) > most:
        raise ValueError(f"there are more than {most} {what}")
    return kept


def checked_name(name: object) -> str:
    """The name of a backend. Raises ValueError, TypeError for what no target could hold."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a backend is {_shown(name)}, no str")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of a backend is {_shown(name)}: letters, digits, dots and dashes are allowed"
        )
    return name


def checked_devices(devices: Iterable[object]) -> tuple[DeviceInfo, ...]:
    """What ``probe`` gave, texts made safe. Raises ValueError, TypeError for what is no device."""
    return tuple(_checked(device) for device in some(devices, MAX_DEVICES, "devices"))


def _checked(device: Any) -> DeviceInfo:
    if not isinstance(device, DeviceInfo):
        raise TypeError(f"{type(device).__name__} instead of DeviceInfo was returned")
    _expect(device, DeviceState, "state")
    _expect(device, KnownAs, "known_as")
    for name in ("id", "kind", "name", "reason", "uuid"):
        _expect(device, str, name)
    _expect(device, (str, type(None)), "shares")
    _expect(device, (int, type(None)), "memory_bytes")
    if isinstance(device.memory_bytes, bool) or (device.memory_bytes or 0) < 0:
        raise ValueError(f"the memory_bytes of a device is {device.memory_bytes!r}")
    if not _ID.fullmatch(device.id):
        raise ValueError(f"the id of a device is {_shown(device.id)}: it is like gpu:0")
    if not _KIND.fullmatch(device.kind):
        raise ValueError(f"the kind of a device is {_shown(device.kind)}: it is like gpu")
    _expect(device, Mapping, "details")
    details = dict(some(device.details.items(), MAX_DEVICES, "details of a device"))
    for key, value in details.items():
        if not isinstance(key, str) or not isinstance(value, (str, int, float, bool)):
            raise TypeError(f"a detail of a device is {_shown(key)}: {_shown(value)}")
    return replace(
        device, name=one_line(device.name), reason=one_line(device.reason), details=details
    )


def _expect(device: DeviceInfo, kind: type | tuple[type, ...], field: str) -> None:
    value = getattr(device, field)
    if not isinstance(value, kind):
        wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"the {field} of a device is {_shown(value)}, no {wanted}")


def _shown(value: object) -> str:
    """A value in the text of an error."""
    return one_line(
        f"{value!r:.60}" if isinstance(value, (str, int, float)) else type(value).__name__
    )
