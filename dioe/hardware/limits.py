"""Limits that a plan has to keep: memory by device, precisions, stages, power."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import Field, ValidationError

from dioe.hardware.figures import Closed
from dioe.hardware.quantities import POWER, SIZE, Power, Size
from dioe.types import InputError, Precision

EVERY_DEVICE = "*"
"""In place of a device's id: all of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What plans may use at most; nothing is limited where nothing is said.

    ``memory_bytes`` by device id; ``forbidden`` precisions by device id, or ``*`` for every device;
    ``max_stages`` of a plan; ``power_w`` that the devices of a plan may draw together, in watts.
    Raises InputError for a number that isn't above 0.
    """

    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    forbidden: Mapping[str, frozenset[Precision]] = field(default_factory=dict)
    max_stages: int | None = None
    power_w: float | None = None

    def __post_init__(self) -> None:
        numbers = {f"memory of {d}": size for d, size in self.memory_bytes.items()}
        for what, number in (numbers | {"stages": self.max_stages, "power": self.power_w}).items():
            if number is not None and not number > 0:
                raise InputError(f"{what}: {number}", place="limits", fix="give more than 0")

    def __bool__(self) -> bool:
        return self != Limits()

    def forbids(self, device: str, precision: Precision) -> bool:
        """Whether a device may not compute in a precision."""
        return any(precision in self.forbidden.get(d, ()) for d in (device, EVERY_DEVICE))

    def over(self, other: Limits) -> Limits:
        """These limits, and of ``other`` those on what isn't limited here."""
        return Limits(
            {**other.memory_bytes, **self.memory_bytes},
            {**other.forbidden, **self.forbidden},
            other.max_stages if self.max_stages is None else self.max_stages,
            other.power_w if self.power_w is None else self.power_w,
        )

    def devices(self) -> Iterator[str]:
        """Ids of the devices that are named."""
        forbidden = (d for d in self.forbidden if d != EVERY_DEVICE)
        yield from dict.fromkeys((*self.memory_bytes, *forbidden))

    def to_data(self) -> dict[str, Any]:
        """As a file has them, the same for equal limits."""
        data: dict[str, Any] = LimitsSection.of(self).model_dump(mode="json", exclude_defaults=True)
        return {
            key: dict(sorted(value.items())) if isinstance(value, dict) else value
            for key, value in data.items()
        }

    def phrases(self) -> Iterator[str]:
        """What is limited, in words."""
        for device, size in self.memory_bytes.items():
            yield f"at most {SIZE.write(size)} of {device}'s memory"
        for device, names in self.forbidden.items():
            if names:
                where = "anywhere" if device == EVERY_DEVICE else f"on {device}"
                yield f"no {' or '.join(sorted(names))} {where}"
        if self.max_stages is not None:
            yield f"at most {self.max_stages} stage{'' if self.max_stages == 1 else 's'}"
        if self.power_w is not None:
            yield f"at most {POWER.write(self.power_w)} for all devices together"


class LimitsSection(Closed):
    """What plans on the pool may use at most."""

    memory: dict[str, Annotated[Size, Field(gt=0)]] = Field(default_factory=dict)
    """Memory by device id: `gpu:0: 8 GiB`."""
    forbid: dict[str, tuple[Precision, ...]] = Field(default_factory=dict)
    """Precisions that may not be used, by device id, or `'*'` for every device."""
    max_stages: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Stages of a plan at most."""
    power: Power | None = None
    """What the devices of a plan may draw together."""

    def limits(self) -> Limits:
        """As plans are held to them."""
        forbidden = {device: frozenset(names) for device, names in self.forbid.items()}
        return Limits(self.memory, forbidden, self.max_stages, self.power)

    @classmethod
    def of(cls, limits: Limits) -> LimitsSection:
        """As a file has them."""
        return cls.model_construct(
            memory=dict(limits.memory_bytes),
            forbid={d: tuple(sorted(names)) for d, names in limits.forbidden.items()},
            max_stages=limits.max_stages,
            power=limits.power_w,
        )


LimitsLike: TypeAlias = "Limits | Mapping[str, Any] | None"
"""What ``limits=`` takes: limits, or a mapping as a pool file has it under ``limits:``."""

_EXAMPLE = (
    '{"memory": {"gpu:0": "8 GiB"}, "forbid": {"cpu": ["bf16"]}, "max_stages": 2, "power": "60 W"}'
)


def limits_from(given: LimitsLike) -> Limits:
    """The limits that ``given`` means. Raises InputError for what is wrong in a mapping."""
    if given is None:
        return Limits()
    if isinstance(given, Limits):
        return given
    if not isinstance(given, Mapping):
        raise InputError(
            f"limits is a {type(given).__name__}", place="limits", fix=f"give a mapping: {_EXAMPLE}"
        )
    try:
        # Through JSON, where pydantic's strict mode takes lists for tuples, and nothing else.
        section = LimitsSection.model_validate_json(json.dumps(dict(given), default=_plain))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("limits", *first["loc"]))
        raise InputError(_cause(first), place=place, fix=f"write it as in {_EXAMPLE}") from None
    return section.limits()


def check_devices(limits: Limits, known: Collection[str]) -> None:
    """Raise InputError for a device that is limited and isn't among the ``known`` ones."""
    for device in limits.devices():
        if device not in known:
            near = difflib.get_close_matches(device, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"there is no device {device!r}{hint}",
                place="limits",
                fix=f"devices here: {', '.join(sorted(known))}",
            )


def _plain(value: object) -> object:
    """A set or another collection as a list, anything else as text, for the schema to judge."""
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value, key=str) if isinstance(value, Collection) else str(value)


def _cause(error: Any) -> str:
    """What is wrong, of one of pydantic's errors."""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), LimitsSection.model_fields, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key {error['loc'][-1]!r}{hint}"
    return f"{error['input']!r:.60}: {error['msg']}"
