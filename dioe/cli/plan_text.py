"""A plan as a person reads it: its stages, where each block went and why, error against latency."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dioe.cli.terminal import error_text, ms, new_table, print_indented, print_targets, short, size
from dioe.text import printable
from dioe.types import Basis, BlockReport, KnownAs, Plan, Precision, Stage, Tradeoff

WIDE = 132
"""Columns from which a block has a row of a table to itself; below, it has some lines of text."""

_ON_HARDWARE = frozenset(Basis) - {Basis.MODELLED}

MANY_BLOCKS = 20
"""Above that many blocks, neighbours that fared alike are shown as one."""


def print_explained(out: Console, plan: Plan, *, every_block: bool = False) -> None:
    """All that a plan tells: what it is made of, what was tried, why each block is where it is.

    Many blocks are folded unless ``every_block``.
    """
    from dioe.tuning.reports import chosen_name

    print_plan_line(out, plan)
    print_stages(out, plan)
    print_targets(out, plan.candidates, chosen=chosen_name(plan))
    print_blocks(out, plan.blocks, plan.stand_ins, every_block=every_block)
    print_tradeoffs(out, plan)
    print_notes(out, plan.notes)


def print_plan_line(out: Console, plan: Plan) -> None:
    """What a plan is, what it costs, how exact it is, and for which shapes it was made."""
    cost = "not measured" if plan.predicted_ms is None else f"{ms(plan.predicted_ms)} ms"
    error = "" if plan.relative_l2 is None else f", error {error_text(plan.relative_l2)}"
    limit = "" if plan.max_relative_l2 is None else f" (limit {error_text(plan.max_relative_l2)})"
    out.print(_text(f"plan: {plan_title(plan)}, {cost} ({plan.basis_text()}){error}{limit}"))
    print_bound(out, plan.predicted_ms, plan.bound_ms)
    print_shapes(out, plan)


def print_bound(out: Console, cost_ms: float | None, bound_ms: float | None) -> None:
    """How much faster another placement of the blocks could be at most; nothing if not known."""
    if cost_ms is None or bound_ms is None:
        return
    gap = max(0.0, cost_ms - bound_ms) / cost_ms if cost_ms else 0.0
    out.print(
        _text(
            f"bound: {ms(bound_ms)} ms (predicted), all blocks at their cheapest: "
            f"{gap:.0%} to gain at most"
        )
    )


def print_shapes(out: Console, plan: Plan) -> None:
    """The shapes of inputs that the plan was made for."""
    shapes = [
        f"{name} [{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
        for name, shape in plan.shapes.items()
    ]
    if shapes:
        out.print(_text(f"for inputs {', '.join(shapes)}"))


def plan_title(plan: Plan) -> str:
    """The targets of a plan's stages in their order; of many, their number and each target once."""
    return short(" -> ".join(str(stage.target) for stage in plan.stages))


def is_mixed(plan: Plan) -> bool:
    """True for a plan of several stages or precisions."""
    return len(plan.stages) > 1 or any(len(s.target.precisions) > 1 for s in plan.stages)


def print_notes(out: Console, notes: Iterable[str]) -> None:
    """The notes, a paragraph each."""
    for note in notes:
        out.print(_text(f"note: {short(note)}"))


# --- stages -----------------------------------------------------------------------------------


