"""DIOE's null backend: modelled devices that execute nothing.

It gives zeros of the right shapes after the time that a description of a device predicts, so that
planning and scheduling can be tried for devices that aren't there. See ``docs/null.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dioe.types import Backend

if TYPE_CHECKING:
    from dioe_null.backend import NullBackend
    from dioe_null.clock import Clock, RealClock, VirtualClock
    from dioe_null.descriptors import GPU, NPU, DeviceModel, LinkModel
    from dioe_null.device_file import read_devices

__all__ = [
    "GPU",
    "NPU",
    "Clock",
    "DeviceModel",
    "LinkModel",
    "NullBackend",
    "RealClock",
    "VirtualClock",
    "backends",
    "read_devices",
]

_HOMES = {
    "GPU": "descriptors",
    "NPU": "descriptors",
    "Clock": "clock",
    "DeviceModel": "descriptors",
    "LinkModel": "descriptors",
    "NullBackend": "backend",
    "RealClock": "clock",
    "VirtualClock": "clock",
    "read_devices": "device_file",
}


def backends() -> list[Backend]:
    """The backends of this plugin: one, with the devices of the file that ``DIOE_NULL_DEVICES``
    names, else with an NPU and a discrete GPU. Raises ConfigError."""
    from dioe_null.backend import NullBackend
    from dioe_null.device_file import described_devices

    described = described_devices()
    return [NullBackend() if described is None else NullBackend(described)]


def __getattr__(name: str) -> Any:
    """Public names, imported when first asked for: plugins are listed without numpy's cost."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"dioe_null.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
