"""``dioe resolve``: what becomes of each key of a hardware profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dioe.cli import options
from dioe.cli.terminal import console, new_table
from dioe.text import printable
from dioe.types import Effect, Resolution

Profile = Annotated[
    str,
    typer.Argument(
        help="YAML file of a profile or descriptor, or a descriptor's name in the catalogue.",
        show_default=False,
        metavar="FILE",
    ),
]

STYLES = {Effect.APPLIED: "green", Effect.IGNORED: "dim", Effect.REJECTED: "red"}


def resolve(
    file: Profile,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Tell what a backend makes of each key of a hardware profile; needs no device."""
    from dioe.hardware import load_profile, resolve_profile
    from dioe.hardware.validate import find_file
    from dioe.runtime import Runtime

    profile = load_profile(find_file(file))
    registry = Runtime.current().registry
    found = resolve_profile(profile, registry)
    statuses = {status.name: status for status in registry.statuses if status.name in found}
    if as_json:
        options.print_json(
            {
                "type": profile.type,
                "options": dict(profile.options),
                "backends": {
                    name: {
                        "state": str(statuses[name].state),
                        "reason": statuses[name].reason,
                        "options": {key: asdict(answer) for key, answer in answers.items()},
                    }
                    for name, answers in found.items()
                },
            }
        )
        return
    out = console()
    for name, answers in found.items():
        out.print(_table(f"{name} ({statuses[name].state})", profile.options, answers))
    for name in found:
        if statuses[name].reason:
            words = " ".join(statuses[name].reason.split())
            out.print(printable(f"{name} is {statuses[name].state}: {words}"), markup=False)


def _table(title: str, asked: Mapping[str, object], answers: Mapping[str, Resolution]) -> Table:
    table = new_table(title)
    for heading in ("key", "value", "effect", "native key", "note"):
        table.add_column(heading, overflow="fold")
    for key, answer in answers.items():
        words = (key, _written(asked[key]), str(answer.effect), answer.native_key, answer.note)
        cells = [Text(printable(word)) for word in words]
        cells[2].stylize(STYLES.get(answer.effect, "yellow"))
        table.add_row(*cells)
    return table


def _written(value: object) -> str:
    """A value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
