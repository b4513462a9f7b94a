"""Whether stages keep to the memory that they may use, before anything is loaded.

The bound is that of ``dioe.planning.memory``: weights of all stages on a device, and what the
block that reads and gives most needs. Shapes that aren't bound count nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dioe.graph import OpGraph, find_blocks
from dioe.planning.memory import PRECISION_SHARE
from dioe.planning.names import bytes_text
from dioe.planning.problem import block_nodes
from dioe.types import OutOfMemory, Stage


def memory_caps(stages: Sequence[Stage]) -> dict[str, int]:
    """The least memory limit of the stages on each device, where there is one."""
    caps: dict[str, int] = {}
    for stage in stages:
        limit = stage.resources.memory_limit_bytes
        if limit is not None:
            device = stage.target.device
            caps[device] = min(limit, caps.get(device, limit))
    return caps


def stage_bytes(graph: OpGraph, stages: Sequence[Stage]) -> dict[str, float]:
    """What the stages need of each device's memory, at the least."""
    blocks = block_nodes(graph, find_blocks(graph))
    held: dict[str, float] = {}
    most: dict[str, float] = {}
    for stage in stages:
        device, inside = stage.target.device, set(stage.ops)
        for block in blocks:
            if block.ops[0] not in inside:  # stages have whole blocks
                continue
            share = PRECISION_SHARE[stage.precisions.of(block.ops[0])]
            values = sum(block.reads.values()) + sum(block.gives.values())
            held[device] = held.get(device, 0.0) + share * block.weight_bytes
            most[device] = max(most.get(device, 0.0), share * values)
    return {device: held[device] + most[device] for device in held}


def over_memory(graph: OpGraph, stages: Sequence[Stage]) -> str:
    """Why the stages don't keep to their memory limits; empty if they do, as far as is known."""
    caps = memory_caps(stages)
    return over_caps(caps, stage_bytes(graph, stages)) if caps else ""


def over_caps(caps: Mapping[str, int], needed: Mapping[str, float]) -> str:
    """Why what is ``needed``, by device, is more than it may be; empty if it isn't."""
    for device, cap in caps.items():
        need = needed.get(device, 0.0)
        if need > cap:
            return (
                f"{device} may use {bytes_text(cap)} of memory, and at least "
                f"{bytes_text(need)} are needed: {bytes_text(need - cap)} too much"
            )
    return ""


def check_memory(graph: OpGraph, stages: Sequence[Stage], place: str) -> None:
    """Raise OutOfMemory unless the stages keep to their memory limits, as far as is known."""
    cause = over_memory(graph, stages)
    if cause:
        raise OutOfMemory(
            cause, place=place, fix="allow more memory there, lower precision, or other devices"
        )
