"""Schedulers, one file each: tables in, an assignment out, in one pass and without simulating.

A scheduler is ``f(tables) -> Assigned | None``; None where it finds none that fits into the
memories. It knows links by what a transfer takes alone, not their queues; the simulator has the
last word on what its answer costs. ``SCHEDULERS`` has them all by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dioe.planning.assigned import Assigned
from dioe.planning.schedulers.heft import heft
from dioe.planning.tables import Tables

Scheduler = Callable[[Tables], Assigned | None]

SCHEDULERS: Mapping[str, Scheduler] = {
    "heft": heft,
}
"""From the one that is usually best to the simplest."""

__all__ = ["SCHEDULERS", "Scheduler", "heft"]
