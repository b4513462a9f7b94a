"""What commands print: tables on stdout, a line of progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dioe.types import TargetReport


def reader_gone() -> NoReturn:
    """End the command well: who read its output has seen enough (``dioe devices | head -1``)."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())  # for what is still to be flushed
    os.close(devnull)
    raise typer.Exit


class _Console(Console):
    def on_broken_pipe(self) -> None:
        reader_gone()


def emit(text: str) -> None:
    """Write plain text to stdout."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        reader_gone()


def console() -> Console:
    """The console on stdout."""
    return _Console(highlight=False)


@contextlib.contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A status line on stderr while the block runs; nothing where stderr is no terminal."""
    err = Console(stderr=True)
    if quiet or not err.is_terminal:
        yield lambda text: None
        return
    with err.status(title) as status:
        yield lambda text: status.update(f"{title}: {text}")


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits or so; a dash for None."""
    if value is None:
        return "-"
    digits = 3 if value < 1 else 2 if value < 100 else 1
    return f"{value:.{digits}f}"


def error_text(value: float | None) -> str:
    """A relative error."""
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"


STATE_STYLE = {"ok": "green", "infidel": "yellow", "slow": "dim", "unsupported": "dim"}


def new_table(title: str) -> Table:
    """An empty table as every command prints them: no box that costs width, the title above."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )


def print_targets(out: Console, reports: Sequence[TargetReport], chosen: str = "") -> None:
    """The candidates with their figures, fastest first, and below them why some don't count."""
    ordered = sorted(reports, key=lambda r: (r.state != "ok", r.p50_ms or float("inf")))
    table = new_table("Targets")
    table.add_column("target", overflow="fold")
    table.add_column("state")
    for heading in ("p50 ms", "p90 ms", "p99 ms", "runs", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in ordered:
        mark = "> " if r.target == chosen else "  "
        style = STATE_STYLE.get(r.state, "red")
        noisy = "~" if r.noisy else ""
        table.add_row(
            mark + r.target, f"[{style}]{r.state}[/]", noisy + ms(r.p50_ms), ms(r.p90_ms),
            ms(r.p99_ms), str(r.runs or "-"), error_text(r.relative_l2),
        )  # fmt: skip
    out.print(table)
    if any(r.noisy for r in reports):
        out.print("~ measured while other processes used the cores")
    for r in ordered:
        if r.reason:
            out.print(f"{r.target} is {r.state}: {r.reason}", markup=False)
