"""Larger problems: against the schedulers of the literature and against single devices."""

from __future__ import annotations

import statistics
import time

from benchmarks.planning import instances
from dioe.planning import solve

BASELINES = ("heft", "peft", "cpop", "m-etf", "dmda")


def table(count: int = 200, time_limit_s: float = 0.9) -> str:
    """``count`` problems of 60 to 200 tasks on 3 to 8 devices, ``time_limit_s`` each: the latency
    of ``solve`` as a share of a baseline's."""
    ratios: dict[str, list[float]] = {}
    by_shape: dict[str, list[float]] = {}
    by_ratio: dict[float, list[float]] = {}
    seconds = []
    for seed in range(count):
        instance = instances.large(seed)
        begin = time.perf_counter()
        schedule = solve(instance.problem, time_limit_s=time_limit_s)
        seconds.append(time.perf_counter() - begin)
        tried = {name: schedule.tried[name] for name in BASELINES}
        tried["best single device"] = min(
            value for name, value in schedule.tried.items() if name.startswith("all on")
        )
        tried["the best of these"] = min(tried.values())
        for name, value in tried.items():
            ratios.setdefault(name, []).append(schedule.value / value)
        by_shape.setdefault(instance.shape, []).append(ratios["heft"][-1])
        by_ratio.setdefault(instance.ratio, []).append(ratios["heft"][-1])
    rows = [
        f"{count} problems of 60 to 200 tasks on 3 to 8 devices, communication 0.1 to 10 times the "
        f"computation, {time_limit_s:g} s each ({statistics.mean(seconds):.2f} s on average, "
        f"{max(seconds):.2f} s at most): latency of `solve` over that of",
        "",
        "| | mean | least gain | largest gain |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| {name} | {statistics.mean(own):.3f} | {max(own):.3f} | {min(own):.3f} |"
        for name, own in ratios.items()
    ]
    rows += ["", "Over HEFT, by shape and by ratio of communication to computation:", ""]
    shapes = {name: statistics.mean(own) for name, own in sorted(by_shape.items())}
    steps = {f"{ratio:g}": statistics.mean(own) for ratio, own in sorted(by_ratio.items())}
    for means in (shapes, steps):
        rows += [
            f"| {' | '.join(means)} |",
            f"|{'---|' * len(means)}",
            f"| {' | '.join(f'{mean:.3f}' for mean in means.values())} |",
            "",
        ]
    return "\n".join(rows).rstrip()
