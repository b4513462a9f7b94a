"""What no schedule of a problem can be below, by the policy.

For latency: the longest path when every block runs where it is fastest and values cross for free,
and the least work spread evenly over all lanes. What memory or transfers add is left out, so the
bounds hold for every placement.
"""

from __future__ import annotations

import math

import numpy as np

from dioe.planning.assigned import Assigned
from dioe.planning.memory import PRECISION_SHARE
from dioe.planning.tables import Tables


def critical_path_ms(tables: Tables) -> float:
    """The longest path, each block at its fastest."""
    least = [min(row) for row in tables.ms]
    finish = [0.0] * tables.n
    for i in range(tables.n):  # the problem's order is topological
        start = max((finish[p] for p, _ in tables.preds[i]), default=0.0)
        finish[i] = start + least[i]
    return max(finish, default=0.0)


def load_ms(tables: Tables) -> float:
    """The least work of all blocks, spread over all lanes; 0 where a device has any number."""
    if not all(tables.lanes):
        return 0.0
    return sum(min(row) for row in tables.ms) / sum(tables.lanes)


def largest_block_ms(tables: Tables) -> float:
    """The period can't be below the longest block at its fastest, shared by a device's lanes."""
    if not all(tables.lanes):
        return 0.0
    return max(
        min(ms / tables.lanes[tables.device_of[t]] for t, ms in enumerate(row)) for row in tables.ms
    )


def assigned_bound(tables: Tables, policy: str, assigned: Assigned) -> float:
    """What an assignment can't be below in latency and throughput, known without simulating it: the
    work of its busiest device, shared by the lanes; 0 for other policies."""
    if policy not in ("latency", "throughput"):
        return 0.0
    targets = np.array(assigned.targets)
    work = np.bincount(
        np.array(tables.device_of)[targets],
        tables.durations[np.arange(tables.n), targets],
        minlength=len(tables.devices),
    ).tolist()
    return max(
        (ms / lanes for ms, lanes in zip(work, tables.lanes, strict=True) if lanes), default=0.0
    )


def bound(tables: Tables, policy: str) -> float:
    """The lower bound of a policy's value; 0 where nothing is known of it."""
    if policy == "latency":
        if not tables.problem.devices:
            return sum(min(row) for row in tables.ms)
        return max(critical_path_ms(tables), load_ms(tables))
    if policy == "throughput":
        if not tables.problem.devices:
            return sum(min(row) for row in tables.ms)
        return max(load_ms(tables), largest_block_ms(tables))
    if policy == "efficiency":
        watts = {device.id: device.busy_w for device in tables.problem.devices}
        draw = [watts.get(tables.devices[d]) or 0.0 for d in tables.device_of]
        # with any number of lanes, blocks that run at the same time draw no more than one of them
        lanes = [tables.lanes[d] or math.inf for d in tables.device_of]
        return (
            sum(
                min(ms * draw[t] / lanes[t] for t, ms in enumerate(row) if ms < math.inf)
                for row in tables.ms
            )
            / 1e3
        )
    return _least_peak(tables)


def _least_peak(tables: Tables) -> float:
    """All weights, at their smallest, shared by all devices; or the largest block with its own
    values, which have to be in one memory."""
    weights = [min(row) for row in tables.weights]
    shares = [PRECISION_SHARE[costs.precision] for costs in tables.problem.targets]
    values = [sum(block.gives.values()) * min(shares) for block in tables.problem.blocks]
    alone = max(w + v for w, v in zip(weights, values, strict=True))
    return max(alone, sum(weights) / len(tables.devices))
