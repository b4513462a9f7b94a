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
}


def backends() -> list[Backend]:
    """The backends of this plugin: one, with an NPU and a discrete GPU."""
    from dioe_null.backend import NullBackend

    return [NullBackend()]


def __getattr__(name: str) -> Any:
    """Public names, imported when first asked for: plugins are listed without numpy's cost."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"dioe_null.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
