"""``dioe inspect``: what a model is made of, and which target supports what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dioe.cli import options
from dioe.cli.files import HTML, check_output, write_text
from dioe.cli.terminal import console, known, progress

Html = Annotated[
    Path | None, typer.Option("--html", help="Write a self-contained page.", metavar="FILE")
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="Colour the graph by a plan.", metavar="FILE")
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Measure ops on every target and show their costs.")
]


def inspect(
    model: options.Model,
    html: Html = None,
    plan: PlanFile = None,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    shape: options.Shapes = None,
    inputs: options.Inputs = None,
    profile: Profile = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Show ops, FLOPs, bytes and blocks of MODEL, and which target supports what and why not."""
    from dioe.graph import OpGraph
    from dioe.tuning import Job, Settings, op_costs, profile_targets
    from dioe_inspect import inspect_model, render_html, render_text

    if html is not None:
        check_output(html, HTML, [model, plan, hardware, *options.input_files(inputs)])
    with progress("inspecting", quiet=as_json) as say:
        job = Job(
            model, hardware=hardware, settings=Settings(devices=devices, precision="auto"),
            sample_inputs=options.parse_inputs(inputs), shapes=options.parse_shapes(shape),
            progress=say,
        )  # fmt: skip
        found = job.candidates(job.groups[0])
        loaded = job.checked_plan(plan) if plan is not None else None
        graph = OpGraph.build(job.model, job.groups[0].shapes)
        names = {str(c.target): f"{c.target}{known(c.known_as)}" for c in found}
        support = {names[str(c.target)]: c.support for c in found}
        costs = None
        if profile:
            booked = op_costs(profile_targets(job, found, seconds=0.5), graph)
            costs = {names[target]: by_op for target, by_op in booked.items()}
        inspection = inspect_model(graph, support, costs=costs, plan=loaded, declared=job.model)
    if html is not None:
        write_text(html, render_html(inspection, graph))
    if as_json:
        options.print_json(inspection.to_dict())
    else:
        out = console()
        render_text(inspection, out, verbose=verbose > 0)
        if not shape and not inputs and job.model.inputs != graph.model.inputs:
            out.print("open shapes of inputs were assumed; --shape or --input gives others")
        if html is not None:
            console().print(f"page written to {html}", markup=False)
