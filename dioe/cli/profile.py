"""``dioe profile``: where the time of a model goes, op by op or block by block, on each target."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dioe.cli import costs, limit_options, options
from dioe.cli.block_table import print_blocks
from dioe.cli.terminal import console, known, ms, new_table, progress, progress_bar
from dioe.text import printable
from dioe.types import OpTime

if TYPE_CHECKING:
    from dioe.tuning import BlockProfile, Job, TargetProfile

Blocks = Annotated[
    bool, typer.Option("--blocks", help="Measure each distinct block, in the model and alone.")
]
Seconds = Annotated[float, typer.Option("--time", help="Seconds on each target, for its ops.")]
AllSeconds = Annotated[
    float, typer.Option("--seconds", help="Seconds for all targets together, with --blocks.")
]
Top = Annotated[int, typer.Option("--top", help="Ops of a target, or blocks, shown; 0 for all.")]


def profile(
    model: options.Model,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    shape: options.Shapes = None,
    inputs: options.Inputs = None,
    precision: options.Precision = "auto",
    memory_limit: limit_options.MemoryLimits = None,
    forbid: limit_options.Forbidden = None,
    power_cap: limit_options.PowerCap = None,
    blocks: Blocks = False,
    seconds: Seconds = 2.0,
    all_seconds: AllSeconds = 60.0,
    top: Top = 15,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Per-op times of MODEL on every target, by the backends' own counters.

    With --blocks, what each of its blocks takes; costs measured before aren't measured again.
    """
    from dioe.tuning import Job, Settings, block_profiles, profile_targets

    limits = limit_options.parse_limits(memory_limit, forbid, power=power_cap)
    settings = Settings(devices=devices, precision=precision, limits=limits)
    job = Job(
        model, hardware=hardware, settings=settings,
        sample_inputs=options.parse_inputs(inputs), shapes=options.parse_shapes(shape),
        history=costs.history() if blocks else None,
    )  # fmt: skip
    if blocks:
        with progress_bar("profiling", quiet=as_json) as show:
            profiles = block_profiles(
                job, job.candidates(job.groups[0]), seconds=all_seconds, progress=show
            )
        if as_json:
            options.print_json(
                {
                    "model": _model(job),
                    "blocks": [_plain_block(profile) for profile in profiles.blocks],
                    "not_reached": profiles.not_reached,
                }
            )
        else:
            print_blocks(console(), profiles, top=top, seconds=all_seconds)
        return
    with progress("profiling", quiet=as_json) as say:
        job.progress = say
        found = profile_targets(job, job.candidates(job.groups[0]), seconds=seconds)
    if as_json:
        options.print_json(
            {
                "model": _model(job),
                "targets": [
                    {
                        "target": p.target,
                        "known_as": str(p.known_as),
                        "reason": p.reason,
                        "ops": [_plain(op) for op in p.ops],
                    }
                    for p in found
                ],
            }
        )
        return
    for entry in found:
        _show(entry, top)
    console().print(
        f"the model has {len(job.model.placed_op_ids)} ops; backends fuse some, and execute others "
        "that they add"
    )


def _model(job: Job) -> dict[str, Any]:
    return {"sha256": job.model.sha256, "ops": len(job.model.placed_op_ids)}


def _plain_block(profile: BlockProfile) -> dict[str, Any]:
    best = profile.best
    return {
        "structure_hash": profile.structure_hash,
        "kind": profile.kind,
        "times": profile.times,
        "blocks": list(profile.blocks),
        "ops": list(profile.ops),
        "op_types": list(profile.op_types),
        "best": None if best is None else {"target": best.target, "threads": best.threads},
        "costs": [asdict(cost) for cost in profile.costs],
    }


def _plain(op: OpTime) -> dict[str, Any]:
    return {
        "name": op.name, "op_type": op.op_type, "source_ops": list(op.ops),
        "mean_ms": op.mean_ms, "runs": op.count, "precision": op.precision,
    }  # fmt: skip


def _shortened(ops: tuple[str, ...], most: int = 3) -> str:
    more = f" and {len(ops) - most} more" if len(ops) > most else ""
    return ", ".join(ops[:most]) + more


def _show(entry: TargetProfile, top: int) -> None:
    out = console()
    if not entry.ops:
        out.print(printable(f"{entry.target}: no times, {entry.reason}"), markup=False)
        return
    out.print(_table(entry, top))
    left = entry.ops[top:] if top else ()
    if left:
        left_ms = sum(op.mean_ms for op in left)
        out.print(
            f"and {len(left)} more of {ms(left_ms)} ms "
            f"({left_ms / max(entry.total_ms, 1e-9):.1%}); --top 0 shows all"
        )


def _table(entry: TargetProfile, top: int) -> Table:
    total_ms = entry.total_ms
    took = f"{ms(total_ms)} ms{known(entry.known_as)}"
    table = new_table(f"{entry.target}: {took} in {len(entry.ops)} executed nodes")
    for heading in ("ms", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("type", overflow="fold", min_width=12)
    table.add_column("precision", no_wrap=True)
    table.add_column("source ops (or the backend's name)", overflow="fold", ratio=1)
    for op in entry.ops[: top or None]:
        covered = _shortened(op.ops) if op.ops else f"({op.name})"
        table.add_row(
            ms(op.mean_ms), f"{op.mean_ms / max(total_ms, 1e-9):.1%}",
            escape(printable(op.op_type)), op.precision, escape(printable(covered)),
        )  # fmt: skip
    return table
