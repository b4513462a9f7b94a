"""Boxes and regions of interest."""

from __future__ import annotations
