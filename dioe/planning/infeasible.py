"""What is said of a problem no schedule of which was found: which limit isn't kept, by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dioe.planning.bounds import bound
from dioe.planning.memory import sizes
from dioe.planning.names import bytes_text
from dioe.planning.objective import Excess
from dioe.planning.tables import Tables
from dioe.types import UnsupportedError


def impossible(tables: Tables) -> Iterator[Excess]:
    """Limits that no schedule at all can keep: each ``needed`` is the least there can be."""
    limits = sizes(tables.problem)
    if limits:
        yield from _memory(tables)
    latency_ms = tables.problem.allowed.latency_ms
    if latency_ms is not None:
        least = bound(tables, "latency")
        if least > latency_ms:
            yield Excess("latency", "", least, latency_ms)


def _memory(tables: Tables) -> Iterator[Excess]:
    problem = tables.problem
    usable = [[t for t, ms in enumerate(row) if ms < math.inf] for row in tables.ms]  # by block
    reachable = {tables.device_of[t] for row in usable for t in row}
    for i, block in enumerate(problem.blocks):
        gaps = []
        for t in usable[i]:
            device = tables.device_of[t]
            share = sum(
                min(tables.weights[k][u] for u in usable[k] if tables.device_of[u] == device)
                for k in tables.peers[i] or (i,)
            )
            gaps.append((share - tables.memory[device], share, device))
        if gaps and min(gaps)[0] > 0:
            _, needed, device = min(gaps)
            what = f"group {block.group}" if block.group else f"block {block.id}"
            yield Excess(
                "memory", f"{tables.devices[device]} for {what}", needed, tables.memory[device]
            )
            return
    room = sum(tables.memory[d] for d in reachable)
    needed = sum(
        min(tables.weights[i][t] for t in row) if row else 0.0 for i, row in enumerate(usable)
    )
    if needed > room:
        yield Excess("memory", "all devices together", needed, room)


def infeasible(tables: Tables, over: tuple[Excess, ...]) -> UnsupportedError:
    """The error: limits that nothing can keep if there are some, else what the best that was found
    lacks (``over``)."""
    proved = tuple(impossible(tables))
    if proved:
        return UnsupportedError(
            f"no schedule can keep the limits: {_told(proved)} at the least",
            place="planning",
            fix="raise the limit, or add a device",
        )
    apart = next((i for i, row in enumerate(tables.ms) if min(row) == math.inf), None)
    if apart is not None:
        return UnsupportedError(
            f"no device runs all blocks of group {tables.problem.blocks[apart].group!r}",
            place="planning",
            fix="leave some of them out of the group, or add a target that runs them",
        )
    if not over:
        return UnsupportedError(
            "no schedule was found: no target runs every block",
            place="planning",
            fix="add a target, or search longer (time_limit_s)",
        )
    return UnsupportedError(
        f"no schedule that was found keeps the limits; the nearest: {_told(over)}",
        place="planning",
        fix="search longer (time_limit_s), raise the limit, or add a device",
    )


def _told(over: tuple[Excess, ...]) -> str:
    return "; ".join(
        f"{each.what}{f' of {each.place}' if each.place else ''}: "
        f"{_text(each, each.needed)} needed, {_text(each, each.limit)} allowed, "
        f"{_text(each, each.needed - each.limit)} too much"
        for each in over
    )


def _text(excess: Excess, amount: float) -> str:
    if excess.what == "memory":
        return bytes_text(amount)
    return f"{amount:.6g} ms" if excess.what == "latency" else f"{amount:g}"
