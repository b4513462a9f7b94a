"""What a search for mixed plans is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dioe.planning import Allowed
from dioe.tuning.beside import Setting
from dioe.tuning.limited import Limited
from dioe.types import Dim

_FORMAT = 2
"""Of what the history keeps of a search: one of another format isn't known."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a search is for: where it looks, what its plans are bound to, and how good is enough."""

    settings: Sequence[Setting]
    hardware: str
    shapes: Mapping[str, tuple[Dim, ...]]
    policy: str
    precision: str
    limit: float
    versions: Mapping[str, str]
    lowers: bool
    """Whether precision may be lowered within the limit."""
    budget_s: float
    """Of the whole tuning."""
    broken: Mapping[str, str]
    """Reasons of plans that are passed over, by name."""
    pinned: Mapping[str, str] = field(default_factory=dict)
    """The device or target that an op has to be on, by op id."""
    hopeless: frozenset[str] = frozenset()
    """Targets so slow that they get only what no other takes, and aren't measured."""
    limited: Limited = field(default_factory=Limited)
    """What plans may use at most."""

    @property
    def allowed(self) -> Allowed:
        """What plans may use at most, as the planner keeps it."""
        together = self.limited.together({s.target.device for s in self.settings})
        return Allowed(together, self.limited.limits.max_stages)

    def key(self) -> dict[str, object]:
        """What a search that was kept has to agree in."""
        limits = self.limited.key({s.target.device for s in self.settings})
        return {
            "format": _FORMAT,
            "settings": [s.name for s in self.settings],
            "policy": self.policy,
            "limit": self.limit,
            "lowers": self.lowers,
            "pinned": sorted(self.pinned.items()),
            "hopeless": sorted(self.hopeless),
            **({"limits": limits} if limits else {}),
        }
