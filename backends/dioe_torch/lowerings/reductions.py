"""Reductions, scans and sorting along axes."""

from __future__ import annotations
