"""``dioe inspect``: what a model is made of, and which target supports what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dioe.cli import options
from dioe.cli.plan import write_text
from dioe.cli.terminal import console, progress
from dioe.types import InputError

Html = Annotated[
    Path | None, typer.Option("--html", help="Write a self-contained page.", metavar="FILE")
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="Colour the graph by a plan.", metavar="FILE")
]


def inspect(
    model: options.Model,
    html: Html = None,
    plan: PlanFile = None,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    shape: options.Shapes = None,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Show ops, FLOPs, bytes and blocks of MODEL, and which target supports what and why not."""
    from dioe.graph import OpGraph
    from dioe.tuning import Job, Settings, candidates
    from dioe_inspect import inspect_model, render_html, render_text

    with progress("inspecting", quiet=as_json):
        job = Job(
            model, hardware=hardware, settings=Settings(devices=devices), sample_inputs=None,
            shapes=options.parse_shapes(shape),
        )  # fmt: skip
        bound = job.bound_model(job.groups[0])
        found = candidates(
            bound, job.pool, job.runtime, precision="auto",
            quantised=job.model.quantised, devices=devices,
        )  # fmt: skip
        loaded = job.checked_plan(plan) if plan is not None else None
        graph = OpGraph.build(job.model, job.groups[0].shapes)
        support = {str(c.target): c.support for c in found}
        inspection = inspect_model(graph, support, plan=loaded)
    if html is not None:
        if html.is_dir():
            raise InputError("is a folder", place=str(html), fix="name a file")
        write_text(html, render_html(inspection, graph))
    if as_json:
        options.print_json(inspection.to_dict())
    else:
        render_text(inspection, console(), verbose=verbose > 0)
        if html is not None:
            console().print(f"page written to {html}", markup=False)
