"""Published placement instances: what ``dioe placement`` makes of them, and published programs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dioe.planning.splits import judge, read_instance, read_split

INSTANCES = Path(__file__).parents[2] / "tests/unit/planning/placement"

PUBLISHED = {
    "bert24_layers": 100.219,
    "inceptionv3_layers": 2485.24,
    "bert_l-3_ops": 414.441,
    "bert_l-12_ops": 867.839,
}
"""The lower latency of the published greedy and max-load DP programs, compiled and run (the second
gave none for Inception in 100 s): https://github.com/msr-fiddle/dnn-partitioning."""


@dataclass(frozen=True, slots=True)
class Row:
    """One instance: latencies of the seeds, and the longest time that the whole command took."""

    name: str
    nodes: int
    accelerators: int
    published: float
    bound: float
    latencies: tuple[float, ...]
    wall_s: float

    @property
    def median_ratio(self) -> float:
        """Of the best published latency."""
        return statistics.median(self.latencies) / self.published


def run(time_limit_s: float = 10.0, count: int = 5) -> list[Row]:
    """Run the command with ``count`` seeds on each instance; raises ValueError for a bad split."""
    return [_row(name, time_limit_s, range(count)) for name in PUBLISHED]


def _row(name: str, time_limit_s: float, seeds: Sequence[int]) -> Row:
    file = INSTANCES / f"{name}.json"
    instance = read_instance(file)
    latencies, walls, bound = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "split.json"
        for seed in seeds:
            command = [
                sys.executable, "-m", "dioe", "placement", file, "--time-limit", time_limit_s,
                "--seed", seed, "--out", out, "--json",
            ]  # fmt: skip
            begin = time.perf_counter()
            told = subprocess.run(list(map(str, command)), check=True, capture_output=True)
            walls.append(time.perf_counter() - begin)
            bound = json.loads(told.stdout)["latency_bound"]
            judgement = judge(instance, read_split(out, instance))
            if judgement.faults:
                raise ValueError(f"{name}, seed {seed}: {'; '.join(judgement.faults)}")
            latencies.append(judgement.latency)
    return Row(
        name, len(instance.nodes), instance.max_accelerators, PUBLISHED[name], bound,
        tuple(latencies), max(walls),
    )  # fmt: skip


def table(time_limit_s: float = 10.0, count: int = 5) -> str:
    """The rows in Markdown, judged anew from the files that were written."""
    rows = run(time_limit_s, count)
    lines = [
        f"`dioe placement FILE --time-limit {time_limit_s:g}`, seeds 0 to {count - 1}; ratios are "
        "to the best published latency:",
        "",
        "| instance | nodes | accelerators | best published | median | ratio | worst ratio | bound "
        "| longest run |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.name} | {row.nodes} | {row.accelerators} | {row.published:g} "
        f"| {statistics.median(row.latencies):.3f} | {row.median_ratio:.3f} "
        f"| {max(row.latencies) / row.published:.3f} | {row.bound:.1f} | {row.wall_s:.1f} s |"
        for row in rows
    ]
    mean = statistics.mean(row.median_ratio for row in rows)
    worst = statistics.mean(max(row.latencies) / row.published for row in rows)
    lines += ["", f"On average {mean:.3f} of the best published latency ({worst:.3f} at worst)."]
    return "\n".join(lines)
