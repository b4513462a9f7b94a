"""A pipeline's plan as a person reads it: where each node runs, what it costs, models' plans."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from dioe.cli.plan_text import print_explained, print_notes
from dioe.cli.terminal import error_text, ms, new_table, print_targets, short
from dioe.text import printable
from dioe.types import PipelinePlan


def print_pipeline(out: Console, plan: PipelinePlan, *, every_block: bool = False) -> None:
    """All that the plan of a pipeline tells; the plan of each model below it."""
    cost = "not measured" if plan.predicted_ms is None else f"{ms(plan.predicted_ms)} ms"
    error = "" if plan.relative_l2 is None else f", error {error_text(plan.relative_l2)}"
    limit = "" if plan.max_relative_l2 is None else f" (limit {error_text(plan.max_relative_l2)})"
    order = " -> ".join(plan.order)
    out.print(_text(f"pipeline: {order}, {cost} ({plan.basis}){error}{limit}"))
    _print_nodes(out, plan)
    for edge in plan.edges:
        out.print(_text(f"edge: {edge.source} -> {edge.destination}"))
    for place, model in plan.calls.items():
        out.print(_text(f"call: {place} calls {model}"))
    if plan.candidates:
        print_targets(out, plan.candidates, chosen=plan.candidates[0].target)
    print_notes(out, plan.notes)
    for name, node in plan.models.items():
        for each in node.plans:
            out.print(f"\n[bold]{_text(name)}[/]")
            print_explained(out, each, every_block=every_block)


def _print_nodes(out: Console, plan: PipelinePlan) -> None:
    table = new_table("Nodes")
    table.add_column("node", overflow="fold")
    table.add_column("where", overflow="fold")
    for heading in ("ms", "spread", "runs", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    for name, cost in plan.costs.items():
        share = plan.share(name)
        figures = ("-", "-", "-", "-", "-")
        if cost is not None:
            figures = (
                ms(cost.p50_ms), ms(cost.spread_ms), str(cost.runs),
                "-" if share is None else f"{share:.0%}", str(cost.basis),
            )  # fmt: skip
        table.add_row(_text(name), _text(short(plan.where(name))), *figures)
    out.print(table)


def _text(text: str) -> str:
    return escape(printable(text))
