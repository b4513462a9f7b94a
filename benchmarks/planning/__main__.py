"""``python -m benchmarks.planning [NAME …]``: the tables of docs/planning-figures.md, made again.

Some ten minutes for all of them; each may be made alone. ``--quick`` makes them small, for a try,
and prints them only.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.planning.page import PAGE, machine_line, with_section

TABLES: Mapping[str, str] = {
    "placement": "published placement instances",
    "small": "small problems, solved and proved",
    "large": "larger ones, against other schedulers",
    "homogeneous": "machines of one speed",
    "speed": "tasks a second, and planning again",
    "scale": "ten and a hundred thousand ops",
    "adversarial": "instances made to hurt",
}
"""Modules of this package with a ``table() -> str``, and what each is about."""
QUICK: Mapping[str, Any] = {
    "count": 3, "time_limit_s": 0.2, "steps": 8, "sizes": (1000,), "blocks": (50,),
}  # fmt: skip
"""What arguments of these names are for a try."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make tables; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planning",
        description="Make the tables of docs/planning-figures.md again.",
    )
    listed = "; ".join(f"{name}: {about}" for name, about in TABLES.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{listed} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small ones, printed only")
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(TABLES))
    if unknown:
        parser.error(f"no such table: {', '.join(unknown)}")
    for name in options.names or TABLES:
        print(f"{name} …", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        body = made(name, quick=options.quick)
        seconds = time.perf_counter() - begin
        if not (options.quick or options.print_only):
            body += drawn(name)
        body += f"\n\n`python -m benchmarks.planning {name}`: {seconds:.0f} s on {machine_line()}."
        print(f"{body}\n", flush=True)
        if not (options.quick or options.print_only):
            text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
            PAGE.write_text(with_section(text, name, body), encoding="utf-8")
    return 0


def drawn(name: str) -> str:
    """The picture that a table has, written beside the page; what shows it there."""
    plot = getattr(importlib.import_module(f"benchmarks.planning.{name}"), "plot", None)
    if plot is None:
        return ""
    file = PAGE.parent / "images" / f"planning-{name}.svg"
    file.write_text(plot(), encoding="utf-8")
    return f"\n\n![{TABLES[name]}](images/{file.name})"


def made(name: str, *, quick: bool = False) -> str:
    """One table in Markdown."""
    table: Callable[..., str] = importlib.import_module(f"benchmarks.planning.{name}").table
    known = inspect.signature(table).parameters
    return table(**{key: value for key, value in QUICK.items() if key in known} if quick else {})


if __name__ == "__main__":
    sys.exit(main())
