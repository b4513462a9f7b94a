"""DIOE's ONNX Runtime backends: one for each execution provider that is installed.

``onnxruntime`` is the CPU's, ``onnxruntime.webgpu`` and such are the others. Plugin providers are
found where a package of them is installed, or given in code: ``register_provider``.
"""

from __future__ import annotations

from dioe.types import Backend
from dioe_onnxruntime.providers import register_provider

__all__ = ["backends", "register_provider"]


def backends() -> list[Backend]:
    """The backends of this plugin; onnxruntime itself is imported when one is first used."""
    from dioe_onnxruntime.backend import OnnxRuntimeBackend
    from dioe_onnxruntime.providers import providers

    return [OnnxRuntimeBackend(provider) for provider in providers()]
