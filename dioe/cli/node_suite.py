"""``dioe node-suite``: which of ONNX's node cases pass on which backend."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dioe.cli import options
from dioe.cli.terminal import console, new_table, print_indented, progress_bar
from dioe.text import printable

if TYPE_CHECKING:
    from dioe.testing.node_suite import Report

Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        help="A backend to judge; may be repeated. Without: all that execute on the device.",
        metavar="NAME",
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="The device, as the backends themselves name it.")
]
Cases = Annotated[
    list[str] | None,
    typer.Option(
        "--case",
        help="Only cases that match, such as 'test_add*'; may be repeated.",
        metavar="PATTERN",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that a case may take.", min=0.1)]
Jobs = Annotated[
    int | None,
    typer.Option(help="Processes at a time. Without: as many as there are cores.", min=1),
]


def node_suite(
    backend: Backends = None,
    device: Device = "cpu",
    case: Cases = None,
    timeout: Timeout = 60.0,
    jobs: Jobs = None,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Run ONNX's node cases on the backends, each case on each of them (for developers)."""
    from dioe.hardware.host import read_counts
    from dioe.testing.installed import plugin_points
    from dioe.testing.node_suite import case_names, find_backends, run_suite

    started = time.monotonic()
    with progress_bar("node suite", quiet=as_json) as show:
        show("looking for backends", 0, 0)
        backends = find_backends(plugin_points(), backend or (), device)
        show("ONNX computes its cases", 0, 0)
        cases = case_names(case or ())
        report = run_suite(
            backends, cases, limit_s=timeout, jobs=jobs or len(read_counts().usable), progress=show
        )
    if as_json:
        options.print_json(report.to_dict())
        return
    out = console()
    show_report(report, out, verbose=verbose > 0)
    out.print(f"took {time.monotonic() - started:.0f} s")


def show_report(report: Report, out: Console, *, verbose: bool) -> None:
    """The counts, the cases that no backend passes, and with ``verbose`` all others that fail."""
    found = report.to_dict()
    onnx = importlib.metadata.version("onnx")
    table = new_table(f"Node cases of onnx {onnx}")
    table.add_column("backend", overflow="fold")
    for heading in ("passed", "failed", "total"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, counts in found["per_backend"].items():
        _add(table, escape(printable(name)), counts)
    _add(table, "[bold]all together[/]", found["all"])
    _add(table, "[bold]all but reference[/]", found["without_reference"])
    out.print(table)
    failures: Sequence[dict[str, str]] = found["failures"]
    count = found["all"]["failed"] * len(report.reasons)
    if count:
        out.print("Cases that no backend passes", style="bold")
        _list(failures[:count], out)
    if verbose and failures[count:]:
        out.print("Failures of cases that another backend passes", style="bold")
        _list(failures[count:], out)
    elif failures[count:]:
        more = len(failures) - count
        out.print(f"{more} failures of cases that another backend passes: -v lists them, or --json")


def _add(table: Any, name: str, counts: dict[str, int]) -> None:
    table.add_row(name, *(str(counts[key]) for key in ("passed", "failed", "total")))


def _list(failures: Iterable[dict[str, str]], out: Console) -> None:
    for case, entries in groupby(failures, key=lambda entry: entry["case"]):
        out.print(printable(case), markup=False)
        for entry in entries:
            print_indented(out, f"{entry['backend']}: {entry['reason']}")
