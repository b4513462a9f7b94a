"""DIOE's CUDA backend: the torch backend on NVIDIA, with what pays there."""

from __future__ import annotations

from dioe.types import Backend


def backends() -> list[Backend]:
    """The backend; torch is imported only where there is a driver and a build for it."""
    from dioe_cuda.backend import CudaBackend

    return [CudaBackend()]
