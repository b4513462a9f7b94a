"""The strict list that a backend ships of the tests it fails.

A text file with one test a line, its id and the reason; ``#`` starts a comment::

    # what ONNX says, and what this backend does instead
    nodes::test_node[fp32-round]  rounds halves up, ONNX to even; the runtime has no other mode

The id is the section, ``::``, and the name of the test as pytest prints it; a line pasted from
pytest's own output (``FAILED .../conformance/test_nodes.py::test_node[fp32-round] - ...``) will do,
with a reason after it. A test that takes the
process down with it has a reason that begins with ``crashes``: it isn't run.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from dioe.types import ConfigError

FILE = "known_failures.txt"

_OUTCOME = re.compile(r"^(FAILED|ERROR)\s+")

CRASHES = "crashes"
"""Reasons of tests that can't be run begin so."""


def parse(text: str, place: str) -> dict[str, str]:
    """Reasons by test id. Raises ConfigError for a line without a reason or one that is twice."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        written, _, reason = _OUTCOME.sub("", line.strip()).partition(" ")
        test, reason = _as_listed(written), reason.strip().removeprefix("- ")
        if not reason or "::" not in test:
            raise ConfigError(
                f"{line.strip()!r} is no known failure",
                place=f"{place}:{number}",
                fix="write the test's id, section::test, and the reason after it",
            )
        if test in found:
            raise ConfigError(f"{test} is listed twice", place=f"{place}:{number}")
        found[test] = reason
    return found


def _as_listed(written: str) -> str:
    """``nodes::test`` of what pytest calls ``…/conformance/test_nodes.py::test``."""
    module, colons, test = written.partition("::")
    name = module.replace("\\", "/").rpartition("/")[2]
    if name.startswith("test_") and name.endswith(".py"):
        module = name.removeprefix("test_").removesuffix(".py")
    return f"{module}{colons}{test}"


def shipped(entry_point: str, backend: str) -> Path | None:
    """The list in the plugin's package, None if it ships none. Imports nothing of it.

    ``known_failures.txt``, or ``known_failures.PROVIDER.txt`` for a backend that is one provider of
    several (``onnxruntime.webgpu``: ``known_failures.webgpu.txt``).
    """
    package = importlib.util.find_spec(entry_point.partition(":")[0].partition(".")[0])
    if package is None or not package.submodule_search_locations:
        return None
    provider = backend.partition(".")[2]
    name = f"known_failures.{provider}.txt" if provider else FILE
    file = Path(package.submodule_search_locations[0]) / name
    return file if file.is_file() else None
