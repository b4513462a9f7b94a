"""``dioe validate``: what is wrong in YAML files, and what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from dioe.cli import options
from dioe.cli.terminal import console
from dioe.text import printable
from dioe.types import ConfigError, InputError

if TYPE_CHECKING:
    from dioe.hardware.validate import Report

Files = Annotated[
    list[str] | None,
    typer.Argument(
        help="YAML files, or names in the catalogue: descriptors, pools, profiles.",
        show_default=False,
        metavar="FILE...",
    ),
]
Catalogue = Annotated[bool, typer.Option("--catalogue", help="Every file that comes with DIOE.")]
StrictWarnings = Annotated[bool, typer.Option("--strict", help="Warnings fail too.")]

_STYLES = {"ok": "green", "unchecked": "dim", "warning": "yellow", "error": "red"}
_INDENT = 2


def validate(
    files: Files = None,
    catalogue: Catalogue = False,
    strict: StrictWarnings = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Check descriptors, pools and profiles: all that is wrong, with line, column and what to do.

    Exit code 19 where a file has an error; with --strict also where one has a warning.
    """
    from dioe.hardware.validate import shipped

    names = [*(files or ()), *(map(str, shipped()) if catalogue else ())]
    if not names:
        raise InputError(
            "no file is named", place="FILE", fix="name YAML files, or ask for --catalogue"
        )
    reports = [_validated(name) for name in names]
    failed = [r for r in reports if r.errors or (strict and r.warnings)]
    if as_json:
        options.print_json({"ok": not failed, "files": [_as_json(report) for report in reports]})
    else:
        out = console()
        for report in reports:
            _print(out, report)
        if len(reports) > 1:
            out.print(_total(reports), markup=False)
    if failed:
        raise typer.Exit(ConfigError.exit_code)


def _validated(name: str) -> Report:
    from dioe.hardware.findings import Finding
    from dioe.hardware.validate import FileKind, Report, find_file, validate

    try:
        return validate(find_file(name))
    except ConfigError as error:
        return Report(name, FileKind.UNKNOWN, "not found", (Finding.of(error),))


def _as_json(report: Report) -> dict[str, object]:
    return {
        "file": report.file,
        "kind": report.kind,
        "state": report.state,
        "summary": report.summary,
        "findings": [
            asdict(finding) | dict(zip(("file", "line", "column"), finding.position, strict=True))
            for finding in report.findings
        ],
    }


def _print(out: Console, report: Report) -> None:
    if not report.findings:
        _lines(out, f"{report.file}: ", report.state.upper(), _STYLES[report.state], report.summary)
        return
    numbers = {"error": len(report.errors), "warning": len(report.warnings)}
    found = ", ".join(f"{n} {word}{'s' * (n > 1)}" for word, n in numbers.items() if n)
    style = _STYLES["error" if report.errors else "warning"]
    _lines(out, f"{report.file}: ", found, style, report.summary)
    for finding in report.findings:
        style = _STYLES[finding.severity]
        _lines(out, f"{finding.place}: ", finding.severity, style, finding.cause, _INDENT)
        if finding.fix:
            _wrapped(out, Text(f"fix: {printable(finding.fix)}"), 2 * _INDENT)


def _lines(out: Console, where: str, what: str, style: str, text: str, indent: int = 0) -> None:
    """``where: what: text`` in a line if there is room, else the text below, further in."""
    head = Text(printable(where)).append(printable(what), style)
    whole = head.copy().append(f": {printable(text)}")
    if whole.cell_len + indent <= out.width:
        _wrapped(out, whole, indent)
        return
    out.print(Text(" " * indent) + head, soft_wrap=True)  # a place is kept whole, to be clicked on
    _wrapped(out, Text(printable(text)), indent + _INDENT)


def _wrapped(out: Console, text: Text, indent: int) -> None:
    for part in text.wrap(out, max(out.width - indent, 20)):
        part.rstrip()
        out.print(Text(" " * indent) + part, soft_wrap=True)


def _total(reports: Sequence[Report]) -> str:
    counts = {"OK": 0, "with warnings": 0, "with errors": 0, "unchecked": 0}
    names = {"ok": "OK", "warnings": "with warnings", "errors": "with errors"}
    for report in reports:
        counts[names.get(report.state, "unchecked")] += 1
    listed = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    return f"{len(reports)} files: {listed}"
