"""DIOE's reference backend: ``onnx.reference``, slow and right, for what nothing else takes."""

from __future__ import annotations

from dioe.types import Backend


def backends() -> list[Backend]:
    """The backends of this plugin; onnx is imported when one is first used."""
    from dioe_reference.backend import ReferenceBackend

    return [ReferenceBackend()]
