"""JSON values read strictly as dataclasses: whatever doesn't fit is an error with its place."""

from __future__ import annotations

import dataclasses
import enum
import math
import types as pytypes
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from dioe.types import InputError, Target

T = TypeVar("T")


class Misfit(Exception):
    """A JSON value that doesn't fit the type it should have."""


def read_json(kind: Any, value: Any, where: str) -> Any:
    """``value`` as ``kind``: dataclasses, enums, tuples, mappings, unions and scalars.

    ``where`` is the place that errors name. Raises Misfit.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise Misfit(f"{where}: {value} is not a finite number")
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, pytypes.UnionType):
        return _read_union(args, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise Misfit(f"{where or 'file'}: a list is wanted")
        return tuple(read_json(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise Misfit(f"{where}: an object is wanted")
        return {k: read_json(args[1], item, f"{where}.{k}") for k, item in value.items()}
    if kind is Target:
        return _read_target(value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise Misfit(f"{where}: {value!r:.60} is none of {known}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return _read_whole_float(value, where)
    if kind is type(None) and value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Misfit(f"{where}: {kind.__name__} is wanted, not {value!r:.60}")
    return value


def _read_whole_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Misfit(f"{where}: a number of {value.bit_length()} bits is too large") from None


def _read_target(value: Any, where: str) -> Target:
    try:
        return Target.parse(read_json(str, value, where))
    except InputError as error:
        raise Misfit(f"{where}: {error.cause}") from None


def _read_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    # exact scalar types first, so that 1 stays an int where both int and float are allowed
    if type(value) in args or (value is None and type(None) in args):
        return value
    errors = []
    for arg in args:
        try:
            return read_json(arg, value, where)
        except Misfit as error:
            errors.append(error)
    raise errors[0]


def _read_dataclass(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, dict):
        raise Misfit(f"{where or 'file'}: an object is wanted")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise Misfit(f"{where + '.' if where else ''}{unknown[0]}: unknown key")
    for name, f in fields.items():
        needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if needed and name not in value:
            raise Misfit(f"{where + '.' if where else ''}{name}: is missing")
    prefix = f"{where}." if where else ""
    read = {name: read_json(hints[name], item, prefix + name) for name, item in value.items()}
    for name, item in read.items():
        for key, number in _numbers(item) if _never_negative(name) else ():
            if number < 0:
                raise Misfit(f"{prefix}{name}{key}: {number!r:.60} is below 0")
    return kind(**read)


def _numbers(item: Any) -> Iterator[tuple[str, float]]:
    """A number, or those of a mapping with their keys."""
    if isinstance(item, int | float):
        yield "", item
    elif isinstance(item, dict):
        for key, number in item.items():
            yield from ((f".{key}", each) for _, each in _numbers(number))


def _never_negative(name: str) -> bool:
    """Whether a field is a time, an error, a size or a count; a difference of times has a sign."""
    count = name in ("ms", "runs", "nbytes", "bytes", "lowered_ops")
    size = name.endswith(("_ms", "_l2", "_bytes", "_per_byte", "_w")) and name != "difference_ms"
    return count or size
