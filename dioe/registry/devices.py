"""One list of devices from what several backends report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dioe.types import DeviceInfo, DeviceState, KnownAs


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and the backends that can use it.

    ``backends`` maps a backend's name to the id it gives the device itself.
    """

    device: DeviceInfo
    backends: dict[str, str]


def merge_devices(reports: Iterable[tuple[str, DeviceInfo]]) -> tuple[Placement, ...]:
    """Merge ``(backend name, device)`` reports by uuid into one list with ids of its own.

    A device without a uuid is nobody else's. Present devices come first, so that an absent one
    doesn't shift their ids, and among them modelled ones last, so that none takes the id of a
    device that computes. The first CPU is ``cpu``; any other device gets its kind and the next
    free index (``gpu:0``), in the order of the reports. Of several reports on one device the first
    describes it; ``shares`` comes back under the new ids.
    """
    merged: dict[tuple[str, ...], Placement] = {}
    keys: dict[tuple[str, str], tuple[str, ...]] = {}  # by backend and its own id
    reporters: dict[tuple[str, ...], str] = {}
    for backend, info in sorted(reports, key=lambda report: _rank(report[1])):
        key: tuple[str, ...] = ("own", backend, info.id)
        if info.uuid:
            key = ("uuid", info.kind, info.uuid)
        keys.setdefault((backend, info.id), key)
        reporters.setdefault(key, backend)
        placement = merged.setdefault(key, Placement(info, {}))
        if _is_present(info):
            placement.backends.setdefault(backend, info.id)
    ids = dict(zip(merged, _ids(p.device.kind for p in merged.values()), strict=True))
    placements = []
    for key, placement in merged.items():
        shares = placement.device.shares
        lender = keys.get((reporters[key], shares)) if shares is not None else None
        device = replace(
            placement.device, id=ids[key], shares=shares if lender is None else ids[lender]
        )
        placements.append(replace(placement, device=device))
    return tuple(placements)


def _is_present(info: DeviceInfo) -> bool:
    return info.state is DeviceState.PRESENT


def _rank(info: DeviceInfo) -> tuple[bool, bool]:
    return not _is_present(info), info.known_as is KnownAs.MODELLED


def _ids(kinds: Iterable[str]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for kind in kinds:
        yield "cpu" if kind == "cpu" and not counts[kind] else f"{kind}:{counts[kind]}"
        counts[kind] += 1
