"""What commands print: tables on stdout, a line of progress on stderr."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from dioe.text import printable
from dioe.types import ConfigError, KnownAs, TargetReport


def reader_gone() -> NoReturn:
    """End the command well: who read its output has seen enough (``dioe devices | head -1``)."""
    _drop_the_rest()
    raise typer.Exit


def _drop_the_rest() -> None:
    """What is still to be flushed to stdout goes nowhere."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def output_lost(error: OSError) -> ConfigError:
    """The error of a result that stdout didn't take, such as a full disk."""
    _drop_the_rest()
    return ConfigError(
        f"the output can't be written: {error.strerror or error}",
        place="stdout",
        fix="make room, or send it elsewhere",
    )


class _Console(Console):
    def on_broken_pipe(self) -> None:
        reader_gone()

    def print(self, *objects: Any, **how: Any) -> None:
        try:
            super().print(*objects, **how)
        except OSError as error:
            raise output_lost(error) from None


def emit(text: str) -> None:
    """Write plain text to stdout; raises ConfigError where it can't be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        reader_gone()
    except OSError as error:
        raise output_lost(error) from None


def console() -> Console:
    """The console on stdout."""
    return _Console(highlight=False)


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr while the block runs; nothing where stderr is no terminal.

    It is told what is being done, how many are done, and of how many (0: not known yet).
    """
    err = Console(stderr=True)
    if quiet or not err.is_terminal:
        yield lambda text, done, total: None
        return
    columns = (
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=8)),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
    )
    with Progress(*columns, console=err, transient=True, expand=True) as bar:
        task = bar.add_task(title, total=None, left="")

        def show(text: str, done: int, total: int) -> None:
            left = f"{total - done} left" if total else ""
            bar.update(
                task, description=f"{title}: {escape(printable(text))}", completed=done,
                total=total or None, left=left,
            )  # fmt: skip

        yield show


_SPINNER_WIDTH = 3
"""Columns of what turns in front of a status line, and one to spare."""


@contextlib.contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A status line on stderr while the block runs; nothing where stderr is no terminal."""
    err = Console(stderr=True)
    if quiet or not err.is_terminal:
        yield lambda text: None
        return
    with err.status(title) as status:

        def show(text: str) -> None:
            line = Text(f"{title}: {printable(short(text))}")
            line.truncate(err.width - _SPINNER_WIDTH, overflow="ellipsis")
            status.update(line)

        yield show


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits or so; a dash for None."""
    if value is None:
        return "-"
    if 0 < value < 0.0005:
        return "<0.001"
    digits = 3 if value < 1 else 2 if value < 100 else 1
    return f"{value:.{digits}f}"


def size(size_bytes: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def error_text(value: float | None) -> str:
    """A relative error."""
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"


def known(known_as: KnownAs | str) -> str:
    """The word that stands beside figures that weren't measured on hardware; else empty."""
    return "" if known_as == KnownAs.HARDWARE else f" {known_as}"


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


_TARGET = r"[^\s/]+/[^\s/]+/[a-z0-9+]+(?: on (?:\d+|default) threads?)?"
_MANY_STAGES = re.compile(rf"{_TARGET}(?: -> {_TARGET}){{3,}}")


def short(text: str) -> str:
    """Text in which plans of more than 3 stages go by their number, and their targets once each:
    ``34 stages: cpu/openvino/fp32, cpu/onnxruntime/fp32``."""

    def counted(match: re.Match[str]) -> str:
        targets = match[0].split(" -> ")
        return f"{len(targets)} stages: {', '.join(dict.fromkeys(targets))}"

    return _MANY_STAGES.sub(counted, text)


_FIGURES_WIDTH = 52
"""Columns of a table of targets without the names."""


def print_targets(
    out: Console,
    reports: Sequence[TargetReport],
    chosen: str = "",
    earlier: Collection[str] = (),
) -> None:
    """The candidates with their figures, fastest first, and below them why some don't count.

    Those that are ``earlier`` were timed by the tuning, and the others after it.
    """
    ordered = sorted(
        reports,
        key=lambda r: (r.state != "ok", r.target in earlier, r.p50_ms or float("inf")),
    )
    table = new_table("Targets")
    table.add_column("target", overflow="fold")
    table.add_column("state")
    for heading in ("p50 ms", "p90 ms", "p99 ms", "runs", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in ordered:
        mark = "> " if r.target == chosen else "* " if r.target in earlier else "  "
        style = STATE_STYLE.get(r.state, "red")
        noisy = "~" if r.noisy else ""
        table.add_row(
            mark + _name(r.target, out.width - _FIGURES_WIDTH),
            f"[{style}]{r.state}[/]{known(r.known_as)}",
            noisy + ms(r.p50_ms), ms(r.p90_ms), ms(r.p99_ms), str(r.runs or "-"),
            error_text(r.relative_l2),
        )  # fmt: skip
    out.print(table)
    if any(r.target in earlier for r in reports):
        out.print("* as the tuning timed it: at another time than the others")
    if any(r.noisy for r in reports):
        out.print("~ measured while other processes used the cores")
    for r in ordered:
        if r.reason:
            state = "" if r.state == "ok" else f" is {r.state}"
            out.print(printable(short(f"{r.target}{state}: {r.reason}")), markup=False)


def _name(target: str, room: int) -> str:
    """The name of a target or plan; where there is no room, a plan's stages on a line each, and
    what tells it from others on the next."""
    target = short(target)
    text = escape(printable(target))
    if len(target) <= room:
        return text
    for start, broken in ((" -> ", " ->\n  "), (" (", "\n  ("), (" stages: ", " stages:\n  ")):
        text = text.replace(start, broken)
    return text.replace(", ", ",\n  ") if " stages:" in text else text


def print_indented(out: Console, text: str) -> None:
    """Text two columns from the left, and no spaces at the end of its lines."""
    for line in Text(printable(text)).wrap(out, out.width - 2):
        line.rstrip()
        out.print(Text("  ") + line)
