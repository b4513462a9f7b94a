"""``dioe predict``: what a model would take on devices that aren't here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dioe.cli import options
from dioe.cli.terminal import console, ms, new_table
from dioe.text import printable
from dioe.types import KnownAs, Precision

if TYPE_CHECKING:
    from dioe.tuning import Predicted, Prediction

Hardware = Annotated[
    str | None,
    typer.Option(
        help="Pool: a YAML file, or a name in the catalogue; this machine without it.",
        envvar="DIOE_HARDWARE",
    ),
]
Devices = Annotated[str, typer.Option(help="Devices of the pool, comma-separated: gpu:0,cpu.")]
Kernels = Annotated[
    int,
    typer.Option("--kernels", min=0, help="Dearest kernels to show of the best prediction."),
]


def predict(
    model: options.Model,
    hardware: Hardware = None,
    devices: Devices = "auto",
    shape: options.Shapes = None,
    top: Kernels = 0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Predict what MODEL takes on each device of a pool, from figures alone.

    Nothing runs: times are rooflines of the devices' figures, and say what they rest on.
    """
    from dioe.tuning import predict as predict_model

    found = predict_model(
        model, hardware=hardware, devices=devices, shapes=options.parse_shapes(shape)
    )
    if as_json:
        options.print_json(_plain(found))
        return
    out = console()
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, dims)) or 'scalar'}" for name, dims in found.shapes.items()
    )
    out.print(
        printable(
            f"{_counted(found.op_count, 'op')} in {_counted(found.kernel_count, 'kernel')}, "
            f"{found.flops / 1e9:.3g} GFLOP, for {shapes or 'no inputs'}"
        ),
        markup=False,
    )
    if found.unknown:
        out.print(printable(_unknown(found.unknown)), markup=False)
    out.print(_table(found))
    if _would_be_quantised(found):
        out.print(
            "int8 is what the model would take once it is quantised, which DIOE doesn't do yet but "
            "on Cambricon's cards"
        )
    bases = {p.basis: p for p in reversed(found.predictions) if p.basis}
    for basis, first in reversed(bases.items()):
        out.print(printable(f"{first.target}: {basis}"), markup=False)
    for p in found.predictions:
        if p.reason:
            out.print(printable(f"{p.target}: {p.reason}"), markup=False)
    if top and found.predictions and found.predictions[0].kernels:
        out.print(_kernels(found.predictions[0], top))


def _would_be_quantised(found: Predicted) -> bool:
    """Whether there are predictions in int8 of a model that has none."""
    integers = [p for p in found.predictions if p.precision is Precision.INT8 and p.kernels]
    return any(all(k.kernel.written is not Precision.INT8 for k in p.kernels) for p in integers)


_NAMED = 5
"""Of the ops whose work isn't known."""


def _unknown(ops: Sequence[str]) -> str:
    named = ", ".join(ops[:_NAMED])
    more = f" and {len(ops) - _NAMED} more" if len(ops) > _NAMED else ""
    return (
        f"of {_counted(len(ops), 'op')} not all work is known, which isn't counted: {named}{more}; "
        "other shapes (--shape) may tell it"
    )


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _table(found: Predicted) -> Table:
    table = new_table("Predicted from figures, nothing was run")
    table.add_column("target", overflow="fold")
    table.add_column("name", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    for heading in ("compute", "memory", "overhead"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("weights", justify="right", no_wrap=True)
    for p in found.predictions:
        shares = ["-"] * 3
        if p.ms and p.bounds is not None:
            shares = [f"{bound_ms / p.ms:.0%}" for bound_ms in p.bounds.values()]
        table.add_row(
            escape(printable(p.target)), escape(printable(p.name)), ms(p.ms), *shares,
            f"{p.weight_bytes / 2**20:.1f} MiB" if p.ms is not None else "-",
        )  # fmt: skip
    return table


def _kernels(best: Prediction, top: int) -> Table:
    table = new_table(f"Dearest kernels on {best.target}")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("bound", no_wrap=True)
    table.add_column("main op", overflow="fold")
    for time in sorted(best.kernels, key=lambda time: -time.ms)[:top]:
        more = f" and {time.kernel.fused} fused" if time.kernel.fused else ""
        table.add_row(
            ms(time.ms), time.kernel.op_class, str(time.bound),
            escape(printable(time.kernel.main)) + more,
        )  # fmt: skip
    return table


def _plain(found: Predicted) -> dict[str, Any]:
    return {
        "shapes": {name: list(dims) for name, dims in found.shapes.items()},
        "ops": found.op_count,
        "kernels": found.kernel_count,
        "flops": found.flops,
        "unknown": list(found.unknown),
        "predictions": [
            {
                "target": p.target,
                "device": p.device,
                "name": p.name,
                "backend": p.backend,
                "precision": p.precision,
                "mode": p.mode,
                "known_as": str(KnownAs.MODELLED if p.ms is not None else p.known_as),
                "ms": p.ms,
                "dispatch_ms": p.dispatch_ms,
                "bounds": p.bounds,
                "basis": p.basis,
                "reason": p.reason,
                "weight_bytes": p.weight_bytes,
                "kernels": [asdict(time) for time in p.kernels],
            }
            for p in found.predictions
        ],
    }
