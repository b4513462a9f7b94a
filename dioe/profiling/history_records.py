"""What the cost history keeps: a measured cost, and the key that says of what.

A cost is found again only under exactly what it was measured for, so a key names all of it. Keys
and records are turned into rows of text and numbers here, and back.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np

from dioe.types import InputError, Resources

Row: TypeAlias = tuple[Any, ...]
"""One cost as it is stored: the values of ``COLUMNS``, in that order."""

KEY_COLUMNS = (
    "kind", "subject", "shapes", "target", "resources", "options", "versions", "hardware"
)  # fmt: skip
COST_COLUMNS = (
    "p50_ms", "p90_ms", "p99_ms", "spread_ms", "runs", "noisy", "extra", "measured_at"
)  # fmt: skip
COLUMNS = ("digest", "family", *KEY_COLUMNS, *COST_COLUMNS)
DIGEST, FAMILY, KIND, SHAPES, NOISY, MEASURED_AT = map(
    COLUMNS.index, ("digest", "family", "kind", "shapes", "noisy", "measured_at")
)

_JSON_COLUMNS = frozenset({"shapes", "resources", "options", "versions", "extra"})
_MOST_EXTRA_CHARACTERS = 16 * 2**20
_MOST_RUNS = 2**63 - 1  # what an SQLite integer holds


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CostKey:
    """What a cost was measured for. Keys are equal, and hash alike, by their ``digest``.

    ``kind`` says what sort of cost it is: "target" (a whole model on a target), "block", "ops"
    (per-op times of a whole), "boundary", "plan", "error"; any other name does as well.
    ``subject`` is what was measured (the model's sha256, a block's structure hash), ``shapes``
    those of its inputs, ``target`` and ``resources`` where and with what it ran, ``options`` those
    of the backend (JSON values), ``versions`` those of the backends involved, by name, and
    ``hardware`` the fingerprint of the pool. Raises InputError for what JSON can't hold.
    """

    kind: str
    subject: str
    shapes: Mapping[str, tuple[int, ...]]
    target: str
    resources: Resources
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    hardware: str
    digest: str = field(init=False, repr=False)
    """Digest of the whole key."""
    family: str = field(init=False, repr=False)
    """Digest of all but the shapes: alike for costs that can be interpolated between."""
    columns: tuple[str, ...] = field(init=False, repr=False)
    """The canonical text forms, in the order of ``KEY_COLUMNS``."""

    def __post_init__(self) -> None:
        # fields left at their default are left out, so that a new one keeps the old costs valid
        resources = {
            f.name: getattr(self.resources, f.name)
            for f in fields(self.resources)
            if getattr(self.resources, f.name) != f.default
        }
        columns = (
            _storable(self.kind),
            _storable(self.subject),
            _canonical(self.shapes, "shapes"),
            _storable(self.target),
            _canonical(resources, "resources"),
            _canonical(self.options, "options"),
            _canonical(self.versions, "versions"),
            _storable(self.hardware),
        )
        others = [text for name, text in zip(KEY_COLUMNS, columns, strict=True) if name != "shapes"]
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "digest", _digest(columns))
        object.__setattr__(self, "family", _digest(others))

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, CostKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class CostRecord:
    """A measured cost: percentiles and their spread in ms, over ``runs`` runs.

    ``noisy``: other processes used the cores meanwhile. ``extra`` holds what else is known (a
    state and its reason, the error, per-op times), as JSON values; tuples come back as lists.
    ``measured_at`` is UTC in ISO 8601 form, filled in by ``History.put`` if empty. Raises
    InputError for times that are none.
    """

    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    spread_ms: float | None = None
    runs: int = 0
    noisy: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    measured_at: str = ""

    def __post_init__(self) -> None:
        for name in ("p50_ms", "p90_ms", "p99_ms", "spread_ms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} is {value!r}", place="cost", fix="give a time or None")
        if not 0 <= self.runs <= _MOST_RUNS:
            raise InputError(f"runs is {self.runs!r}", place="cost", fix="give the number of runs")


def to_row(key: CostKey, record: CostRecord) -> Row:
    """A cost as it is stored; raises InputError for ``extra`` that JSON can't hold."""
    extra = _canonical(record.extra, "extra")
    if len(extra) > _MOST_EXTRA_CHARACTERS:
        raise InputError(
            f"extra takes {len(extra)} characters as JSON, {_MOST_EXTRA_CHARACTERS} are allowed",
            place=f"cost of kind {key.kind!r}",
            fix="keep less of it",
        )
    times = [
        None if value is None else float(value)
        for value in (record.p50_ms, record.p90_ms, record.p99_ms, record.spread_ms)
    ]
    cost = (*times, int(record.runs), int(record.noisy), extra, _timestamp(record.measured_at))
    return (key.digest, key.family, *key.columns, *cost)


def to_record(row: Row) -> CostRecord:
    """The cost in a row; raises ValueError for a row that nobody here wrote."""
    cost = dict(zip(COST_COLUMNS, row[-len(COST_COLUMNS) :], strict=True))
    try:
        extra = json.loads(cost.pop("extra"))
        if not isinstance(extra, dict):
            raise ValueError("extra is no JSON object")
        if cost["noisy"] not in (0, 1):
            raise ValueError(f"noisy is {cost['noisy']!r}")
        record = CostRecord(**cost | {"noisy": bool(cost["noisy"])}, extra=extra)
        datetime.fromisoformat(record.measured_at)
    except (TypeError, ValueError, RecursionError, InputError) as error:
        raise ValueError(str(error)) from None
    return record


def to_shapes(row: Row) -> dict[str, tuple[int, ...]]:
    """The shapes in a row; raises ValueError for a row that nobody here wrote."""
    try:
        return {name: tuple(dims) for name, dims in json.loads(row[SHAPES]).items()}
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"shapes: {error}") from None


def to_json_line(row: Row) -> str:
    """A row as one line of JSON, ``{"key": {...}, "record": {...}}``, without its newline.

    What JSON has no word for (NaN, Inf) becomes null. Raises ValueError as ``to_record`` does.
    """
    to_record(row)  # for its checks
    named = dict(zip(COLUMNS, row, strict=True))
    parts: dict[str, dict[str, Any]] = {"key": {}, "record": {}}
    for name in (*KEY_COLUMNS, *COST_COLUMNS):
        value = named[name]
        if name in _JSON_COLUMNS:
            value = json.loads(value, parse_constant=lambda _: None)
        elif name == "noisy":
            value = bool(value)
        parts["key" if name in KEY_COLUMNS else "record"][name] = value
    return json.dumps(parts, ensure_ascii=False, allow_nan=False)


def replaces(new: Row, old: Row) -> bool:
    """Whether a cost takes the place of another: unless it is noisy and the other is not."""
    return bool(new[NOISY] <= old[NOISY])


def utc_text(moment: datetime) -> str:
    """A moment as ``measured_at`` holds it: all of one width, so texts sort as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _timestamp(given: str) -> str:
    try:
        moment = datetime.fromisoformat(given) if given else datetime.now(UTC)
        if moment.tzinfo is None:
            raise ValueError("it names no time zone")
        return utc_text(moment)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"measured_at is {given!r}: {error}", place="cost", fix="leave it empty"
        ) from None


def _canonical(data: Mapping[str, Any], name: str) -> str:
    """JSON in ASCII with sorted names: the same text for the same contents."""
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{name} can't be kept: {error}", place="cost", fix="give JSON values"
        ) from None


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _storable(text: str) -> str:
    """``text`` without lone surrogates, which no database takes."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _digest(texts: tuple[str, ...] | list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
