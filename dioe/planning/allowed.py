"""What a plan may use at most: a number of stages, devices together, and time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowed:
    """``together`` are the largest sets of devices that one plan may use, None for any;
    ``max_stages`` are the stages that it may have, ``latency_ms`` the time that one request may
    take. Memory is a matter of devices and of each target's costs, power of ``together``."""

    together: tuple[frozenset[str], ...] | None = None
    max_stages: int | None = None
    latency_ms: float | None = None

    def why_not(self, devices: Collection[str], stages: int) -> str:
        """Why a plan may not have these devices and so many stages; empty if it may."""
        if self.together is not None and not any(
            each.issuperset(devices) for each in self.together
        ):
            return f"{' and '.join(sorted(devices))} may not be used together"
        if self.max_stages is not None and stages > self.max_stages:
            return f"it would take {stages} stages, more than the {self.max_stages} allowed"
        return ""
