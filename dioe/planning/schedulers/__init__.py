"""Schedulers, one file each: tables in, an assignment out, in one pass and without simulating.

A scheduler is ``f(tables) -> Assigned | None``; None where it finds none that fits into the
memories. It knows links by what a transfer takes alone, not their queues; the simulator has the
last word on what its answer costs. ``SCHEDULERS`` has them all by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dioe.planning.assigned import Assigned
from dioe.planning.schedulers.contiguous import contiguous
from dioe.planning.schedulers.cpop import cpop
from dioe.planning.schedulers.dmda import dmda
from dioe.planning.schedulers.heft import heft
from dioe.planning.schedulers.lookahead import lookahead
from dioe.planning.schedulers.metf import metf
from dioe.planning.schedulers.min_min import min_min
from dioe.planning.schedulers.peft import peft
from dioe.planning.schedulers.series_parallel import series_parallel
from dioe.planning.tables import Tables

Scheduler = Callable[[Tables], Assigned | None]

SCHEDULERS: Mapping[str, Scheduler] = {
    "heft": heft,
    "peft": peft,
    "cpop": cpop,
    "lookahead": lookahead,
    "m-etf": metf,
    "min-min": min_min,
    "dmda": dmda,
}
"""All of them by name; ``lookahead`` takes several times as long as the others."""

SPECIAL: Mapping[str, Mapping[str, Scheduler]] = {
    "latency": {"series-parallel": series_parallel},
    "throughput": {"contiguous": contiguous},
}
"""By the policy they are for: exact for some graphs, and with no answer for others."""

__all__ = [
    "SCHEDULERS",
    "SPECIAL",
    "Scheduler",
    "contiguous",
    "cpop",
    "dmda",
    "heft",
    "lookahead",
    "metf",
    "min_min",
    "peft",
    "series_parallel",
]