def print_stages(out: Console, plan: Plan, measured: Sequence[float | None] | None = None) -> None:
    """Stages with what they may use and take, and below them what goes from one to another.

    ``measured`` has the milliseconds of each where they were timed after the plan was made.
    """
    table = new_table("Stages")
    targets = [str(stage.target) for stage in plan.stages]
    table.add_column("stage", no_wrap=True)
    short = max(map(len, targets)) <= out.width // 2  # then other columns give way
    table.add_column("target", overflow="fold", no_wrap=short)
    table.add_column("ops", justify="right", no_wrap=True)
    table.add_column("precisions", overflow="fold")
    table.add_column("threads", justify="right")
    table.add_column("spin", no_wrap=True)
    table.add_column("ms" if measured is None else "predicted ms", justify="right")
    if measured is None:
        table.add_column("basis", no_wrap=True)
    else:
        table.add_column("measured ms", justify="right")
    for i, (stage, target) in enumerate(zip(plan.stages, targets, strict=True)):
        spin = {None: "-", True: "yes", False: "no"}[stage.resources.spin]
        last = plan.basis_text(stage)
        if measured is not None:
            word = "" if last in _ON_HARDWARE else f" {last}"
            last = ms(measured[i]) + word
        table.add_row(
            _text(stage.name), _text(target), str(len(stage.ops)), _precisions(stage),
            _threads(stage), spin, ms(stage.predicted_ms), last,
        )  # fmt: skip
    out.print(table)
    if measured is None and _differ(plan):
        out.print(
            "stages: as first tried, at the machine's best speed; the plan: in the final rounds"
        )
    if not plan.boundaries:
        return
    table = new_table("Boundaries")
    table.add_column("value", overflow="fold")
    table.add_column("from", no_wrap=True)
    table.add_column("to", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("predicted ms", justify="right")
    for edge in plan.boundaries:
        nbytes = "?" if edge.nbytes is None else size(edge.nbytes)
        table.add_row(
            _text(edge.value), _text(edge.source), _text(edge.destination), nbytes,
            ms(edge.predicted_ms),
        )  # fmt: skip
    out.print(table)


def _differ(plan: Plan) -> bool:
    """Whether stages were measured, and don't add up to what was measured of the plan."""
    spent_ms = [s.predicted_ms for s in plan.stages if s.basis is Basis.MEASURED and s.predicted_ms]
    return len(spent_ms) == len(plan.stages) and not math.isclose(
        sum(spent_ms), plan.predicted_ms or 0.0, rel_tol=0.02
    )


def _precisions(stage: Stage) -> str:
    """How many ops compute in what: ``bf16 60, fp32 4``; the precision alone where all do."""
    from dioe.tuning.reports import precision_counts

    counts = precision_counts(stage)
    if len(counts) < 2:
        return str(stage.precisions.default)
    return ", ".join(f"{precision} {count}" for precision, count in counts.items())


def _threads(stage: Stage) -> str:
    cores = stage.resources.cores
    where = f" on cores {','.join(map(str, cores))}" if cores else ""
    return f"{stage.resources.threads or 'default'}{where}"


# --- blocks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """One block, or neighbours that fared alike, in words."""

    blocks: str
    kind: str
    ops: str
    stage: str
    target: str
    cost: str
    basis: str
    runner_up: str
    difference: str
    reason: str

    @classmethod
    def of(cls, group: Sequence[BlockReport], stand_ins: Mapping[str, KnownAs]) -> _Row:
        first = group[0]
        ops = [op for block in group for op in block.ops]
        costs = [block.cost_ms for block in group if block.cost_ms is not None]
        losses = [b.difference_ms for b in group if b.difference_ms is not None]
        kinds = Counter(block.kind for block in group)
        return cls(
            blocks=first.block if len(group) == 1 else f"{first.block} … {group[-1].block}",
            kind=_counted(kinds) if len(group) > 1 else first.kind,
            ops=f"{len(ops)} from {ops[0]}" if len(ops) > 1 else (ops or ["-"])[0],
            stage=first.stage,
            target=first.target,
            cost=ms(sum(costs) if costs else None),
            basis=_basis(group, stand_ins.get(first.target.partition("/")[0])),
            runner_up=first.runner_up,
            difference=_range(losses),
            reason=first.reason if len(group) == 1 else _reasons(group),
        )


def print_blocks(
    out: Console,
    blocks: Sequence[BlockReport],
    stand_ins: Mapping[str, KnownAs],
    *,
    every_block: bool = False,
) -> None:
    """Where each block went, what it costs there, and what decided against the next best.

    ``stand_ins`` are the devices that something else computed for (``Plan.stand_ins``).
    """
    if not blocks:
        out.print("Blocks: none was costed, for only whole targets were compared")
        return
    fold = len(blocks) > MANY_BLOCKS and not every_block
    groups = [
        list(group)
        for _, group in itertools.groupby(
            blocks, key=lambda b: (b.stage, b.target, b.runner_up) if fold else b.block
        )
    ]
    rows = [_Row.of(group, stand_ins) for group in groups]
    title = "Blocks" if len(rows) == len(blocks) else f"{len(blocks)} blocks, neighbours folded"
    if out.width >= WIDE:
        out.print(_block_table(title, rows))
    else:
        _print_block_lines(out, title, rows)
    if len(rows) < len(blocks):
        out.print("of folded blocks the costs are summed, and each was moved alone; --all unfolds")


def _block_table(title: str, rows: Sequence[_Row]) -> Table:
    table = new_table(title)
    table.add_column("block", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("ops", overflow="fold", ratio=2)
    table.add_column("stage", no_wrap=True)
    table.add_column("target", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("basis", overflow="fold")
    table.add_column("runner-up", overflow="fold")
    table.add_column("difference ms", justify="right", overflow="fold")
    table.add_column("decided by", overflow="fold", ratio=3)
    for r in rows:
        table.add_row(
            *map(_text, (r.blocks, r.kind, r.ops, r.stage, r.target, r.cost, r.basis)),
            *map(_text, (r.runner_up or "-", r.difference, r.reason)),
        )
    return table


def _print_block_lines(out: Console, title: str, rows: Sequence[_Row]) -> None:
    out.print(f"[bold]{title}[/]")
    for r in rows:
        out.print(_text(f"{r.blocks}: {r.kind}; ops: {r.ops}"))
        lines = [
            f"{r.stage} on {r.target}: {r.cost} ms, {r.basis}",
            f"on {r.runner_up} (runner-up) the plan takes {r.difference} ms" if r.runner_up else "",
            r.reason,
        ]
        for line in filter(None, lines):
            print_indented(out, line)


def _basis(group: Sequence[BlockReport], word: KnownAs | None) -> str:
    """``corrected n=40``: what costs rest on, and on how many runs; ``word`` in the place of what
    is measured where that is how the device is known."""
    found = []
    for basis in dict.fromkeys(block.basis for block in group):
        runs = [block.runs for block in group if block.basis is basis]
        if basis in (Basis.MEASURED, Basis.CORRECTED):
            most = f"-{max(runs)}" if max(runs) > min(runs) else ""
            found.append(f"{word or basis} n={min(runs)}{most}")
        else:
            found.append(str(basis))
    return ", ".join(found)


def _range(losses: Sequence[float]) -> str:
    """``+0.120`` or, of several, ``+0.120 to +0.400``."""
    if not losses:
        return "-"
    least, most = (_signed(value) for value in (min(losses), max(losses)))
    return least if least == most else f"{least} to {most}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "-") + ms(abs(value))


def _reasons(group: Sequence[BlockReport]) -> str:
    """How often what decided, and all of the reason where it was closest."""
    heads = Counter(block.reason.partition(":")[0] for block in group)
    known = [b for b in group if b.difference_ms is not None]
    closest = min(known, key=lambda b: abs(b.difference_ms or 0.0), default=None)
    if closest is None or not closest.reason:
        return _counted(heads)
    return f"{_counted(heads)}; closest {closest.block}: {closest.reason}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in counts.items())


# --- error against latency --------------------------------------------------------------------


def print_tradeoffs(out: Console, plan: Plan) -> None:
    """The curve of error against latency, the least error first; the plan's own point marked."""
    if not plan.tradeoffs:
        return
    table = new_table("Error against latency")
    for heading in ("error", "ms", "ops lowered"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    table.add_column("what is lowered", overflow="fold", ratio=1)
    limit = math.inf if plan.max_relative_l2 is None else plan.max_relative_l2
    for t in sorted(plan.tradeoffs, key=lambda t: (t.relative_l2, t.latency_ms)):
        beyond = t.relative_l2 > limit
        mark = "! " if beyond else "> " if _is_point_of(plan, t) else "  "
        table.add_row(
            mark + error_text(t.relative_l2), ms(t.latency_ms), str(t.lowered_ops), str(t.basis),
            _text(t.description), style="dim" if beyond else "",
        )  # fmt: skip
    out.print(table)
    if any(t.relative_l2 > limit for t in plan.tradeoffs):
        out.print(f"! errors above the limit {error_text(limit)}")


def _is_point_of(plan: Plan, point: Tradeoff) -> bool:
    """Whether a point of the curve is the plan itself."""
    lowered = sum(
        stage.precisions.of(op) is not Precision.FP32 for stage in plan.stages for op in stage.ops
    )
    alike = math.isclose(point.relative_l2, plan.relative_l2 or 0.0, rel_tol=1e-3)
    return alike and point.lowered_ops == lowered


def _text(text: str) -> str:
    """Text from models and files: nothing in it is markup or steers the terminal."""
    return escape(printable(text))
