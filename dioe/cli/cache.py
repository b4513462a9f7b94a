"""``dioe cache``: what is kept between runs; deleting it, and getting measured costs out of it."""

from __future__ import annotations

import enum
import io
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dioe import cachedir
from dioe.cli import cached_files, options
from dioe.cli.cached_files import Contents
from dioe.cli.files import check_not_read, check_place, write_text
from dioe.cli.terminal import console, emit, new_table, size
from dioe.text import printable
from dioe.types import ConfigError, DioeError, InputError

if TYPE_CHECKING:
    from dioe.profiling import History, HistoryInfo

app = typer.Typer(
    name="cache", help="Show, clear and export what is kept between runs.", no_args_is_help=True
)


class What(enum.StrEnum):
    """The parts of the cache."""

    ALL = "all"
    HISTORY = "history"
    PLANS = "plans"
    MODELS = "models"


_KINDS = {
    "target": "whole models",
    "ops": "models op by op",
    "block": "blocks alone",
    "copy": "copies into memories",
    "search": "searches for mixed plans",
}
"""What the kinds of costs are to a person (``dioe.tuning.known`` gives them)."""

_ENTRIES = {What.HISTORY: "measured cost", What.PLANS: "plan", What.MODELS: "model"}


@app.command()
def info(
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Where the cache is, and what is in it."""
    folder = cachedir.cache_dir()
    known = _history(folder).info()
    parts = _parts(folder, known)
    if as_json:
        options.print_json(
            {
                "folder": folder,
                "parts": {part: asdict(contents) for part, contents in parts.items()},
                "history": asdict(known),
            }
        )
        return
    out = console()
    table = new_table("Cache")
    for heading in ("part", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("entries", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("oldest (UTC)", "newest (UTC)"):
        table.add_column(heading, no_wrap=True)
    style = {"ok": "green", "absent": "dim"}
    for part, contents in parts.items():
        table.add_row(
            str(part), f"[{style.get(contents.state, 'yellow')}]{contents.state}[/]",
            str(contents.entries), size(contents.size_bytes), _minute(contents.oldest),
            _minute(contents.newest),
        )  # fmt: skip
    out.print(table)
    out.print(f"in {_shown(folder)}", markup=False)
    if known.entries:
        kinds = ", ".join(
            f"{_KINDS.get(kind, printable(kind))}: {count}" for kind, count in known.entries.items()
        )
        out.print(f"costs in the history: {kinds}", markup=False)
    for part, contents in parts.items():
        if contents.reason:
            out.print(f"{part} is {contents.state}: {printable(contents.reason)}", markup=False)
    if known.set_aside:
        names = ", ".join(printable(path.name) for path in known.set_aside)
        out.print(f"damaged files that were set aside: {names}", markup=False)


@app.command()
def clear(
    what: Annotated[What, typer.Option("--what", help="The part to delete.")] = What.ALL,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Delete what is kept between runs: it is measured, made or fetched again when needed.

    Asks first; where there is no terminal to ask on, it needs --yes.
    """
    if not yes and not (sys.stdin is not None and sys.stdin.isatty()):
        raise InputError(
            "there is no terminal to ask on", place="dioe cache clear", fix="add --yes to delete"
        )
    folder = cachedir.cache_dir()
    before = _parts(folder)
    chosen = [
        part
        for part, contents in before.items()
        if what in (part, What.ALL) and (contents.entries or contents.leftovers or contents.reason)
    ]
    if chosen and not yes:
        listed = ", ".join(_told(part, before[part]) for part in chosen)
        if not _agreed(f"delete {listed} in {_shown(folder)}?"):
            chosen = []
    failed: dict[str, str] = {}
    for part in chosen:
        try:
            _delete(part, folder)
        except DioeError as error:
            failed[part] = error.cause
    after = _parts(folder)
    deleted = {
        part: replace(
            before[part],
            entries=max(0, before[part].entries - after[part].entries),
            size_bytes=max(0, before[part].size_bytes - after[part].size_bytes),
        )
        for part in chosen
    }
    if as_json:
        plain = {
            part: {"entries": gone.entries, "size_bytes": gone.size_bytes}
            for part, gone in deleted.items()
        }
        options.print_json({"folder": folder, "deleted": plain, "failed": failed})
    else:
        gone = [(p, c) for p, c in deleted.items() if c.entries or c.size_bytes]
        for part, contents in gone:
            emit(f"deleted {_told(part, contents)}\n")
        if not gone and not failed:
            emit(f"nothing was deleted in {_shown(folder)}\n")
    if failed:
        raise ConfigError(
            "; ".join(failed.values()),
            place=f"could not clear the {' and the '.join(failed)}",
            fix=f"delete what is left by hand, in {folder}",
        )


@app.command()
def export(
    file: Annotated[
        str,
        typer.Argument(help="Where the costs go; - is stdout.", show_default=False, metavar="FILE"),
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Write the measured costs as JSON Lines: one cost a line, with all it was measured for."""
    history = _history(cachedir.cache_dir())
    lines = io.StringIO()
    if file == "-":
        history.export(lines)
        emit(lines.getvalue())
        return
    path = Path(file)
    check_place(path)
    check_not_read(path, [history.path])
    if os.path.lexists(path) and not force:
        raise ConfigError(
            "is there already", place=file, fix="choose another name, or add --force to replace it"
        )
    count = history.export(lines)
    write_text(path, lines.getvalue())
    console().print(f"{_count(count, 'measured cost')} written to {_shown(path)}", markup=False)


def _history(folder: Path) -> History:
    from dioe.profiling import History

    return History(folder)


def _parts(folder: Path, known: HistoryInfo | None = None) -> dict[What, Contents]:
    """What is in each part; damaged files of the history count with their size."""
    known = known or _history(folder).info()
    aside_bytes = sum(cached_files.size_of(path) for path in known.set_aside)
    history = Contents(
        path=known.path or folder,
        state=str(known.state),
        reason=known.reason,
        entries=sum(known.entries.values()),
        size_bytes=known.size_bytes + aside_bytes,
        oldest=known.oldest,
        newest=known.newest,
        leftovers=len(known.set_aside),
    )
    return {
        What.HISTORY: history,
        What.PLANS: cached_files.plans(folder),
        What.MODELS: cached_files.models(folder),
    }


def _delete(part: What, folder: Path) -> None:
    """Delete one part; raises DioeError."""
    if part is What.HISTORY:
        _history(folder).clear()
    elif part is What.PLANS:
        cached_files.delete_plans(folder)
    else:
        cached_files.delete_models(folder)


def _agreed(question: str) -> bool:
    sys.stderr.write(f"dioe: {question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _told(part: What, contents: Contents) -> str:
    return f"{_count(contents.entries, _ENTRIES[part])} ({size(contents.size_bytes)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _minute(moment: str) -> str:
    """A time in ISO 8601 form to the minute."""
    return moment[:16].replace("T", " ") or "-"


def _shown(path: Path) -> str:
    return printable(str(path))
