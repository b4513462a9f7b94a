"""Resampling of maps and grids."""

from __future__ import annotations
