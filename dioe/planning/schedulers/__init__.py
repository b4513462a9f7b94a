"""Schedulers, one file each: tables in, an assignment out, in one pass and without simulating.

A scheduler is ``f(tables) -> Assigned | None``; None where it finds none that fits into the
memories. It knows links by what a transfer takes alone, not their queues; the simulator has the
last word on what its answer costs.
"""

from __future__ import annotations

from collections.abc import Callable

from dioe.planning.assigned import Assigned
from dioe.planning.tables import Tables

Scheduler = Callable[[Tables], Assigned | None]
