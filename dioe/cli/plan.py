"""``dioe plan``: choose, and keep the choice as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dioe.cli import options
from dioe.cli.files import check_place, write_text
from dioe.cli.terminal import console, emit, print_targets, progress


def plan(
    model: options.Model,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the plan goes.", metavar="FILE")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, target by target.")] = False,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    shape: options.Shapes = None,
    inputs: options.Inputs = None,
    precision: options.Precision = "fp32",
    max_relative_l2: options.MaxRelativeL2 = None,
    tuning_budget: options.Budget = 30.0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Measure MODEL on every target and choose; write the plan with -o."""
    from dioe.tuning import Job, Settings

    if output is not None:
        check_place(output)
    with progress("planning", quiet=as_json) as say:
        settings = Settings(
            devices=devices, precision=precision, max_relative_l2=max_relative_l2,
            tuning_budget_s=tuning_budget,
        )  # fmt: skip
        job = Job(
            model, hardware=hardware, settings=settings, sample_inputs=options.parse_inputs(inputs),
            shapes=options.parse_shapes(shape), progress=say,
        )  # fmt: skip
        found = job.tunings()[0].plan
    if output is not None:
        write_text(output, found.to_json())
    if as_json:
        emit(found.to_json())
    elif explain:
        emit(found.explain())
    else:
        out = console()
        print_targets(out, found.candidates, chosen=str(found.stages[0].target))
        for note in found.notes:
            out.print(f"note: {note}", markup=False)
        if output is not None:
            out.print(f"plan written to {output}", markup=False)
