"""YAML files as plain data that remember where each value was written.

YAML comes from outside, so it is data and nothing else: only the standard scalars, lists and
mappings, no tags that build objects, and nothing that grows out of proportion when it is read.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import yaml

from dioe.types import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 50_000
"""Limits on a file: its size, how deep it nests, and how many values it has once aliases are
followed. The pools of large machines stay a hundred times below."""

KeyPath: TypeAlias = "tuple[str | int, ...]"
"""A value's place in a document: keys and list indices from the top."""

_STANDARD_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge")
)
_KINDS = {yaml.ScalarNode: "a single value", yaml.SequenceNode: "a list"}


class _Mark(Protocol):
    """A place in a text, counted from 0: PyYAML's own, or libyaml's."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Position:
    """A place in a text that nobody marked."""

    line: int
    column: int

    @classmethod
    def after(cls, text: str) -> _Position:
        """That of the next character."""
        return cls(text.count("\n"), len(text) - text.rfind("\n") - 1)


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping read from a YAML file, and the places (line, column, from 1) of what is in it."""

    file: str
    data: dict[str, Any]
    _places: dict[KeyPath, tuple[int, int]]

    def has(self, path: KeyPath) -> bool:
        """Whether there is such a key or list item."""
        return path in self._places

    def place(self, path: KeyPath) -> str:
        """``file:line:column`` of a key or list item, or of the nearest thing that holds it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self._places:
                line, column = self._places[path[:end]]
                return f"{self.file}:{line}:{column}"
        return self.file


def read_document(path: Path) -> Document:
    """The mapping in a YAML file.

    Raises ConfigError where the file is missing, too large, no text, no YAML, no mapping, or
    carries tags, doubled keys or too many aliases.
    """
    return parse_document(_read_text(path), str(path))


def known_key(name: str, known: Iterable[str]) -> str:
    """What to do about a key ``name`` that is none of the ``known`` ones: the nearest, or all."""
    listed = list(map(str, known))
    close = difflib.get_close_matches(name, listed, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(listed)}"


def parse_document(text: str, file: str) -> Document:
    """The mapping in a YAML text; ``file`` names it in errors. Raises ConfigError."""
    try:
        _check_events(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            kind = "empty" if node is None else _KINDS.get(type(node), "no mapping")
            raise ConfigError(
                f"the file is {kind}, not a mapping",
                place=_at(file, None if node is None else node.start_mark),
                fix="write 'key: value' lines",
            )
        places = {path: _line_and_column(mark) for path, mark in _walk(node, (), file, [0])}
        return Document(file, yaml.safe_load(text), places)
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, file) from None
    except ValueError as error:  # an implicit timestamp or integer that Python can't hold
        raise ConfigError(
            f"a value can't be read: {error}",
            place=_at(file, _unreadable(node)),
            fix="quote it if it is meant as text",
        ) from None


def _read_text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError("not a file", place=str(path), fix="name a YAML file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", place=str(path), fix="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            f"the file can't be read: {reason}", place=str(path), fix="check the path"
        ) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"the file is larger than {MAX_BYTES >> 10} KiB",
            place=str(path),
            fix="descriptions are a few KiB of YAML; is this the right file?",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        raise ConfigError(
            f"not UTF-8 text (byte {error.start})",
            place=_at(str(path), _Position.after(before)),
            fix="save it as UTF-8; is this the right file?",
        ) from None


def _check_events(text: str, file: str) -> None:
    """Refuse tags and deep nesting before anything recursive sees the text."""
    depth = 0
    event: yaml.Event
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _STANDARD_TAGS and tag != "!":
            raise ConfigError(
                f"the tag {tag} is not allowed: the file is plain data",
                place=_at(file, event.start_mark),
                fix="remove the tag",
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > 3 * MAX_VALUES:
            raise _too_much(file, event.start_mark)


def _walk(
    node: yaml.Node, path: KeyPath, file: str, seen: list[int], depth: int = 0
) -> Iterator[tuple[KeyPath, _Mark]]:
    """Places of all that a node holds, aliases followed; counts in ``seen`` what it meets."""
    seen[0] += 1
    if seen[0] > MAX_VALUES or depth > MAX_DEPTH:
        raise _too_much(file, node.start_mark)
    yield path, node.start_mark
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _walk(item, (*path, i), file, seen, depth + 1)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                yield from _walk(value, path, file, seen, depth + 1)
                continue
            name = _key(key, keys, file)
            yield from _walk(value, (*path, name), file, seen, depth + 1)
            yield (*path, name), key.start_mark  # the later one wins: errors name the key


def _key(key: yaml.Node, keys: set[str], file: str) -> str:
    place = _at(file, key.start_mark)
    if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
        raise ConfigError("a key that is no text", place=place, fix="write a name, or quote it")
    name: str = key.value
    if name in keys:
        raise ConfigError(
            f"the key {name!r} is written twice", place=place, fix="keep one of the two"
        )
    keys.add(name)
    return name


def _unreadable(node: yaml.Node | None) -> _Mark | None:
    """Where the first value is that Python can't hold."""
    if isinstance(node, yaml.ScalarNode):
        try:
            yaml.constructor.SafeConstructor().construct_document(node)
        except ValueError:
            return node.start_mark
        return None
    if node is None:
        return None
    below = [n for pair in node.value for n in (pair if isinstance(pair, tuple) else (pair,))]
    return next(filter(None, map(_unreadable, below)), None)


def _too_much(file: str, mark: _Mark | None) -> ConfigError:
    return ConfigError(
        f"the file nests deeper than {MAX_DEPTH} or unfolds to more than {MAX_VALUES} values",
        place=_at(file, mark),
        fix="write it without nested aliases; is this the right file?",
    )


def _not_yaml(error: yaml.YAMLError, text: str, file: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.reader.ReaderError):
        mark = _Position.after(text[: error.position])
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    return ConfigError(
        f"not YAML: {problem}", place=_at(file, mark), fix="correct the syntax there"
    )


def _line_and_column(mark: _Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _at(file: str, mark: _Mark | None) -> str:
    if mark is None:
        return file
    line, column = _line_and_column(mark)
    return f"{file}:{line}:{column}"
