"""Errors as they come back from a worker, and how its end is told."""

from __future__ import annotations

import signal
from typing import Any

from dioe.text import printable
from dioe.types import BackendError, DioeError, OutOfMemory
from dioe.types import errors as types

MAX_TEXT = 4000

KINDS: dict[str, type[DioeError]] = {
    name: kind
    for name, kind in vars(types).items()
    if isinstance(kind, type) and issubclass(kind, DioeError) and kind is not DioeError
}
KINDS["MemoryError"] = OutOfMemory


def remote_error(answer: object, place: str) -> DioeError:
    """The error that a worker's answer describes: of its class by name, else a BackendError."""
    described: dict[Any, Any] = answer if isinstance(answer, dict) else {}
    names = described.get("kinds")
    kinds = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
    kind = next((KINDS[name] for name in kinds if name in KINDS), None)
    cause = _text(described.get("cause"))
    if kind is None:
        kind = BackendError
        cause = f"{_text(kinds[0]) if kinds else 'unknown error'}: {cause}".strip()
    return kind(
        cause, place=_text(described.get("place")) or place, fix=_text(described.get("fix"))
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "\n".join(printable(line) for line in value[:MAX_TEXT].splitlines())


def how_it_ended(returncode: int | None) -> str:
    """The end of a process in words: the name of its signal, or its exit code."""
    if returncode is None:
        return "didn't end"
    if returncode >= 0:
        return f"ended itself with exit code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"
