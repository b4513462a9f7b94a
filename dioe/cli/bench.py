"""``dioe bench``: what each target takes, what the plan takes, what was gained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dioe.cli import costs, limit_options, options
from dioe.cli.plan_text import is_mixed, print_notes, print_shapes, print_stages
from dioe.cli.terminal import console, error_text, known, ms, print_targets, progress, short
from dioe.text import printable

if TYPE_CHECKING:
    from dioe.tuning import BenchResult

Seconds = Annotated[
    float, typer.Option("--time", help="Seconds of the final timing.", envvar="DIOE_BENCH_TIME")
]


def bench(
    model: options.Model,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    pin: options.Pins = None,
    strict: options.Strict = False,
    memory_limit: limit_options.MemoryLimits = None,
    forbid: limit_options.Forbidden = None,
    max_stages: limit_options.MaxStages = None,
    power_cap: limit_options.PowerCap = None,
    shape: options.Shapes = None,
    inputs: options.Inputs = None,
    precision: options.Precision = "fp32",
    max_relative_l2: options.MaxRelativeL2 = None,
    tuning_budget: options.Budget = 30.0,
    seconds: Seconds = 10.0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Time MODEL on every target and the chosen plan, in rounds, medians kept."""
    from dioe.tuning import bench as run_bench

    limits = limit_options.parse_limits(memory_limit, forbid, max_stages, power_cap)
    costs.history()
    with progress("measuring", quiet=as_json) as say:
        result = run_bench(
            model, hardware=hardware, devices=devices, precision=precision,
            max_relative_l2=max_relative_l2, sample_inputs=options.parse_inputs(inputs),
            shapes=options.parse_shapes(shape), tuning_budget_s=tuning_budget, time_s=seconds,
            pins=pin or (), strict=strict, limits=limits, progress=say,
        )  # fmt: skip
    if as_json:
        options.print_json(result.to_dict())
    else:
        show(result, console())


def show(result: BenchResult, out: Console) -> None:
    """The result as a person reads it."""
    chosen, machine = result.plan["name"], result.machine
    name = Path(result.model["path"]).name if result.model["path"] else "model"
    cores = "" if machine["capacity"] is None else f", {machine['capacity']:g} cores"
    out.print(f"{name}: {result.model['ops']} ops", markup=False)
    out.print(f"on {machine['name']}{cores} ({machine['known_as']})", markup=False)
    print_shapes(out, result.chosen)
    earlier = {t.target for t in result.mixed if t.target != chosen and t.p50_ms}
    print_targets(out, (*result.targets, *result.mixed), chosen=chosen, earlier=earlier)
    if is_mixed(result.chosen):
        print_stages(out, result.chosen, [s["measured_ms"] for s in result.plan["stages"]])
        for reason in dict.fromkeys(s["reason"] for s in result.plan["stages"] if s["reason"]):
            out.print(f"stages not timed: {printable(reason)}", markup=False)
    out.print(
        f"plan: {printable(short(chosen))}, {ms(result.plan['p50_ms'])} ms"
        f"{known(result.plan['known_as'])} through Session.run "
        f"(predicted {ms(result.plan['predicted_ms'])}), "
        f"error {error_text(result.plan['relative_l2'])}",
        markup=False,
    )
    _show_gain(result, out)
    print_notes(out, result.notes)


def _show_gain(result: BenchResult, out: Console) -> None:
    best = result.best_single
    if best["target"] is None:
        out.print("no single target runs the model within the error limit")
        return
    others = [t for t in result.targets if t.state == "ok" and t.target != best["target"]]
    out.print(
        f"best single target: {best['target']}, {ms(best['p50_ms'])} ms"
        f"{known(best['known_as'])} by its own fastest call; "
        f"the plan is {result.speedup_over_best_single:.2f} times as fast "
        f"({result.plan['p50_ms'] - best['p50_ms']:+.3f} ms a run)",
        markup=False,
    )
    for other in sorted(others, key=lambda t: t.p50_ms or 0.0):
        if other.p50_ms is not None:
            gain = other.p50_ms / result.plan["p50_ms"]
            name = f"{other.target}{known(other.known_as)}"
            out.print(f"{gain:.2f} times as fast as {name}", markup=False)
