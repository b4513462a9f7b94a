"""Limits as they hold for one model on one pool: what isn't tried, and why; what plans may be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dioe.hardware import Pool
from dioe.hardware.limits import Limits
from dioe.hardware.power import (
    allowed_together,
    draws_of,
    fastest_draws,
    least_draws,
    watts,
)
from dioe.hardware.quantities import SIZE
from dioe.types import Plan, Precision, Resources, Stage

FORBIDDEN = "forbidden by limits"
"""How the reason of a target begins that limits keep out."""


@dataclass(frozen=True, slots=True)
class Limited:
    """``limits`` on the devices of ``pool`` for a model that is ``written`` in some precisions
    below fp32 itself; ``beside`` are devices that are in use together with its plan."""

    limits: Limits = field(default_factory=Limits)
    pool: Pool | None = None
    written: frozenset[Precision] = frozenset()
    beside: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.limits)

    # --- targets ------------------------------------------------------------------------------

    def refusal(self, device: str, precision: Precision) -> str:
        """Why limits keep the model out of a target; empty if they don't."""
        return self.forbids(device, [precision]) or self.over_power([device])

    def forbids(self, device: str, precisions: Iterable[Precision]) -> str:
        """Why a device may not compute the model in one of the precisions; empty if it may."""
        for precision in precisions:
            if self.limits.forbids(device, precision):
                return f"{FORBIDDEN}: no {precision} on {device}"
        for precision in sorted(self.written):
            if self.limits.forbids(device, precision):
                return (
                    f"{FORBIDDEN}: no {precision} on {device}, and parts of the model are written "
                    "in it"
                )
        return ""

    def resources(self, device: str, usual: Resources) -> Resources:
        """What may be used of a device."""
        limit = self.limits.memory_bytes.get(device)
        return usual if limit is None else replace(usual, memory_limit_bytes=limit)

    # --- power --------------------------------------------------------------------------------

    def together(self, devices: Collection[str]) -> tuple[frozenset[str], ...] | None:
        """The largest sets of the devices that a plan may use; None if it may use them all."""
        cap_w = self.limits.power_w
        if cap_w is None or self.pool is None:
            return None
        if watts(least_draws(self.pool, {*devices, *self.beside})) <= cap_w:
            return None
        return allowed_together(self.pool, devices, cap_w, self.beside)

    def over_power(self, devices: Collection[str]) -> str:
        """Why the devices may not be used, together and with those beside; empty if they may."""
        cap_w = self.limits.power_w
        if cap_w is None or self.pool is None:
            return ""
        draws = least_draws(self.pool, {*devices, *self.beside})
        if watts(draws) <= cap_w or not least_draws(self.pool, devices):
            return ""
        listed = " and ".join(map(str, draws))
        return f"{FORBIDDEN}: {listed} is more than the {cap_w:g} W that are allowed"

    # --- plans --------------------------------------------------------------------------------

    def breaches(self, stages: Sequence[Stage]) -> Iterator[str]:
        """What limits the stages of a plan break. Whether they keep to the memory that they were
        made for is judged where they are loaded."""
        most = self.limits.max_stages
        if most is not None and len(stages) > most:
            yield f"it has {len(stages)} stages, and limits allow {most}"
        for stage in stages:
            reason = self.forbids(stage.target.device, stage.precisions.used)
            if reason:
                yield f"{stage.name}: {reason}"
            allowed = self.limits.memory_bytes.get(stage.target.device)
            made_for = stage.resources.memory_limit_bytes
            if allowed is not None and (made_for is None or made_for > allowed):
                given = "any amount" if made_for is None else SIZE.write(made_for)
                yield (
                    f"{stage.name} was made for {given} of {stage.target.device}'s memory, and "
                    f"limits allow {SIZE.write(allowed)}"
                )
        reason = self.over_power({stage.target.device for stage in stages})
        if reason:
            yield reason

    def notes(self, devices: Collection[str]) -> tuple[str, ...]:
        """What is limited, and which of the devices may not be used together."""
        if not self.limits:
            return ()
        found = [f"limits: {'; '.join(self.limits.phrases())}"]
        usable = [d for d in sorted(set(devices)) if not self.over_power([d])]
        sets = self.together(usable)
        if sets is not None and len(sets) > 1:
            listed = " or ".join("+".join(sorted(each)) for each in sets)
            found.append(f"power: plans use {listed}; more together is above the limit")
        return tuple(found)

    def with_power(self, plan: Plan) -> Plan:
        """The plan, with notes on what its devices draw, and on what couldn't be checked."""
        cap_w = self.limits.power_w
        if cap_w is None or self.pool is None:
            return plan
        used = {stage.target.device for stage in plan.stages}
        notes = []
        draws = fastest_draws(self.pool, used | self.beside, cap_w)
        if draws:
            note = f"power: {', '.join(map(str, draws))}: {watts(draws):g} of {cap_w:g} W"
            if any(draw.mode for draw in draws):
                note += "; DIOE doesn't switch devices to a mode: do it before you run"
            notes.append(note)
        unknown = sorted(device for device in used if not draws_of(self.pool, device))
        if unknown:
            notes.append(
                f"power: nobody knows what {', '.join(unknown)} draw{'s' * (len(unknown) == 1)}: "
                "the limit couldn't be checked there"
            )
        return replace(plan, notes=(*plan.notes, *(n for n in notes if n not in plan.notes)))

    def key(self, devices: Iterable[str] = ()) -> dict[str, Any]:
        """What plans made under these limits depend on, as JSON values; empty where there are
        none. ``devices`` are those that power is limited for."""
        found = self.limits.to_data()
        if self.limits.power_w is not None and self.pool is not None:
            known = {device: draws_of(self.pool, device) for device in devices}
            found["draws"] = sorted(str(draw) for draws in known.values() for draw in draws)
            found["beside"] = sorted(self.beside)
        return found
