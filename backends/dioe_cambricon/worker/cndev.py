"""Names, memory, load and power of cards, read from the driver's ``libcndev.so`` through ctypes.

Structures and units are those of ``cndev.h`` as Cambricon publishes it in the bindings of its
Kubernetes device plugin and of mlu-exporter (github.com/Cambricon/mlu-exporter). Whatever can't be
read is None: no library, no such function, an error of the driver. Never run on a card.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUCCESS = 0
UNSUPPORTED_API_VERSION = 3
API_VERSIONS = (6, 5)  # what the structures say of themselves: the newest first
MIB = 1 << 20  # the header says MB
UNUSED = -(2**31)


class CardInfo(ctypes.Structure):
    """``cndevCardInfo_t``."""

    _fields_ = (("version", ctypes.c_int32), ("number", ctypes.c_uint32))


class Uuid(ctypes.Structure):
    """``cndevUUID_t``."""

    _fields_ = (
        ("version", ctypes.c_int32),
        ("uuid", ctypes.c_char * 37),
        ("ncsUUID64", ctypes.c_uint64),
    )


class MemoryInfo(ctypes.Structure):
    """``cndevMemoryInfoV2_t``, in MB."""

    _fields_ = (
        ("physicalMemoryTotal", ctypes.c_int64),
        ("physicalMemoryUsed", ctypes.c_int64),
        ("reservedMemory", ctypes.c_int64),
        ("virtualMemoryTotal", ctypes.c_int64),
        ("virtualMemoryUsed", ctypes.c_int64),
        ("globalMemory", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 16),
    )


class PowerInfo(ctypes.Structure):
    """``cndevDevicePowerInfo_t``, in W."""

    _fields_ = (
        ("usage", ctypes.c_int32),
        ("cap", ctypes.c_int32),
        ("machine", ctypes.c_int32),
        ("tdp", ctypes.c_int32),
        ("maxPower", ctypes.c_int32),
        ("reserved", ctypes.c_int32 * 16),
    )


class UtilizationInfo(ctypes.Structure):
    """``cndevUtilizationInfo_t``, in percent."""

    _fields_ = (
        ("version", ctypes.c_int32),
        ("averageCoreUtilization", ctypes.c_int32),
        ("coreUtilization", ctypes.c_int32 * 80),
    )


def library_paths() -> list[str]:
    """Where the library may be: on the loader's path, else in the toolkit's folder."""
    home = os.environ.get("NEUWARE_HOME") or "/usr/local/neuware"
    return ["libcndev.so", os.path.join(home, "lib64", "libcndev.so")]


def load() -> Cndev | None:
    """The library, initialised; None where there is none or it doesn't work."""
    for path in library_paths():
        try:
            library = ctypes.CDLL(path)
            if library.cndevInit(0) == SUCCESS:
                return Cndev(library)
        except (OSError, AttributeError):
            continue
    return None


VISIBLE = ("CN_VISIBLE_DEVICES", "MLU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""What renumbers cards, the first that is set, as torch_mlu reads them in the runtime's stead
(``torch_mlu/mlu/__init__.py``, ``_parse_visible_devices``)."""


def visible_cards(count: int) -> list[int | None]:
    """The driver's index of each card that this process sees.

    Variables renumber cards for the runtime and not for this library. None where one isn't a list
    of indices: better no reading than that of another card.
    """
    variable = next((os.environ[name] for name in VISIBLE if name in os.environ), None)
    if variable is None:
        return list(range(count))
    parts = [part.strip() for part in variable.split(",")]
    return [int(part) if part.isdigit() and int(part) < count else None for part in parts]


class Cndev:
    """The library, asked for the card of an index that the runtime uses."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._cards = visible_cards(self._count())

    def name(self, index: int) -> str | None:
        """The card's model, such as ``MLU370-X8``."""
        handle = self._handle(index)
        function = getattr(self._library, "cndevGetCardNameStringByDevId", None)
        if handle is None or function is None:
            return None
        function.restype = ctypes.c_char_p
        found = function(handle)
        return found.decode("ascii", "replace") if found else None

    def uuid(self, index: int) -> str | None:
        """The card's UUID with the prefix that Cambricon's tools give it."""
        found = self._versioned(index, "cndevGetUUID", Uuid)
        text = "" if found is None else found.uuid.decode("ascii", "replace")
        return "MLU-" + text if text else None

    def memory(self, index: int) -> dict[str, int] | None:
        """Bytes of the card's memory: total and available."""
        found = self._plain(index, "cndevGetMemoryUsageV2", MemoryInfo)
        if found is None or found.physicalMemoryTotal <= 0:
            return None
        free = max(found.physicalMemoryTotal - found.physicalMemoryUsed, 0)
        return {
            "total_bytes": found.physicalMemoryTotal * MIB,
            "available_bytes": free * MIB,
        }

    def power(self, index: int) -> dict[str, Any] | None:
        """What the card draws, in W."""
        found = self._plain(index, "cndevGetDevicePowerInfo", PowerInfo, usage=UNUSED)
        if found is None or found.usage <= 0:  # a card that draws nothing isn't read, it's unread
            return None
        return {"value": float(found.usage), "unit": "W", "source": "cndevGetDevicePowerInfo"}

    def utilization(self, index: int) -> dict[str, Any] | None:
        """Mean load of the card's cores, in percent."""
        found = self._versioned(
            index, "cndevGetDeviceUtilizationInfo", UtilizationInfo, averageCoreUtilization=UNUSED
        )
        if found is None or not 0 <= found.averageCoreUtilization <= 100:
            return None
        return {
            "value": float(found.averageCoreUtilization),
            "unit": "percent",
            "source": "cndevGetDeviceUtilizationInfo",
        }

    def _count(self) -> int:
        for version in API_VERSIONS:
            info = CardInfo(version=version)
            if self._call("cndevGetDeviceCount", info) == SUCCESS:
                return int(info.number)
        return 0

    def _handle(self, index: int) -> int | None:
        card = self._cards[index] if index < len(self._cards) else None
        if card is None:
            return None
        handle = ctypes.c_int32(card)
        function = getattr(self._library, "cndevGetDeviceHandleByIndex", None)
        if function is None:  # before version 6 the index is the handle
            return card
        if function(card, ctypes.byref(handle)) != SUCCESS:
            return None
        return handle.value

    def _plain(self, index: int, name: str, kind: Any, **preset: int) -> Any:
        handle = self._handle(index)
        info = kind(**preset)
        if handle is None or self._call(name, info, handle) != SUCCESS:
            return None
        return info

    def _versioned(self, index: int, name: str, kind: Any, **preset: int) -> Any:
        handle = self._handle(index)
        for version in API_VERSIONS:
            info = kind(version=version, **preset)
            code = UNSUPPORTED_API_VERSION if handle is None else self._call(name, info, handle)
            if code == SUCCESS:
                return info
            if code != UNSUPPORTED_API_VERSION:
                return None
        return None

    def _call(self, name: str, info: ctypes.Structure, *handle: int) -> int:
        """The driver's code. The structure is copied out of a larger piece of memory, so that a
        newer library with a longer one writes over nothing else."""
        function = getattr(self._library, name, None)
        if function is None:
            return -1
        room = ctypes.create_string_buffer(ctypes.sizeof(info) + 4096)
        ctypes.memmove(room, ctypes.byref(info), ctypes.sizeof(info))
        code = int(function(room, *handle))
        ctypes.memmove(ctypes.byref(info), room, ctypes.sizeof(info))
        return code
