"""Gathering, scattering, slicing and selecting elements."""

from __future__ import annotations
