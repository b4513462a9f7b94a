"""Limits that a plan has to keep: memory by device, precisions, stages, power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from dioe.hardware.figures import Closed
from dioe.hardware.quantities import Power, Size
from dioe.types import Precision

EVERY_DEVICE = "*"
"""In place of a device's id: all of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What plans may use at most; nothing is limited where nothing is said.

    ``memory_bytes`` by device id; ``forbidden`` precisions by device id, or ``*`` for every device;
    ``max_stages`` of a plan; ``power_w`` that the devices of a plan may draw together, in watts.
    """

    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    forbidden: Mapping[str, frozenset[Precision]] = field(default_factory=dict)
    max_stages: int | None = None
    power_w: float | None = None

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
        yield from {d: None for d in (*self.memory_bytes, *self.forbidden) if d != EVERY_DEVICE}


class LimitsSection(Closed):
    """What plans on the pool may use at most."""

    memory: dict[str, Size] = Field(default_factory=dict)
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
