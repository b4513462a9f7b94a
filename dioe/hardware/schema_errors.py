"""What pydantic finds wrong in a YAML file, as errors of DIOE's: the place, and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dioe.types import ConfigError
from dioe.yaml_text import Document, KeyPath, known_key

KnownKeys = Callable[[KeyPath], Iterable[str]]
"""The keys that the mapping at a place may have."""

_UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})


def keys_of(model: type[BaseModel]) -> KnownKeys:
    """The keys that mappings below a model may have, by the schema."""

    def known(path: KeyPath) -> Iterable[str]:
        found: Any = model
        for part in path:
            found = _inside(found, part)
        return _fields(found)

    return known


def _fields(annotation: Any) -> dict[str, Any]:
    """The fields of the model or data class in an annotation such as ``tuple[Peak, ...] | None``,
    with their annotations; none where it has none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return get_type_hints(annotation)
    return next(filter(None, map(_fields, get_args(annotation))), {})


def _inside(annotation: Any, part: str | int) -> Any:
    return annotation if isinstance(part, int) else _fields(annotation).get(part)


def config_error(document: Document, error: ValidationError, known_keys: KnownKeys) -> ConfigError:
    """The error to mend first: the header, then unknown keys, then the rest as written."""
    first, *others = config_errors(document, error, known_keys)
    if others:
        first.args = (f"{first.cause} (and {len(others)} more)",)
        first.cause = first.args[0]
    return first


def config_errors(
    document: Document, error: ValidationError, known_keys: KnownKeys
) -> list[ConfigError]:
    """All that is wrong, in the order in which it is to be mended."""
    return [
        _as_error(document, detail, known_keys)
        for detail in sorted(error.errors(include_url=False), key=_urgency)
    ]


def _as_error(document: Document, detail: ErrorDetails, known_keys: KnownKeys) -> ConfigError:
    path = tuple(detail["loc"])
    cause, fix = _cause_and_fix(detail, path, known_keys)
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
    if detail["type"] == "value_error":  # of a whole mapping: what it holds needn't be shown
        return problem.removeprefix("Value error, "), "correct it there"
    written = repr(detail["input"])
    written = written if len(written) <= 60 else written[:57] + "..."
    if problem == detail["msg"]:  # pydantic speaks of a type or a rule, not of the input
        return f"{_dotted(path)} is {written}: {problem}", "correct the value"
    return f"{_dotted(path)} is {written}, which {problem}", "correct the value"


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or "the file"
