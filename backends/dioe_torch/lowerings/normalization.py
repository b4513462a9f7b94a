"""Normalisation over batches, channels and axes."""

from __future__ import annotations
