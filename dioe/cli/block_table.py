"""What blocks take on each target, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from dioe.cli.terminal import known, ms, new_table
from dioe.text import printable

if TYPE_CHECKING:
    from dioe.tuning import BlockCost, BlockProfile, BlockProfiles


def print_blocks(out: Console, found: BlockProfiles, *, top: int, seconds: float) -> None:
    """The ``top`` dearest blocks (all for 0) with their costs, the best target marked by ``>``."""
    shown = found.blocks[: top or None]
    table = new_table(f"{len(found.blocks)} distinct blocks, ms of one")
    table.add_column("block and targets", overflow="fold", ratio=1)
    for heading in ("in context", "alone", "spread", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in shown:
        best = profile.best
        table.add_row(escape(printable(_described(profile))), style="bold")
        for cost in profile.costs:
            table.add_row(
                ("> " if cost is best else "  ") + escape(printable(_where(cost))),
                ms(cost.context_ms), *_alone(cost), end_section=cost is profile.costs[-1],
            )  # fmt: skip
    out.print(table)
    out.print("in context: its share of the whole model on that target; n: runs alone")
    if len(shown) < len(found.blocks):
        out.print(
            f"{len(found.blocks) - len(shown)} cheaper blocks aren't shown; --top 0 shows all"
        )
    if any(cost.alone is not None and cost.alone.noisy for p in shown for cost in p.costs):
        out.print("~ measured while other processes used the cores")
    for target, reasons in _reasons(found.blocks).items():
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        why = f"{next(iter(reasons))}{more}"
        out.print(printable(f"{target} fails on some blocks: {why}"), markup=False)
    if found.not_reached:
        out.print(
            f"{found.not_reached} timings were not reached in {seconds:g} s; run it again to go on"
        )


def _where(cost: BlockCost) -> str:
    """The target, its threads where they are few (``cpu/openvino/fp32 on 1 thread``), and how it is
    known where its times aren't measured."""
    from dioe.planning import on_threads

    where = cost.target if cost.threads is None else on_threads(cost.target, cost.threads)
    return where + known(cost.known_as)


def _alone(cost: BlockCost) -> tuple[str, str, str]:
    timing = cost.alone
    if timing is None:
        return "-", "-", "-"
    return ("~" if timing.noisy else "") + ms(timing.p50_ms), ms(timing.spread_ms), str(timing.runs)


def _described(profile: BlockProfile) -> str:
    """``block3 conv, 4 times: Conv, Mul ×2``, the op types in their order."""
    runs = [(kind, len(list(group))) for kind, group in groupby(profile.op_types)]
    most = 6
    types = ", ".join(f"{kind} ×{count}" if count > 1 else kind for kind, count in runs[:most])
    more = f" and {len(profile.op_types) - sum(c for _, c in runs[:most])} more"
    times = f", {profile.times} times" if profile.times > 1 else ""
    kind = f"{profile.blocks[0]} {profile.kind}{times}"
    return f"{kind}: {types}{more if len(runs) > most else ''}"


def _reasons(profiles: Sequence[BlockProfile]) -> dict[str, dict[str, None]]:
    """The distinct reasons of failures, by target."""
    reasons: dict[str, dict[str, None]] = {}
    for profile in profiles:
        for cost in profile.costs:
            if cost.reason:
                reasons.setdefault(cost.target, {})[cost.reason] = None
    return reasons
