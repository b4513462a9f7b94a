"""What pydantic finds wrong in a YAML file, as errors of DIOE's: the place, and what to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from dioe.types import ConfigError
from dioe.yaml_text import Document, KeyPath, known_key

KnownKeys = Callable[[KeyPath], Iterable[str]]
"""The keys that the mapping at a place may have."""

_Model = TypeVar("_Model", bound=BaseModel)

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
        hints = get_type_hints(annotation)
        return {field.name: hints[field.name] for field in dataclasses.fields(annotation)}
    return next(filter(None, map(_fields, get_args(annotation))), {})


def _inside(annotation: Any, part: str | int) -> Any:
    return annotation if isinstance(part, int) else _fields(annotation).get(part)


def parse(document: Document, model: type[_Model]) -> _Model:
    """The document as that model. Raises ConfigError for what is to be mended first, with the
    number of the others: the header, then unknown keys, then the rest as written."""
    found = parse_or_errors(document, model)
    if isinstance(found, list):
        raise first_of(found)
    return found


def parse_or_errors(document: Document, model: type[_Model]) -> _Model | list[ConfigError]:
    """The document as that model, or all that is wrong, in the order in which it is to be mended.

    It goes through JSON, where pydantic's strict mode takes lists for tuples, and nothing else.
    YAML's dates are text that looks like one.
    """
    unfit = [_unfit(document, *found) for found in _not_json(document.data, ())]
    if unfit:
        return unfit
    try:
        return model.model_validate_json(json.dumps(document.data, default=str))
    except ValidationError as error:
        return _config_errors(document, error, keys_of(model))


def problem_at(path: KeyPath, problem: str) -> PydanticCustomError:
    """What a model's own check raises: the problem, and where in what it checks."""
    return PydanticCustomError("problem_at", "{problem}", {"problem": problem, "path": path})


def first_of(errors: Sequence[ConfigError]) -> ConfigError:
    """The first error, which tells how many there are besides."""
    first = errors[0]
    if len(errors) == 1:
        return first
    cause = f"{first.cause} (and {len(errors) - 1} more)"
    return ConfigError(cause, place=first.place, fix=first.fix)


_LONGEST_INTEGER = 1 << 64
"""No count and no size is larger; Python refuses to write integers of thousands of digits."""


def _not_json(data: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Places of texts and integers that JSON can't hold, each with what is wrong."""
    if isinstance(data, dict):
        for key, value in data.items():
            if not _is_text(key):
                yield (*path, key), "surrogate"
            yield from _not_json(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _not_json(value, (*path, index))
    elif isinstance(data, str) and not _is_text(data):
        yield path, "surrogate"
    elif isinstance(data, int) and abs(data) > _LONGEST_INTEGER:
        yield path, "integer"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfit(document: Document, path: KeyPath, what: str) -> ConfigError:
    place = document.place(path)
    if what == "surrogate":
        return ConfigError(
            "a text holds half of a surrogate pair", place=place, fix="write the character itself"
        )
    return ConfigError(
        f"{dotted(path)} is an integer beyond 2 to the 64th", place=place, fix="correct the value"
    )


def _config_errors(
    document: Document, error: ValidationError, known_keys: KnownKeys
) -> list[ConfigError]:
    by_path: dict[tuple[KeyPath, bool], list[ErrorDetails]] = {}
    details = sorted(error.errors(include_url=False), key=_urgency)
    if _urgency(details[0]) == 0:  # a file of another sort: its keys are no mistakes
        details = [detail for detail in details if _urgency(detail) == 0]
    for detail in details:
        path = (*detail["loc"], *detail.get("ctx", {}).get("path", ()))
        missing = detail["type"].startswith("missing")
        while path and not missing and not document.has(path):
            path = path[:-1]  # pydantic goes on with the member of a union that it tried
        by_path.setdefault((path, missing), []).append(detail)
    return [
        _as_error(document, path, details, known_keys) for (path, _), details in by_path.items()
    ]


def _as_error(
    document: Document, path: KeyPath, details: Sequence[ErrorDetails], known_keys: KnownKeys
) -> ConfigError:
    cause, fix = _cause_and_fix(details[0], path, known_keys)
    others = dict.fromkeys(detail["msg"].removeprefix("Input should be ") for detail in details)
    more = "".join(f", or {other}" for other in list(others)[1:])
    return ConfigError(cause + more, place=document.place(path), fix=fix)


def _urgency(detail: ErrorDetails) -> int:
    if detail["loc"] in (("format",), ("version",)) and not detail["type"].startswith("missing"):
        return 0
    return 1 if detail["type"] in _UNKNOWN_KEY else 2


def _cause_and_fix(detail: ErrorDetails, path: KeyPath, known_keys: KnownKeys) -> tuple[str, str]:
    name = path[-1] if path else ""
    if detail["type"] in _UNKNOWN_KEY:
        return f"unknown key {name!r}", known_key(str(name), known_keys(path[:-1]))
    if detail["type"].startswith("missing"):
        return f"the key {name!r} is missing", f"add '{name}: …' there"
    problem = detail["msg"].removeprefix("Input ")
    for jsons, yamls in _IN_YAML.items():
        problem = problem.replace(jsons, yamls)
    if detail["type"] == "problem_at":
        return problem, "correct it there"
    if detail["type"] == "value_error":  # of a whole mapping: what it holds needn't be shown
        return problem.removeprefix("Value error, "), "correct it there"
    fix = "correct the value"
    if path == ("format",):
        fix = _SORTS.get(str(detail["input"]), fix)
    elif detail["input"] is None:
        fix = f"write one, or leave '{name}' out" if isinstance(name, str) else "write one"
    elif detail["type"] == "string_type" and isinstance(detail["input"], bool | int | float):
        fix = "put it in quotes if it is meant as text"
    written = "empty" if detail["input"] is None else repr(detail["input"])
    written = written if len(written) <= 60 else written[:57] + "..."
    if problem == detail["msg"]:  # pydantic speaks of a type or a rule, not of the input
        return f"{dotted(path)} is {written}: {problem}", fix
    return f"{dotted(path)} is {written}, which {problem}", fix


_SORTS = {
    "dioe-device": "it is a descriptor: a pool names it, 'devices: [{id: gpu:0, device: FILE}]'",
    "dioe-pool": "it is a pool: 'include' takes it over, --hardware uses it",
}
"""Of a file of another format than the one that is wanted: what it is for."""

_IN_YAML = {"a valid array": "a list", "an object": "a mapping", "a valid dictionary": "a mapping"}


def dotted(path: KeyPath) -> str:
    """A place in a file as people write it: ``devices[0].figures.peaks[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or "the file"
