"""DIOE's ONNX Runtime backend. One backend is one execution provider; for now the CPU's."""

from __future__ import annotations

from dioe.types import Backend


def backends() -> list[Backend]:
    """The backends of this plugin; onnxruntime itself is imported when one is first used."""
    from dioe_onnxruntime.backend import OnnxRuntimeBackend

    return [OnnxRuntimeBackend()]
