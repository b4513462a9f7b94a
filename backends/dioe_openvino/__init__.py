"""DIOE's OpenVINO backend, on the CPU for now."""

from __future__ import annotations

from dioe.types import Backend


def backends() -> list[Backend]:
    """The backends of this plugin; openvino itself is imported when one is first used."""
    from dioe_openvino.backend import OpenVinoBackend

    return [OpenVinoBackend()]
