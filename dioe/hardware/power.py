"""What devices draw by design, and the power modes in which they stay below a cap.

The figures are those of descriptors and pool files: the TDP, or the caps of a device's power modes
where it has several. Nothing is measured here, and no device is switched to another mode.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dioe.hardware.spec import DeviceSpec, Pool


@dataclass(frozen=True, slots=True)
class Draw:
    """What a device draws at most, in watts; in a power mode where it has any."""

    device: str
    watts: float
    mode: str = ""

    def __str__(self) -> str:
        mode = f" in mode {self.mode}" if self.mode else ""
        return f"{self.device}{mode} {self.watts:g} W"


def draws_of(pool: Pool, device: str) -> tuple[Draw, ...]:
    """What a device may draw: one entry for each power mode, else its TDP; the least first.

    Empty where nobody knows. A device that uses another's memory, and has no figures of its own or
    the very same power modes, is taken for a part of that one: the modes are those of a module with
    both.
    """
    listed = {spec.id: spec for spec in pool.devices}
    while device in listed:
        spec = listed.pop(device)
        found = _own_draws(spec)
        if spec.shares is None or (found and not _of_one_module(spec, listed.get(spec.shares))):
            return found
        device = spec.shares
    return ()


def _of_one_module(spec: DeviceSpec, other: DeviceSpec | None) -> bool:
    modes = _modes(spec)
    return other is not None and bool(modes) and modes == _modes(other)


def _modes(spec: DeviceSpec) -> dict[str, float]:
    return {mode.id: mode.cap.value for mode in spec.figures.power.modes}


def _own_draws(spec: DeviceSpec) -> tuple[Draw, ...]:
    power = spec.figures.power
    if power.modes:
        found = [Draw(spec.id, mode.cap.value, mode.id) for mode in power.modes]
        return tuple(sorted(found, key=lambda draw: draw.watts))
    return () if power.tdp is None else (Draw(spec.id, power.tdp.value),)


def least_draws(pool: Pool, devices: Iterable[str]) -> tuple[Draw, ...]:
    """The least that each of the devices may draw; those that nobody knows are left out."""
    least = (draws_of(pool, device)[:1] for device in sorted(set(devices)))
    return tuple(dict.fromkeys(draw for found in least for draw in found))


def watts(draws: Iterable[Draw]) -> float:
    """What they draw together."""
    return sum(draw.watts for draw in draws)


def fastest_draws(pool: Pool, devices: Collection[str], cap_w: float) -> tuple[Draw, ...]:
    """For each device whose draw is known the mode of the highest cap, so that they stay within
    ``cap_w`` together: the first device first. Empty if even the least is too much."""
    chosen = {draw.device: draw for draw in least_draws(pool, devices)}
    if watts(chosen.values()) > cap_w:
        return ()
    for device in chosen:
        others_w = watts(draw for draw in chosen.values() if draw.device != device)
        fitting = [d for d in draws_of(pool, device) if d.watts + others_w <= cap_w]
        chosen[device] = fitting[-1]
    return tuple(chosen.values())


def allowed_together(
    pool: Pool, devices: Iterable[str], cap_w: float, beside: Iterable[str] = ()
) -> tuple[frozenset[str], ...]:
    """The largest sets of ``devices`` that stay within a cap together, and with those ``beside``.

    Devices whose draw isn't known are in all of them.
    """
    named = sorted(set(devices))
    beside = frozenset(beside)
    free = [d for d in named if not draws_of(pool, d)]
    known = [d for d in named if d not in free]
    found: list[frozenset[str]] = []

    def extend(chosen: frozenset[str], rest: list[str]) -> None:
        """Depth first, the devices that fit taken first, so that larger sets come before parts."""
        if not rest:
            if not any(chosen <= other for other in found):
                found.append(chosen)
            return
        wider = chosen | {rest[0]}
        if watts(least_draws(pool, wider | beside)) <= cap_w:
            extend(wider, rest[1:])
        extend(chosen, rest[1:])

    extend(frozenset(), known)
    return tuple(each | frozenset(free) for each in found)
