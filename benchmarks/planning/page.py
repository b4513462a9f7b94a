"""docs/planning-figures.md: a section for each table, between markers, with the machine below."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from pathlib import Path

from dioe.hardware import host_pool, machine

PAGE = Path(__file__).parents[2] / "docs/planning-figures.md"


def with_section(text: str, name: str, body: str) -> str:
    """The page with what stands between the markers of ``name`` replaced; they are added at the end
    where they aren't there yet."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    if not found:
        return f"{text.rstrip()}\n\n{begin}\n{body}\n{end}\n"
    _, closed, after = rest.partition(end)
    if not closed:
        raise ValueError(f"{begin} without {end}")
    return f"{before}{begin}\n{body}\n{end}{after}"


def machine_line() -> str:
    """Such as ``2 cores of AMD EPYC, a virtual machine; Python 3.11.7, ortools 9.14``."""
    about = machine(host_pool())
    kind = ", a virtual machine" if about["is_virtual"] else ""
    exact = "no ortools"
    if importlib.util.find_spec("ortools") is not None:
        exact = f"ortools {importlib.metadata.version('ortools')}"
    versions = f"Python {platform.python_version()}, {exact}"
    return f"{about['capacity']:g} cores of {about['name']}{kind}; {versions}"
