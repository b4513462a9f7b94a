"""Devices as backends see them, and what a context may use of one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class DeviceState(enum.StrEnum):
    """Whether a device can be used now."""

    PRESENT = "present"
    ABSENT = "absent"
    ERROR = "error"


class KnownAs(enum.StrEnum):
    """How a device is known; every report names it. Only ``HARDWARE`` latencies are measured."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"  # executes on the CPU under another device's rules
    MODELLED = "modelled"  # a descriptor only
    CONTRACT = "contract"  # strict fakes of the vendor's API
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One physical or simulated resource with memory and lanes, as a backend sees it.

    ``id`` is kind and index (``cpu``, ``gpu:0``). ``uuid`` (PCI address or UUID) tells that two
    backends speak of one device; the registry merges by it. ``shares`` is the id of the device
    whose memory this one uses (a software device on the CPU, an integrated GPU).
    """

    id: str
    kind: str
    name: str = ""
    state: DeviceState = DeviceState.PRESENT
    reason: str = ""
    uuid: str = ""
    known_as: KnownAs = KnownAs.HARDWARE
    memory_bytes: int | None = None
    shares: str | None = None
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a context may use of its device. None leaves the choice to the backend's own default.

    ``spin`` lets idle worker threads burn cycles to react faster: fine alone, harmful next to any
    other executable.
    """

    cores: tuple[int, ...] | None = None
    threads: int | None = None
    spin: bool | None = None
    streams: int = 1
    memory_limit_bytes: int | None = None
