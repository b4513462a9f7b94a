"""Small problems: how many are solved and proved within a second, and how near the search alone
comes."""

from __future__ import annotations

import statistics
import time

from benchmarks.planning import instances
from benchmarks.planning.alone import search_alone
from dioe.planning import solve

ALONE = 0.25
"""The share of the time that the search without an exact solver gets."""


def table(count: int = 200, time_limit_s: float = 1.0) -> str:
    """``count`` problems of 8 to 12 tasks on 2 to 4 unrelated machines, ``time_limit_s`` each.

    The distance from the optimum is that of the problems whose optimum is proved: of ``solve``, of
    the portfolio with the search but without an exact solver, and of single schedulers.
    """
    seconds, proved, gaps = [], 0, []
    distances: dict[str, list[float]] = {}
    for seed in range(count):
        problem = instances.small(seed).problem
        begin = time.perf_counter()
        schedule = solve(problem, time_limit_s=time_limit_s)
        seconds.append(time.perf_counter() - begin)
        if not schedule.proved:
            gaps.append(schedule.gap)
            continue
        proved += 1
        alone = search_alone(problem, time_limit_s=time_limit_s * ALONE)
        single = min(value for name, value in schedule.tried.items() if name.startswith("all on"))
        for name, value in (
            (f"portfolio and search, {ALONE * time_limit_s:g} s", alone),
            *((name, schedule.tried[name]) for name in ("heft", "peft", "lookahead")),
            ("best single device", single),
        ):
            distances.setdefault(name, []).append(value / schedule.value - 1)
    rows = [
        f"{count} problems of 8 to 12 tasks on 2 to 4 unrelated machines (times from 1 to 100, "
        f"communication 0.1 to 5 times that), {time_limit_s:g} s each:",
        "",
        f"- optimal, and proved to be: {proved / count:.1%}, in {statistics.median(seconds):.2f} s "
        f"(median; {max(seconds):.2f} s at most)",
    ]
    if gaps:
        rows.append(f"- of the others the bound is {statistics.mean(gaps):.1%} away on average")
    if distances:
        rows += ["", "| without an exact solver | above the optimum, mean | worst | optimal |"]
        rows.append("|---|---|---|---|")
        rows += [
            f"| {name} | {statistics.mean(own):.2%} | {max(own):.1%} "
            f"| {sum(each < 1e-6 for each in own) / len(own):.0%} |"
            for name, own in distances.items()
        ]
    return "\n".join(rows)
