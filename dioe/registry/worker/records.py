"""The contract's records as JSON data, and back: each direction checks what it is given.

What a worker says is checked field by field: a wrong answer is a BackendError, never an object with
something else inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from dioe.registry.status import PluginState, PluginStatus
from dioe.registry.worker.values import dtype_named, malformed
from dioe.types import (
    Capabilities,
    DeviceInfo,
    DeviceState,
    Dim,
    DioeError,
    Effect,
    InputError,
    KnownAs,
    OpTime,
    Precision,
    Precisions,
    Resolution,
    Resources,
    Sample,
    Support,
    TensorSpec,
)

T = TypeVar("T")
JSON_SCALARS = (str, int, float, bool, type(None))


def plain(value: Any, place: str) -> Any:
    """``value`` if it is JSON data (tuples become lists); raises InputError."""
    if isinstance(value, JSON_SCALARS):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): plain(item, place) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, place) for item in value]
    raise InputError(
        f"{type(value).__name__} can't be given to a worker",
        place=place,
        fix="options are text, numbers, booleans, lists and mappings",
    )


def field(data: object, name: str, kind: type[T] | tuple[type, ...]) -> Any:
    """One field of a JSON object, of that type (bool is no number); raises BackendError."""
    if not isinstance(data, dict) or name not in data:
        raise malformed(f"there is no {name!r}")
    value = data[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise malformed(f"{name!r} is {value!r:.40}")
    return value


def items(data: object, name: str, kind: type[T] | tuple[type, ...]) -> list[Any]:
    """A field that is a list of that type."""
    return [field({name: item}, name, kind) for item in field(data, name, list)]


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except DioeError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise malformed(str(error)) from None


OPTIONAL_INT = (int, type(None))
OPTIONAL_STR = (str, type(None))
NUMBER = (int, float)


def device_data(value: DeviceInfo) -> dict[str, Any]:
    """As JSON; raises InputError for details that aren't."""
    found = {part.name: getattr(value, part.name) for part in fields(value)}
    return dict(plain(found, f"device {value.id!r}"))


def device(data: object) -> DeviceInfo:
    """From ``device_data``."""
    details = field(data, "details", dict)
    return _made(
        lambda: DeviceInfo(
            id=field(data, "id", str),
            kind=field(data, "kind", str),
            name=field(data, "name", str),
            state=DeviceState(field(data, "state", str)),
            reason=field(data, "reason", str),
            uuid=field(data, "uuid", str),
            known_as=KnownAs(field(data, "known_as", str)),
            memory_bytes=field(data, "memory_bytes", OPTIONAL_INT),
            shares=field(data, "shares", OPTIONAL_STR),
            details={str(k): field(details, k, (str, int, float, bool)) for k in details},
        )
    )


def status_data(value: PluginStatus) -> dict[str, Any]:
    """As JSON."""
    found = {part.name: getattr(value, part.name) for part in fields(value)}
    return found | {"devices": [device_data(device) for device in value.devices]}


def status(data: object) -> PluginStatus:
    """From ``status_data``."""
    return _made(
        lambda: PluginStatus(
            name=field(data, "name", str),
            state=PluginState(field(data, "state", str)),
            reason=field(data, "reason", str),
            source=field(data, "source", str),
            version=field(data, "version", str),
            devices=tuple(map(device, field(data, "devices", list))),
            misconfigured=field(data, "misconfigured", bool),
        )
    )


def capabilities_data(value: Capabilities) -> dict[str, Any]:
    """As JSON."""
    return asdict(value) | {"computes": sorted(value.computes), "stores": sorted(value.stores)}


def capabilities(data: object) -> Capabilities:
    """From ``capabilities_data``."""
    flags = (
        "mixes_precisions", "dynamic_shapes", "asynchronous", "graph_capture", "dlpack_in",
        "dlpack_out", "keeps_to_cores", "last_resort",
    )  # fmt: skip
    return _made(
        lambda: Capabilities(
            frozenset(Precision(p) for p in items(data, "computes", str)),
            frozenset(Precision(p) for p in items(data, "stores", str)),
            **{name: field(data, name, bool) for name in flags},
        )
    )


