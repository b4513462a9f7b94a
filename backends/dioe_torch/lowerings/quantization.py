"""Quantising and dequantising."""

from __future__ import annotations
