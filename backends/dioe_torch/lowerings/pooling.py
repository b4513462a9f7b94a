"""Pooling over windows and whole maps."""

from __future__ import annotations
