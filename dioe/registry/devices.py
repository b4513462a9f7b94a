"""One list of devices from what several backends report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dioe.types import DeviceInfo, DeviceState


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and the backends that can use it.

    ``backends`` maps a backend's name to the id it gives the device itself.
    """

    device: DeviceInfo
    backends: dict[str, str]


def merge_devices(reports: Iterable[tuple[str, DeviceInfo]]) -> tuple[Placement, ...]:
    """Merge ``(backend name, device)`` reports by uuid into one list with ids of its own.

    A device without a uuid is nobody else's. The first CPU is ``cpu``; any other device gets its
    kind and the next free index (``gpu:0``), in the order of the reports, so that an absent device
    doesn't shift the ids of those present: present ones are numbered first.
    """
    merged: dict[tuple[str, str], tuple[DeviceInfo, dict[str, str]]] = {}
    for backend, info in reports:
        key = (info.kind, info.uuid) if info.uuid else (backend, info.id)
        if key not in merged:
            merged[key] = (info, {})
        first, backends = merged[key]
        if info.state is DeviceState.PRESENT:
            backends[backend] = info.id
            if first.state is not DeviceState.PRESENT:
                merged[key] = (info, backends)
    counts: dict[str, int] = {}
    placements: list[Placement] = []
    for info, backends in sorted(
        merged.values(), key=lambda entry: entry[0].state is not DeviceState.PRESENT
    ):
        index = counts.get(info.kind, 0)
        counts[info.kind] = index + 1
        name = "cpu" if info.kind == "cpu" and index == 0 else f"{info.kind}:{index}"
        placements.append(Placement(replace(info, id=name), backends))
    return tuple(placements)
