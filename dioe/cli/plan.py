"""``dioe plan``: choose, and keep the choice as a file; or explain a choice made before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dioe.cli import costs, limit_options, modelled, options
from dioe.cli.files import PLAN, check_output, write_text
from dioe.cli.pipeline_text import print_pipeline
from dioe.cli.plan_text import is_mixed, print_explained, print_notes, print_plan_line, print_stages
from dioe.cli.terminal import console, emit, print_targets, progress
from dioe.types import PipelinePlan, Plan

if TYPE_CHECKING:
    from dioe.planning import AnyPlan

Model = Annotated[
    list[str] | None,
    typer.Argument(
        help="ONNX file; with --compare then pools.", show_default=False, metavar="MODEL [POOL]"
    ),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where the plan goes.", metavar="FILE")
]
Source = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Explain this plan, made before, and measure nothing.", metavar="FILE"
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say why: stages, targets, blocks, precisions.")
]
All = Annotated[bool, typer.Option("--all", help="With --explain, fold no blocks.")]


def plan(
    context: typer.Context,
    named: Model = None,
    output: Output = None,
    source: Source = None,
    explain: Explain = False,
    every_block: All = False,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    pin: options.Pins = None,
    strict: options.Strict = False,
    memory_limit: limit_options.MemoryLimits = None,
    forbid: limit_options.Forbidden = None,
    max_stages: limit_options.MaxStages = None,
    power_cap: limit_options.PowerCap = None,
    policy: modelled.Policy = "latency",
    latency: modelled.Latency = None,
    compare: modelled.Compare = False,
    by_figures: modelled.Modelled = False,
    timeline: modelled.Timelines = None,
    time_limit: modelled.TimeLimit = None,
    shape: options.Shapes = None,
    inputs: options.Inputs = None,
    precision: options.Precision = "fp32",
    max_relative_l2: options.MaxRelativeL2 = None,
    tuning_budget: options.Budget = 30.0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Measure MODEL on every target, alone and together, and choose; write the plan with -o.

    With --from, explain a plan made before; MODEL may be left out, else the plan has to be its own.
    Where devices of the pool (--hardware) aren't here, and with --modelled or --compare, the plan
    is modelled: computed from figures, nothing is run.
    """
    model, pools = (named[0], named[1:]) if named else (None, [])
    if pools and not compare:
        raise typer.BadParameter(f"{pools[0]!r} is one too many", param_hint="MODEL")
    if model is None and source is None:
        raise typer.BadParameter("name a model, or a plan with --from", param_hint="MODEL")
    if source is not None:
        options.check_beside_plan(
            context, "--from", "shape", "inputs", "tuning_budget", "policy", "latency", "compare",
            "by_figures", "timeline", "time_limit",
        )  # fmt: skip
    if source is None:
        limits = limit_options.parse_limits(memory_limit, forbid, max_stages, power_cap)
        away = {} if compare else modelled.absent(hardware, devices)
        if away or by_figures or compare:
            modelled.check_modelled(context, compare=compare)
            wish = modelled.Wish(
                str(model), devices, pin or (), strict, limits, latency, precision, policy,
                time_limit, options.parse_shapes(shape), as_json,
            )  # fmt: skip
            if compare:
                modelled.show_comparison(wish, pools)
            else:
                modelled.show_modelled(
                    wish, hardware, away=away, output=output, timelines=timeline or (),
                    explain=explain, every=every_block,
                )  # fmt: skip
            return
        modelled.check_measured(policy, latency, timeline)
    if output is not None:
        read = [model, source, hardware, *options.input_files(inputs)]
        check_output(output, PLAN, read)
    with progress("planning", quiet=as_json) as say:
        if source is None:
            from dioe.tuning import Job, Settings

            settings = Settings(
                devices=devices, precision=precision, max_relative_l2=max_relative_l2,
                tuning_budget_s=tuning_budget, pins=pin or (), strict=strict,
                limits=limits,
            )  # fmt: skip
            job = Job(
                str(model), hardware=hardware, settings=settings,
                sample_inputs=options.parse_inputs(inputs), shapes=options.parse_shapes(shape),
                history=costs.history(), progress=say,
            )  # fmt: skip
            found = job.tunings()[0].plan
        else:
            made = _made_before(source, model, hardware)
            if isinstance(made, PipelinePlan):
                _show_pipeline(made, output, every_block=every_block, as_json=as_json)
                return
            found = made
    _show(found, output, explain=explain or source is not None, every_block=every_block,
          as_json=as_json, was_made=source is None)  # fmt: skip


def _show(
    found: Plan,
    output: Path | None,
    *,
    explain: bool,
    every_block: bool,
    as_json: bool,
    was_made: bool,
) -> None:
    """Write a plan, and print it; ``was_made`` by this very command."""
    if output is not None:
        write_text(output, found.to_json())
    if as_json:
        emit(found.to_json())
        return
    out = console()
    if explain:
        print_explained(out, found, every_block=every_block)
    else:
        from dioe.tuning.reports import chosen_name

        print_plan_line(out, found)
        print_targets(out, found.candidates, chosen=chosen_name(found))
        if is_mixed(found):
            print_stages(out, found)
        print_notes(out, found.notes)
    if output is not None:
        out.print(f"plan written to {output}", markup=False)
    elif was_made:
        out.print("the plan was not written: no --output")


def _show_pipeline(
    plan: PipelinePlan, output: Path | None, *, every_block: bool, as_json: bool
) -> None:
    if output is not None:
        write_text(output, plan.to_json())
    if as_json:
        emit(plan.to_json())
        return
    print_pipeline(console(), plan, every_block=every_block)


def _made_before(file: Path, model: str | None, hardware: str | None) -> AnyPlan:
    """The plan in ``file``; raises PlanMismatch if it isn't for ``model``, where one is named."""
    from dioe.planning import load_plan
    from dioe.tuning import Job, Settings

    if model is None:
        return load_plan(file)
    job = Job(model, hardware=hardware, settings=Settings(), sample_inputs=None)
    return job.checked_plan(file)
