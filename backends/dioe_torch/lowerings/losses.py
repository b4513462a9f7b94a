"""Losses, and the optimisers of the training domain."""

from __future__ import annotations
