"""What became of a plugin: its state, and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from dioe.types import DeviceInfo


class PluginState(enum.StrEnum):
    """Whether a backend can be used."""

    READY = "ready"
    INCOMPATIBLE = "incompatible"  # another ABI version
    FAILED = "failed"  # raised, hung or crashed on import or in probe
    ABSENT = "absent"  # loaded, but none of its devices is present


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One backend as it was found: its state, the reason, and the devices it reports.

    ``misconfigured``: it failed because of a file or variable of the user's, as the reason tells.
    """

    name: str
    state: PluginState
    reason: str = ""
    source: str = ""  # distribution and entry point
    version: str = ""
    devices: tuple[DeviceInfo, ...] = ()
    misconfigured: bool = False
