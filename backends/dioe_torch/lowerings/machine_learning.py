"""Operators of the domain ai.onnx.ml."""

from __future__ import annotations
