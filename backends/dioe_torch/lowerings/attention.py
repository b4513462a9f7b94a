"""Attention, rotary embeddings, and caches of keys and values."""

from __future__ import annotations
