"""DIOE's PyTorch backend: ONNX subgraphs lowered to torch, on any torch device."""

from __future__ import annotations

from dioe.types import Backend


def backends() -> list[Backend]:
    """The backends of this plugin; torch is imported when one is first used."""
    from dioe_torch.backend import TorchBackend
    from dioe_torch.inductor import InductorBackend

    return [TorchBackend(), InductorBackend()]
