"""Machines of equal speed without communication, where the least latency is known."""

from __future__ import annotations

import statistics
import time

from benchmarks.planning import instances
from dioe.planning import solve

COUNTS = (50, 100)
MACHINES = (2, 4, 8, 16)


def table(count: int = 80, time_limit_s: float = 1.0) -> str:
    """``count`` problems, made from schedules without a gap: how far above their bound, the work of
    all tasks divided by the machines, ``solve`` ends after ``time_limit_s``."""
    kinds = [(n, m, layers) for n in COUNTS for m in MACHINES for layers in (True, False)]
    above: dict[tuple[str, int], list[float]] = {}
    seconds = []
    for number in range(count):
        tasks, machines, in_layers = kinds[number % len(kinds)]
        instance = instances.homogeneous(number // len(kinds), tasks, machines, in_layers=in_layers)
        begin = time.perf_counter()
        schedule = solve(instance.problem, time_limit_s=time_limit_s)
        seconds.append(time.perf_counter() - begin)
        assert instance.optimum_ms is not None
        excess = schedule.value / instance.optimum_ms - 1
        if excess < -1e-9:
            raise AssertionError(f"{instance.name}: {excess:.2%} below what is possible")
        above.setdefault((f"{instance.shape}, {tasks} tasks", machines), []).append(excess)
    every = [excess for own in above.values() for excess in own]
    rows = [
        f"{count} problems whose least latency is known, {time_limit_s:g} s each "
        f"({statistics.mean(seconds):.2f} s on average): {statistics.mean(every):.2%} above it on "
        f"average, {max(every):.1%} at most; {sum(each < 1e-9 for each in every) / len(every):.0%} "
        "reach it, and none is below. By the number of machines:",
        "",
        f"| mean above the least | {' | '.join(map(str, MACHINES))} |",
        f"|---|{'---|' * len(MACHINES)}",
    ]
    for name in dict.fromkeys(kind for kind, _ in above):
        cells = [above.get((name, machines), []) for machines in MACHINES]
        rows.append(
            f"| {name} | "
            + " | ".join(f"{statistics.mean(own):.2%}" if own else "" for own in cells)
            + " |"
        )
    return "\n".join(rows)
