"""Convolutions, plain, transposed, deformable and quantised."""

from __future__ import annotations
