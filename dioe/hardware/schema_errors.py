"""What pydantic finds wrong in a YAML file, as one error of DIOE's: the place, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dioe.types import ConfigError
from dioe.yaml_text import Document, KeyPath, known_key

KnownKeys = Callable[[KeyPath], Iterable[str]]
"""The keys that the mapping at a place may have."""

_UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})


def config_error(document: Document, error: ValidationError, known_keys: KnownKeys) -> ConfigError:
    """The error to mend first: the header, then unknown keys, then the rest as written."""
    details = sorted(error.errors(include_url=False), key=_urgency)
    first = details[0]
    path = tuple(first["loc"])
    cause, fix = _cause_and_fix(first, path, known_keys)
    if len(details) > 1:
        cause += f" (and {len(details) - 1} more)"
    return ConfigError(cause, place=document.place(path), fix=fix)


def _urgency(detail: ErrorDetails) -> int:
    if detail["loc"][:1] in (("format",), ("version",)):
        return 0
    return 1 if detail["type"] in _UNKNOWN_KEY else 2


def _cause_and_fix(detail: ErrorDetails, path: KeyPath, known_keys: KnownKeys) -> tuple[str, str]:
    name = path[-1] if path else ""
    if detail["type"] in _UNKNOWN_KEY:
        return f"unknown key {name!r}", known_key(str(name), known_keys(path[:-1]))
    if detail["type"].startswith("missing"):
        return f"the key {name!r} is missing", f"add '{name}: …' there"
    if detail["type"] == "json_invalid":
        return "a text holds half of a surrogate pair", "write the character itself"
    problem = detail["msg"].removeprefix("Input ")
    written = repr(detail["input"])
    written = written if len(written) <= 60 else written[:57] + "..."
    if problem == detail["msg"]:  # pydantic speaks of a type or a rule, not of the input
        return f"{_dotted(path)} is {written}: {problem}", "correct the value"
    return f"{_dotted(path)} is {written}, which {problem}", "correct the value"


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or "the file"
