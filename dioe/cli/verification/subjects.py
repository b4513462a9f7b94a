"""The device that is to be verified, and the backends it is verified with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dioe.registry import Placement, PluginStatus, Registry
from dioe.types import (
    Backend,
    DeviceInfo,
    DeviceState,
    InputError,
    KnownAs,
    UnsupportedError,
)


class DeviceAbsent(UnsupportedError):
    """The device is known to a backend, and isn't there or can't be used now."""

    exit_code: ClassVar[int] = 21


@dataclass(frozen=True, slots=True)
class Subject:
    """A device, and each backend that verifies it with the id that the backend gives it."""

    device: DeviceInfo
    backends: tuple[tuple[Backend, str], ...]


def find_subject(registry: Registry, device: str, names: Sequence[str] = ()) -> Subject:
    """The device with that id and the backends that can use it, or those among ``names``.

    Modelled devices are meant only where one of their backends is named. Raises DeviceAbsent with
    the reason of each backend, InputError for a device that no backend has heard of, and
    UnsupportedError for a name that no backend has.
    """
    for name in names:
        if name not in {status.name for status in registry.statuses}:
            registry.backend(name)  # raises, and says which there are
    placement = _present(registry, device, names)
    if placement is not None:
        able = {name: own for name, own in placement.backends.items() if name in (names or [name])}
        unable = [name for name in names if name not in able]
        if not unable:
            found = tuple((registry.backend(name), own) for name, own in sorted(able.items()))
            return Subject(placement.device, found)
        what = f"{device} can't be used by {', '.join(unable)}"
        raise _absent(registry, placement.device.kind, what, unable)
    known = {d.id: d for status in registry.statuses for d in _missing(status)}
    known |= {p.device.id: p.device for p in registry.placements if not p.backends}
    if device in known:
        raise _absent(registry, known[device].kind, f"{device} is absent", names)
    raise _unknown(registry, device)


def _present(registry: Registry, device: str, names: Sequence[str]) -> Placement | None:
    for placement in registry.placements:
        modelled = placement.device.known_as is KnownAs.MODELLED
        if placement.device.id == device and placement.backends:
            return placement if not modelled or placement.backends.keys() & set(names) else None
    return None


def _missing(status: PluginStatus) -> list[DeviceInfo]:
    return [device for device in status.devices if device.state is not DeviceState.PRESENT]


def _absent(registry: Registry, kind: str, what: str, names: Sequence[str]) -> DeviceAbsent:
    """The error, with what each backend says of its devices of that kind."""
    reasons = []
    for status in registry.statuses:
        if names and status.name not in names:
            continue
        missing = [device for device in _missing(status) if device.kind == kind]
        reasons += [f"{status.name}: {d.id} is {d.state}, {d.reason}" for d in missing]
        if names and not missing:
            reasons.append(f"{status.name}: {status.reason or f'it has no such {kind} device'}")
    modelled = [
        f"{p.device.id} of {', '.join(sorted(p.backends))} is {p.device.name}: name that backend "
        "if you mean it"
        for p in registry.placements
        if p.device.known_as is KnownAs.MODELLED and p.device.kind == kind
    ]
    return DeviceAbsent(
        what + "".join(f"\n  {reason}" for reason in reasons),
        place="--device",
        fix="; ".join(modelled) or "`dioe devices` lists what is there",
    )


def _unknown(registry: Registry, device: str) -> InputError:
    known = [
        f"{p.device.id} ({p.device.state})" if not p.backends else p.device.id
        for p in registry.placements
        if p.device.known_as is not KnownAs.MODELLED
    ]
    known += [
        f"{p.device.id} (modelled, with --backend {', '.join(sorted(p.backends))})"
        for p in registry.placements
        if p.device.known_as is KnownAs.MODELLED
    ]
    return InputError(
        f"no backend knows a device {device!r}",
        place="--device",
        fix=f"devices: {', '.join(known) or 'none'}",
    )
