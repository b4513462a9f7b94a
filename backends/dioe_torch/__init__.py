"""DIOE's PyTorch backend: ONNX subgraphs lowered to torch, on any torch device."""

from __future__ import annotations
