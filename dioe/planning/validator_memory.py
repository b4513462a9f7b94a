"""What devices hold at each instant of a schedule, for the validator: worked out anew.

No code of lifetimes or memory is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from dioe.flops import WEIGHT_BITS
from dioe.planning.validator_facts import Facts


def _held(facts: Facts) -> Iterator[tuple[str, float, float, float]]:
    """What devices hold besides weights: where, bytes, from when and to when."""
    left: dict[tuple[str, str], float] = {}
    arriving: dict[tuple[str, str], float] = {}
    for t in facts.timeline.transfers:
        key = (t.value, t.source)
        left[key] = max(left.get(key, 0.0), t.end_ms)
        arriving[t.value, t.destination] = t.start_ms
    for run in facts.runs.values():
        workspace = run.costs.workspace_bytes.get(run.block.id, 0)
        yield run.device, workspace, run.start, run.end
    for value, size in facts.size.items():
        maker = facts.maker.get(value)
        bits = 32 if maker is None else WEIGHT_BITS.get(maker.costs.precision, 32)
        begins: dict[str, list[float]] = {}
        ends: dict[str, list[float]] = {}
        for run in facts.readers(value):
            stage_start = facts.stages[run.stage][1].start_ms
            there = arriving.get((value, run.device), stage_start)
            begins.setdefault(run.device, []).append(there)
            ends.setdefault(run.device, []).append(run.end)
        home = facts.problem.home
        first = home if maker is None else maker.device
        if first:
            begins.setdefault(first, []).append(0.0 if maker is None else maker.start)
            until = 0.0 if maker is None else maker.end
            ends.setdefault(first, []).append(max(until, left.get((value, first), 0.0)))
        if maker is not None and value in facts.lasting:
            last = home or first
            begins.setdefault(last, []).append(arriving.get((value, last), maker.end))
            ends.setdefault(last, []).append(facts.timeline.total_ms)
        for device, starts in begins.items():
            yield device, size * bits / 32, min(starts), max(ends[device])


def _ticks(times: Iterable[float], eps: float) -> dict[float, int]:
    """Times by number; those that differ by a rounding error only have the same."""
    found: dict[float, int] = {}
    tick, last = -1, -math.inf
    for time in sorted(set(times)):
        if time > last + eps:
            tick += 1
        found[time], last = tick, time
    return found


def peaks(facts: Facts, *, lingering: bool) -> dict[str, tuple[float, float]]:
    """The most that each device holds at an instant, and when. What ends at an instant makes
    room for what starts then, unless it is ``lingering``; what takes no time takes room."""
    found: dict[str, tuple[float, float]] = {}
    weights: dict[str, float] = {}
    for run in facts.runs.values():
        bits = WEIGHT_BITS.get(run.costs.precision, 32)
        own = run.costs.weight_bytes.get(run.block.id, run.block.weight_bytes * bits / 32)
        weights[run.device] = weights.get(run.device, 0.0) + own
    held = list(_held(facts))
    tick = _ticks((time for _, _, start, end in held for time in (start, end)), facts.eps)
    changes: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for device, nbytes, start, end in held:
        row = changes.setdefault(device, {})
        gone = 2 * tick[end] + (lingering or tick[end] <= tick[start])
        row.setdefault(2 * tick[start], []).append((start, nbytes))
        row.setdefault(gone, []).append((end, -nbytes))
    for device in weights.keys() | changes.keys():
        now, row = weights.get(device, 0.0), changes.get(device, {})
        most = now, 0.0
        for moment in sorted(row):
            now += sum(nbytes for _, nbytes in row[moment])
            most = max(most, (now, row[moment][0][0]), key=lambda each: each[0])
        found[device] = most
    return found
