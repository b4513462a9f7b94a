"""What blocks cost inside a whole: shares of a backend's per-op times, scaled to what was measured.

A block alone pays for layouts and dispatch that it shares with its neighbours inside a stage, and
loses the fusions across its borders (see ``measured-facts`` on cutting PP-OCR det). Backends' own
clocks tell how the time of a whole model divides among its ops; a clock that runs makes all of it
slower, so only the shares are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dioe.types import OpTime


def op_costs(times: Sequence[OpTime], work: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds of a run by source op, as the backend's clock has them.

    The time of a fused group is booked on the op of the group with the most ``work`` (any measure,
    such as FLOPs), the first of them where several have; the others have no time of their own. Only
    ops in ``work`` are booked on: what runs for none of them, such as a reorder that the backend
    added, is in no op's time.
    """
    booked: dict[str, float] = {}
    for time in times:
        known = [op for op in time.ops if op in work]
        if known:
            main = max(known, key=work.__getitem__)
            booked[main] = booked.get(main, 0.0) + time.mean_ms
    return booked


def in_context(
    times: Sequence[OpTime],
    blocks: Mapping[str, Sequence[str]],
    whole_ms: float,
    work: Mapping[str, float],
) -> dict[str, float]:
    """Milliseconds of each block inside a whole that takes ``whole_ms``; they add up to it.

    ``times`` are per-op times of the whole, ``blocks`` the op ids of each block by its id, ``work``
    what each op does (ops of no block don't count). Time of a fused group that reaches over several
    blocks is its main op's block's; time that belongs to no op (reorders, what lies between ops) is
    spread in proportion. A block without any time gets 0: it was fused into another, or is none of
    the backend's work. Where the clock shows no time at all, the work decides.
    """
    block_of = {op: block for block, ops in blocks.items() for op in ops}
    shares = dict.fromkeys(blocks, 0.0)
    placed = {op: work.get(op, 0.0) for op in block_of}
    booked = op_costs(times, placed)
    if not sum(booked.values()) > 0:
        booked = placed if sum(placed.values()) > 0 else dict.fromkeys(placed, 1.0)
    for op, share in booked.items():
        shares[block_of[op]] += share
    total = sum(shares.values())
    return {block: whole_ms * share / total if total else 0.0 for block, share in shares.items()}
