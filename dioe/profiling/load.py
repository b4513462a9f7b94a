"""How much of the cores other processes use while something is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

NOISY_SHARE = 0.05
"""Samples taken while others use more than this share of the cores are retaken."""

_SHORTEST_S = 0.05
"""Below this the kernel's clock ticks (10 ms) say nothing."""


@dataclass(frozen=True, slots=True)
class CpuLoad:
    """Processor time used so far, in seconds: by the machine, by this process, and the clock."""

    machine_s: float
    process_s: float
    wall_s: float

    @classmethod
    def now(cls) -> CpuLoad:
        """A reading. Time stolen by the hypervisor counts as used."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # guest time is part of user time on Linux, so it isn't added again
        busy = sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        own = psutil.Process().cpu_times()
        return cls(busy, own.user + own.system, time.perf_counter())


def others_share(before: CpuLoad, after: CpuLoad) -> float:
    """Share of all cores that other processes used between two readings; 0 if too short to tell."""
    wall_s = after.wall_s - before.wall_s
    if wall_s < _SHORTEST_S:
        return 0.0
    others_s = (after.machine_s - before.machine_s) - (after.process_s - before.process_s)
    return max(0.0, others_s / (wall_s * (psutil.cpu_count() or 1)))
