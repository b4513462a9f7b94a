"""Shapes: what asks for them and what changes them."""

from __future__ import annotations
