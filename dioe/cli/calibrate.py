"""``dioe calibrate``: what every backend reaches on every device of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dioe.cli import options
from dioe.cli.files import POOL, check_output
from dioe.cli.terminal import console, known, new_table, print_indented, progress
from dioe.text import printable

if TYPE_CHECKING:
    from dioe.profiling.calibration import Reading
    from dioe.tuning.calibrate import Calibration
    from dioe.tuning.calibration_figures import Row

Write = Annotated[
    Path | None,
    typer.Option(
        "--write",
        help="Write the pool with the figures; may be the file that --hardware names.",
        metavar="FILE",
    ),
]
Seconds = Annotated[
    float,
    typer.Option("--seconds", help="About how long to measure.", envvar="DIOE_CALIBRATE_SECONDS"),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="ONNX file whose ops teach how far classes of ops stay from their rooflines.",
        metavar="MODEL",
    ),
]


def calibrate(
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    write: Write = None,
    seconds: Seconds = 60.0,
    model: Models = None,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Measure peaks, bandwidths and overheads of every backend, as figures of a pool file."""
    from dioe.tuning.calibrate import run_calibration

    if write is not None:
        check_output(write, POOL, [])
    with progress("measuring", quiet=as_json) as say:
        found = run_calibration(
            hardware=hardware, devices=devices, seconds=seconds, models=model or [], progress=say
        )
    if write is not None:
        found.write(write)
    if as_json:
        options.print_json(found.to_dict())
        return
    show(found, console())
    if write is not None:
        console().print(f"written to {printable(str(write))}", markup=False)


def show(found: Calibration, out: Console) -> None:
    """The figures as a person reads them."""
    measured = [row for row in found.rows if not row.reason]
    _print_peaks(found, measured, out)
    _print_overheads(measured, out)
    _print_sets(measured, out)
    _print_between(found, out)
    _print_factors(found, out)
    if any(reading.noisy for row in measured for reading in _readings(row)):
        out.print("~ measured while other processes used the cores")
    for row in found.rows:
        if row.reason:
            _say(out, f"{row.name} isn't measured: {row.reason}")
        for what, reason in row.findings.problems.items():
            _say(out, f"{row.name} has no {what}: {reason}")
    for note in found.notes:
        _say(out, f"note: {note}")
    for what, reason in found.boundary_problems.items():
        _say(out, f"the boundary {what} isn't measured: {reason}")
    for model, reason in found.model_problems.items():
        _say(out, f"{model} teaches nothing: {reason}")


def _say(out: Console, text: str) -> None:
    out.print(printable(" ".join(text.split())), markup=False)


def _name(row: Row) -> str:
    return escape(printable(row.backend)) + known(row.known_as)


def _print_peaks(found: Calibration, rows: list[Row], out: Console) -> None:
    from dioe.hardware.figures import Arithmetic, rate_text

    table = new_table("Peaks")
    table.add_column("device", overflow="fold")
    table.add_column("backend", overflow="fold")
    table.add_column("precision")
    for heading in ("peak", "of the chip's", "rounds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for row in rows:
        for precision, reading in row.findings.peaks.items():
            share = found.share_of_chip(row.device, precision, reading.value)
            rate = rate_text(float(f"{reading.value:.3g}"), Arithmetic(precision))
            table.add_row(
                row.device, _name(row), str(precision), _noisy(reading) + rate,
                "-" if share is None else f"{share:.0%}", str(reading.rounds), reading.note,
            )  # fmt: skip
    out.print(table)


def _print_overheads(rows: list[Row], out: Console) -> None:
    table = new_table("Memory and overheads")
    table.add_column("device", overflow="fold")
    table.add_column("backend", overflow="fold")
    for heading in ("bandwidth", "launch (an op)", "dispatch (a run)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        found = row.findings
        beyond = found.memory_bandwidth
        table.add_row(
            row.device, _name(row), "-" if beyond is None else _noisy(beyond) + speed(beyond.value),
            _seconds(found.launch), _seconds(found.dispatch),
        )  # fmt: skip
    out.print(table)


def _print_sets(rows: list[Row], out: Console) -> None:
    sets = sorted({nbytes for row in rows for nbytes in row.findings.bandwidths})
    if not sets:
        return
    table = new_table("GB/s by working set")
    table.add_column("device", overflow="fold")
    table.add_column("backend", overflow="fold")
    for nbytes in sets:
        table.add_column(short_size(nbytes), justify="right", no_wrap=True)
    for row in rows:
        readings = [row.findings.bandwidths.get(nbytes) for nbytes in sets]
        cells = ["-" if r is None else _noisy(r) + f"{r.value / 1e9:.3g}" for r in readings]
        table.add_row(row.device, _name(row), *cells)
    out.print(table)


def _print_between(found: Calibration, out: Console) -> None:
    links, boundaries = found.measured.links, found.measured.boundaries
    if not links and not boundaries:
        return
    table = new_table("Between devices, and between backends")
    table.add_column("from", overflow="fold")
    table.add_column("to", overflow="fold")
    for heading in ("fixed", "bandwidth"):
        table.add_column(heading, justify="right", no_wrap=True)
    for link in links:
        latency = None if link.latency is None else link.latency.value
        table.add_row(link.source, link.destination, span(latency), speed(link.bandwidth.value))
    for each in boundaries:
        moved = "-" if each.bandwidth is None else speed(each.bandwidth.value)
        noisy = "~" if each.fixed.note == "noisy" else ""
        table.add_row(each.source, each.destination, noisy + span(each.fixed.value), moved)
    out.print(table)
    if boundaries:
        print_indented(
            out, "Between backends: what a value handed over costs beside both stages alone."
        )


def _readings(row: Row) -> list[Reading]:
    found = row.findings
    single = [each for each in (found.launch, found.dispatch) if each is not None]
    return [*found.peaks.values(), *found.bandwidths.values(), *single]


def _noisy(reading: Reading) -> str:
    return "~" if reading.noisy else ""


def _seconds(reading: Reading | None) -> str:
    return "-" if reading is None else _noisy(reading) + span(reading.value)


def speed(per_s: float) -> str:
    """Bytes per second."""
    return f"{per_s / 1e9:.3g} GB/s"


def span(seconds: float | None) -> str:
    """A short time."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def short_size(nbytes: int) -> str:
    """A power of two of bytes."""
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


def _print_factors(found: Calibration, out: Console) -> None:
    learned = [
        (device, factor)
        for device, figures in found.measured.figures.items()
        for factor in figures.op_factors
    ]
    if not learned:
        return
    targets = list(dict.fromkeys(f"{d}/{f.backend}/{f.precision}" for d, f in learned))
    factors = {(f"{d}/{f.backend}/{f.precision}", f.op_class): f for d, f in learned}
    table = new_table("Times their roofline that classes of ops take")
    table.add_column("class", no_wrap=True)
    for target in targets:
        table.add_column(escape(printable(target)), justify="right", overflow="fold")
    for name in sorted({factor.op_class for _, factor in learned}):
        cells = [factors.get((target, name)) for target in targets]
        table.add_row(name, *("-" if cell is None else f"{cell.value:.2g}" for cell in cells))
    out.print(table)
