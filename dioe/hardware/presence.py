"""Which devices of a pool are on this machine, as far as that can be told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dioe.hardware.host import host_pool, with_devices
from dioe.hardware.spec import DeviceSpec, Pool
from dioe.registry import Placement
from dioe.types import DeviceState, KnownAs


def absent_devices(
    pool: Pool, placements: Sequence[Placement], devices: Collection[str] = ()
) -> Mapping[str, str]:
    """Those of a pool's devices (or of the ``devices`` named) that aren't here, each with how that
    is known; ``placements`` are the devices that backends found.

    A device is here if one of its id is, unless the pool takes it for another kind of device of the
    catalogue. Entries that say ``known_as: hardware`` were found, and aren't doubted.
    """
    here = {spec.id: spec for spec in with_devices(host_pool(), placements).devices}
    modelled = {
        placement.device.id
        for placement in placements
        if placement.device.state is DeviceState.PRESENT
        and placement.device.known_as is KnownAs.MODELLED
    }
    found = {}
    for device in pool.devices:
        if not devices or device.id in devices:
            reason = _why_absent(device, here.get(device.id), device.id in modelled)
            if reason:
                found[device.id] = reason
    return found


def _why_absent(device: DeviceSpec, found: DeviceSpec | None, modelled: bool) -> str:
    """Why a device isn't the one that was found; empty if it is. One that a backend models is as
    good as here where the pool has no figures to plan by."""
    if found is None:
        return "" if modelled and not device.figures.peaks else "no backend finds it"
    if device.known_as is KnownAs.HARDWARE or not device.device or device.device.startswith("."):
        return ""
    if found.device == device.device:
        return ""
    return f"in the pool it is {device.device}, here {found.name or found.device or 'another one'}"
