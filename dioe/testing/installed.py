"""The installed plugins, as tests and commands that judge backends find them."""

from __future__ import annotations

import importlib.metadata

from dioe.registry.discovery import GROUPS


def plugin_points() -> list[importlib.metadata.EntryPoint]:
    """The entry points of all installed plugins, those served by workers too, by name."""
    every = importlib.metadata.entry_points()
    points = [point for group in GROUPS for point in every.select(group=group)]
    return sorted(points, key=lambda point: point.name)
