"""An inspection as tables for a terminal, from 80 columns up."""

from __future__ import annotations

from collections import Counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dioe.text import printable
from dioe_inspect.groups import Grouping, group_ops, letters
from dioe_inspect.inspection import Inspection, TargetFacts, Work
from dioe_inspect.units import amount, bound, count, flop, milliseconds, size, tensor

_ROWS = 12
"""Rows of a table without ``verbose``."""


def render_text(inspection: Inspection, console: Console, verbose: bool = False) -> None:
    """Print the model's facts, targets, op types and blocks; with ``verbose`` every row and op."""
    _model(inspection, console)
    _plan(inspection, console)
    _targets(inspection, console, verbose)
    _op_types(inspection, console, verbose)
    _blocks(inspection, console, verbose)
    if verbose:
        _ops(inspection, console)
    if inspection.model.work.flops.unknown_ops:
        console.print(
            "≥ and ?: an op's shapes aren't known, or what it computes isn't; "
            "--shape binds the shapes of inputs.",
            style="dim",
            markup=False,
            highlight=False,
        )


def _table(title: str, *columns: str) -> Table:
    """A table; ``#`` begins the names of columns of numbers, ``=`` of those that never fold."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for name in columns:
        if name.startswith("#"):
            table.add_column(name[1:], justify="right", no_wrap=True)
        else:
            fixed = name.startswith("=")
            table.add_column(name.lstrip("="), overflow="fold", no_wrap=fixed)
    return table


def _text(value: str, style: str = "") -> Text:
    """Never markup: names come from the model."""
    return Text(printable(value), style=style)


def _cut(rows: int, verbose: bool, console: Console) -> None:
    if rows > _ROWS and not verbose:
        console.print(f"… and {rows - _ROWS} more (-v shows all)", style="dim", markup=False)
        console.print()


def _model(inspection: Inspection, console: Console) -> None:
    model, work = inspection.model, inspection.model.work
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    opsets = ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in model.opsets.items())
    rows = [
        ("model", model.path or "(in memory)"),
        ("sha256", model.sha256),
        ("opsets", opsets + (f"; by {model.producer}" if model.producer else "")),
        *(("input", f"{own.name}: {bound(own, here)}") for own, here in model.bound_inputs),
        *(("output", f"{own.name}: {bound(own, here)}") for own, here in model.bound_outputs),
        ("ops", str(model.ops)),
        ("parameters", f"{count(work.parameters)} ({size(work.parameter_bytes)})"),
        ("one run", _one_run(work)),
    ]
    for name, value in rows:
        facts.add_row(name, _text(value))
    console.print(facts)
    console.print()


def _one_run(work: Work) -> str:
    read, written = (
        amount(work.bytes_read, in_bytes=True),
        amount(work.bytes_written, in_bytes=True),
    )
    return f"{flop(work.flops)}, ops read {read} and write {written}"


def _plan(inspection: Inspection, console: Console) -> None:
    if inspection.plan is None:
        return
    table = _table("Plan", "=stage", "target", "#ops")
    for name, target, ops in inspection.plan.stages:
        table.add_row(_text(name), _text(target), str(ops))
    console.print(table)
    if inspection.plan.predicted_ms is not None:
        console.print(
            f"the plan takes {milliseconds(inspection.plan.predicted_ms)} "
            f"({inspection.plan.basis})",
            markup=False,
        )


def _targets(inspection: Inspection, console: Console, verbose: bool) -> None:
    if not inspection.targets:
        return
    costs = any(target.cost_ms is not None for target in inspection.targets)
    table = _table("Targets", "=target", "#ops", "refused", *["#sum of op times"] * costs)
    for target in inspection.targets:
        verdict = _text("none", "green") if target.whole else _refused(inspection, target, verbose)
        row: list[Text | str] = [
            _text(target.target),
            f"{target.supported_ops}/{inspection.model.ops}",
            verdict,
        ]
        if costs:
            row.append("" if target.cost_ms is None else milliseconds(target.cost_ms))
        table.add_row(*row)
    console.print(table)


def _refused(inspection: Inspection, target: TargetFacts, verbose: bool) -> Text:
    """The reasons, with the types of the ops they are given for; with ``verbose`` the ops."""
    types = {op.id: op.op_type for op in inspection.ops}
    everything = len(types)
    reasons: dict[str, list[str]] = {}
    for op, reason in target.refused.items():
        reasons.setdefault(reason, []).append(op)
    lines = []
    most = len(reasons) if verbose else 4
    for reason, ops in list(reasons.items())[:most]:
        kinds = Counter(types[op] for op in ops)
        names = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(None if verbose else 4))
        names += ", …" if len(kinds) > 4 and not verbose else ""
        if len(ops) == everything:
            lines.append(f"all: {reason}")
        elif verbose:
            lines.append(f"{names}: {reason} ({', '.join(ops)})")
        else:
            lines.append(f"{names}: {reason if len(reason) <= 240 else reason[:239] + '…'}")
    if len(reasons) > most:
        lines.append(f"and {len(reasons) - most} more reasons")
    return Text("\n").join(_text(line, "yellow") for line in lines)


def _share(work: Work, times: int, whole: Work) -> str:
    return (
        f"{100 * times * work.flops.known / whole.flops.known:.1f} %" if whole.flops.known else ""
    )


def _op_types(inspection: Inspection, console: Console, verbose: bool) -> None:
    table = _table(
        "Ops by type", "type", "#ops", "#FLOPs", "#share", "#read", "#written", "#parameters"
    )
    for row in inspection.op_types[: None if verbose else _ROWS]:
        table.add_row(
            _text(row.op_type),
            str(row.count),
            amount(row.work.flops),
            _share(row.work, 1, inspection.model.work),
            amount(row.work.bytes_read, in_bytes=True),
            amount(row.work.bytes_written, in_bytes=True),
            count(row.work.parameters),
        )
    console.print(table)
    _cut(len(inspection.op_types), verbose, console)


def _blocks(inspection: Inspection, console: Console, verbose: bool) -> None:
    table = _table(
        "Blocks (equal ones together)",
        "=kind",
        "#times",
        "#ops",
        "#FLOPs each",
        "#share",
        "made of",
    )
    for block in inspection.blocks[: None if verbose else _ROWS]:
        kinds = Counter(block.op_types)
        made_of = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in kinds.items())
        table.add_row(
            _text(block.kind),
            str(block.times),
            str(len(block.op_types)),
            amount(block.work.flops),
            _share(block.work, block.times, inspection.model.work),
            _text(made_of),
        )
    console.print(table)
    _cut(len(inspection.blocks), verbose, console)


def _ops(inspection: Inspection, console: Console) -> None:
    grouping = group_ops(inspection)
    table = _table("Ops", "op", "type", "outputs", "#FLOPs", "=")
    for op in inspection.ops:
        table.add_row(
            _text(op.id),
            _text(op.op_type),
            _text(", ".join(tensor(spec) for spec in op.outputs)),
            "?" if op.flops is None else count(op.flops),
            _letter(grouping, op.id),
        )
    console.print(table)
    for i, label in enumerate(grouping.labels):
        console.print(f"{letters(i)}: {grouping.basis} {label}", markup=False)


def _letter(grouping: Grouping, op: str) -> str:
    group = grouping.group_of[op]
    return "–" if group is None else letters(group)