def resolution(data: object) -> Resolution:
    """From ``asdict``."""
    return _made(
        lambda: Resolution(
            Effect(field(data, "effect", str)),
            field(data, "native_key", str),
            field(data, "note", str),
        )
    )


def support_data(value: Support, op_ids: Sequence[str]) -> dict[str, Any]:
    """As JSON, ops by their place in the model: answers on large models stay small."""
    place = {op: i for i, op in enumerate(op_ids)}
    reasons: dict[str, list[int]] = {}
    for op, reason in value.refused.items():
        reasons.setdefault(str(reason), []).append(place[op])
    return {
        "supported": sorted(place[op] for op in value.supported),
        "refused": [[reason, ops] for reason, ops in reasons.items()],
    }


def support(data: object, op_ids: Sequence[str]) -> Support:
    """From ``support_data`` of the same model."""
    refused: dict[str, str] = {}
    for pair in items(data, "refused", list):
        reason, ops = pair if len(pair) == 2 else (None, None)
        for i in items({"ops": ops}, "ops", int):
            refused[_op(op_ids, i)] = field({"reason": reason}, "reason", str)
    return Support(
        frozenset(_op(op_ids, i) for i in items(data, "supported", int)),
        {op: refused[op] for op in op_ids if op in refused},
    )


def _op(op_ids: Sequence[str], index: int) -> str:
    if not 0 <= index < len(op_ids):
        raise malformed(f"the model has no op {index}")
    return op_ids[index]


def precisions(data: object) -> Precisions:
    """From ``asdict``."""
    exceptions = field(data, "exceptions", dict)
    return _made(
        lambda: Precisions(
            Precision(field(data, "default", str)),
            {op: Precision(field(exceptions, op, str)) for op in exceptions},
        )
    )


def resources(data: object) -> Resources:
    """From ``asdict``; what the values are is for the backend to judge."""
    found = dict(data) if isinstance(data, dict) else {}
    if found.get("cores") is not None:
        found["cores"] = tuple(field(found, "cores", list))
    return _made(lambda: Resources(**found))


def spec_data(value: TensorSpec) -> dict[str, Any]:
    """As JSON."""
    return {
        "name": value.name,
        "dtype": "object" if value.dtype.hasobject else value.dtype.name,
        "shape": None if value.shape is None else list(value.shape),
        "kind": value.kind,
    }


def spec(data: object) -> TensorSpec:
    """From ``spec_data``."""
    shape: tuple[Dim, ...] | None = None
    if field(data, "shape", (list, type(None))) is not None:
        shape = tuple(items(data, "shape", (int, str, type(None))))
        if any(isinstance(d, int) and d < 0 for d in shape):
            raise malformed("a dimension is negative")
    kind = field(data, "kind", str)
    if kind not in ("tensor", "sequence", "optional", "map"):
        raise malformed(f"there is no kind {kind!r:.40}")
    return TensorSpec(field(data, "name", str), dtype_named(field(data, "dtype", str)), shape, kind)


def op_time(data: object) -> OpTime:
    """From ``asdict``."""
    return OpTime(
        name=field(data, "name", str),
        op_type=field(data, "op_type", str),
        ops=tuple(items(data, "ops", str)),
        total_ms=float(field(data, "total_ms", NUMBER)),
        count=field(data, "count", int),
        precision=field(data, "precision", str),
    )


def sample(data: object) -> Sample | None:
    """The reading under ``sample``, or None where there is no counter."""
    found = field(data, "sample", (dict, type(None)))
    if found is None:
        return None
    return Sample(
        float(field(found, "value", NUMBER)), field(found, "unit", str), field(found, "source", str)
    )
