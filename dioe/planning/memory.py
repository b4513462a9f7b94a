"""What placed blocks need of the memories of their devices, at the least.

All stages on a device hold their weights at once, and whichever runs has what its current block
reads and gives. What backends need besides is theirs to know, so more than this bound may not fit
either; less than it never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dioe.flops import WEIGHT_BITS
from dioe.planning.problem import BlockNode, Problem, TargetCosts
from dioe.planning.simulator import Placement
from dioe.types import Precision

PRECISION_SHARE = {precision: WEIGHT_BITS.get(precision, 32) / 32 for precision in Precision}
"""Of the bytes of 32-bit floats, in each precision."""


def weight_bytes(costs: TargetCosts, block: BlockNode) -> float:
    """What a block's weights take on a target, at the least."""
    if block.id in costs.weight_bytes:
        return costs.weight_bytes[block.id]
    return PRECISION_SHARE[costs.precision] * block.weight_bytes


def weights_bytes(costs: TargetCosts, blocks: Iterable[BlockNode]) -> list[float]:
    """``weight_bytes`` of many blocks."""
    share, own = PRECISION_SHARE[costs.precision], costs.weight_bytes
    if not own:
        return [share * block.weight_bytes for block in blocks]
    return [own[b.id] if b.id in own else share * b.weight_bytes for b in blocks]


def value_bytes(costs: TargetCosts, block: BlockNode) -> float:
    """What a block reads and gives and works with takes there while it runs, at the least."""
    return PRECISION_SHARE[costs.precision] * (
        sum(block.reads.values()) + sum(block.gives.values())
    ) + costs.workspace_bytes.get(block.id, 0)


def segment_bytes(
    problem: Problem, order: Iterable[int], group: Iterable[int]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """What the blocks ``order[start:end]`` need as one stage of a group of targets, by start and
    end (which counts from 1)."""
    blocks = [problem.blocks[i] for i in order]
    targets = [problem.targets[i] for i in group]
    weights = np.array([min(weight_bytes(t, b) for t in targets) for b in blocks])
    values = np.array([min(value_bytes(t, b) for t in targets) for b in blocks])
    count = len(blocks)
    needed = np.zeros((count + 1, count + 1))
    for start in range(count):
        held, most = np.cumsum(weights[start:]), np.maximum.accumulate(values[start:])
        needed[start, start + 1 :] = held + most
    return needed


def needed_bytes(problem: Problem, targets: Mapping[str, int]) -> Mapping[str, float]:
    """What blocks need on each device, by their targets' indices."""
    held: dict[str, float] = {}
    most: dict[str, float] = {}
    for name, target in targets.items():
        costs, block = problem.targets[target], problem.blocks[problem.positions[name]]
        device = costs.target.device
        held[device] = held.get(device, 0.0) + weight_bytes(costs, block)
        most[device] = max(most.get(device, 0.0), value_bytes(costs, block))
    return {device: held[device] + most[device] for device in held}


def sizes(problem: Problem) -> Mapping[str, int]:
    """The memory of each device where it is limited."""
    found = {d.id: d.memory_bytes for d in problem.devices if d.memory_bytes is not None}
    for costs in problem.targets:
        if costs.memory_bytes is not None:
            device = costs.target.device
            found[device] = min(costs.memory_bytes, found.get(device, costs.memory_bytes))
    return found


def overfull_devices(problem: Problem, targets: Mapping[str, int]) -> list[str]:
    """The devices whose memory doesn't hold what is placed there."""
    limits = sizes(problem)
    needed = needed_bytes(problem, targets) if limits else {}
    return [device for device, limit in limits.items() if needed.get(device, 0.0) > limit]


def overfull(problem: Problem, targets: Mapping[str, int]) -> str:
    """Why a device's memory doesn't hold what is placed there; empty if all do."""
    for device in overfull_devices(problem, targets):
        limit, needed = sizes(problem)[device], needed_bytes(problem, targets)[device]
        return f"{device} has {limit} bytes, and {needed:.0f} are needed at least"
    return ""


def fits(problem: Problem, placement: Placement) -> bool:
    """Whether every device has room for its blocks, as far as is known."""
    return not overfull_devices(problem, placement.targets)


def priced(
    problem: Problem, penalty: Mapping[tuple[str, int], float], price: Mapping[str, float]
) -> dict[tuple[str, int], float]:
    """The penalties, and a ``price`` in ms on each byte of weights by device."""
    found = dict(penalty)
    for i, costs in enumerate(problem.targets):
        ms_per_byte = price.get(costs.target.device, 0.0)
        for block in problem.blocks if ms_per_byte else ():
            key = (block.id, i)
            found[key] = found.get(key, 0.0) + ms_per_byte * weight_bytes(costs, block)
    return found
