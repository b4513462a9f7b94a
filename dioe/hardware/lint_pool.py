"""Lint of pools: what looks wrong in how devices are put together.

Besides those of figures (:mod:`dioe.hardware.lint`), which hold for links and buses too:

===================== ======== ==================================================================
rule                  severity what it finds
===================== ======== ==================================================================
bus                   error    a link faster than the bus that it goes over
interconnect          warning  a link faster than the device's own interconnect of that name
unlinked              warning  a device that neither shares the host's memory nor has a way to it
one-way               warning  a link without one back
shared-link           warning  a link to the host of a device that shares the host's memory
shares                warning  shares the host's memory, and a descriptor that says it doesn't
memory                error    more memory usable than there is; warning for a limit that limits
                               nothing
cores                 error    more cores usable than there are
cores-twice           warning  a core that belongs to two devices, or is listed twice
===================== ======== ==================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

from dioe.hardware.figures import Figure
from dioe.hardware.findings import Finding, Severity
from dioe.hardware.lint import (
    LINK_BANDWIDTH,
    LINK_LATENCY,
    ROUNDING,
    Remark,
    figure_remarks,
    placed,
    range_remarks,
    shown,
    source_remarks,
    standard_remarks,
    twins_of,
)
from dioe.hardware.pool_file import Place, PoolParts
from dioe.hardware.quantities import BANDWIDTH, SIZE
from dioe.hardware.spec import DeviceSpec, Link
from dioe.yaml_text import KeyPath

HOST = "cpu"
"""The kind of device whose memory is the host's."""


def lint_pool(parts: PoolParts) -> Iterator[Finding]:
    """What looks wrong in a pool that was put together."""
    files = _InFiles(parts)
    for device, place in parts.device_by_id.values():
        twins = twins_of(device.name, device.kind, device.device)
        remarks = figure_remarks(device.figures, device.kind, twins)
        yield from placed(remarks, _OfDevice(files, place))
        yield from placed(_device(device), _OfDevice(files, place, of_figures=False))
    for rule in (_links, _buses, _boundaries, _ways, _shared, _limits, _cores_twice):
        yield from placed(rule(parts), files)


class _InFiles:
    """Places of a pool's parts, in whichever file they are."""

    def __init__(self, parts: PoolParts) -> None:
        self._parts = parts
        self._place_by_id = {id(figure): place for figure, place in parts.figures}

    def figure(self, figure: Figure, key: str) -> str | None:
        place = self._place_by_id.get(id(figure))
        return None if place is None else str(place.below(key))

    def path(self, path: KeyPath) -> str | None:
        place = self._parts.place(path)
        return None if place is None else str(place)


class _OfDevice:
    """Places of what one device has, where its entry says it; paths begin at its figures, or at the
    entry."""

    def __init__(self, files: _InFiles, place: Place, *, of_figures: bool = True) -> None:
        self._files = files
        self._place = place.below("figures") if of_figures else place

    def figure(self, figure: Figure, key: str) -> str | None:
        return self._files.figure(figure, key)

    def path(self, path: KeyPath) -> str | None:
        place = self._place.below(*path)
        return str(place) if place.document.has(place.path) else None


def _device(device: DeviceSpec) -> Iterator[Remark]:
    usable, total = device.memory_bytes, device.memory_total_bytes
    size = device.figures.memory.size
    if usable is not None and total is not None and usable > total:
        yield Remark(
            Severity.ERROR, "memory", (("memory_bytes",), ("memory_total_bytes",)),
            f"{SIZE.write(usable)} may be used of {SIZE.write(total)}", "correct one of the two",
        )  # fmt: skip
    if usable is not None and size is not None and usable > size.value:
        yield Remark(
            Severity.ERROR, "memory", (("memory_bytes",), size),
            f"{SIZE.write(usable)} may be used of the {SIZE.write(size.value)} of the device",
            "correct one of the two",
        )  # fmt: skip
    threads = device.logical_cores
    for key in ("capacity", "physical_cores", "cores"):
        value = getattr(device, key)
        number = len(value) if isinstance(value, tuple) else value
        if number is not None and threads is not None and number > threads:
            yield Remark(
                Severity.ERROR, "cores", ((key,), ("logical_cores",)),
                f"{key} is {number:g}{' long' if key == 'cores' else ''}, and the machine has "
                f"{threads} logical cores",
                "correct one of the two",
            )  # fmt: skip
    if device.shares is not None and device.figures.memory.shared_with_host is False:
        yield Remark(
            Severity.WARNING, "shares", (("shares",),),
            f"it shares the memory of {device.shares!r}, and its figures say that it has its own",
            "leave shares out, or name another descriptor",
        )  # fmt: skip


def _links(parts: PoolParts) -> Iterator[Remark]:
    buses = {bus.id: bus for bus in parts.buses}
    for link in parts.links:
        for figure, within, name in (
            (link.bandwidth, LINK_BANDWIDTH, "the link's bandwidth"),
            (link.latency, LINK_LATENCY, "the link's latency"),
        ):
            if figure is not None:
                yield from source_remarks(figure, name)
                yield from range_remarks(figure, within, name)
        yield from standard_remarks(link.name, link.bandwidth, "the link")
        bus = buses.get(link.bus)
        if bus is not None and link.bandwidth.value > bus.bandwidth.value * (1 + ROUNDING):
            yield Remark(
                Severity.ERROR, "bus", (link.bandwidth, bus.bandwidth),
                f"the link, {shown(BANDWIDTH, link.bandwidth.value)}, is faster than its bus "
                f"{bus.id!r}, {shown(BANDWIDTH, bus.bandwidth.value)}",
                "check both; each is of one direction",
            )  # fmt: skip
        for end in (link.source, link.destination):
            yield from _interconnect(link, parts.device_by_id[end][0])


def _interconnect(link: Link, device: DeviceSpec) -> Iterator[Remark]:
    for way in device.figures.interconnects:
        named = link.name.strip().lower() == way.name.strip().lower()
        fastest = None if way.bandwidth is None else way.bandwidth.value
        if named and fastest and link.bandwidth.value > fastest * (1 + ROUNDING):
            yield Remark(
                Severity.WARNING, "interconnect", (link.bandwidth,),
                f"the link has {shown(BANDWIDTH, link.bandwidth.value)}, and the {way.name} of "
                f"{device.id!r} {shown(BANDWIDTH, fastest)} in one direction",
                "write what goes one way, not the sum of both",
            )  # fmt: skip


def _buses(parts: PoolParts) -> Iterator[Remark]:
    for bus in parts.buses:
        yield from source_remarks(bus.bandwidth, "the bus's bandwidth")
        yield from range_remarks(bus.bandwidth, LINK_BANDWIDTH, "the bus's bandwidth")
        yield from standard_remarks(bus.name, bus.bandwidth, "the bus")


def _boundaries(parts: PoolParts) -> Iterator[Remark]:
    for boundary in parts.boundaries:
        yield from source_remarks(boundary.fixed, "the boundary's cost")
        yield from range_remarks(boundary.fixed, LINK_LATENCY, "the boundary's cost")
        if boundary.bandwidth is not None:
            yield from source_remarks(boundary.bandwidth, "the boundary's bandwidth")
            yield from range_remarks(boundary.bandwidth, LINK_BANDWIDTH, "the boundary's bandwidth")


def _ways(parts: PoolParts) -> Iterator[Remark]:
    """Devices that data can't get to, or not back from."""
    ways = {(link.source, link.destination) for link in parts.links}
    for index, link in enumerate(parts.links):
        if (link.destination, link.source) not in ways:
            yield Remark(
                Severity.WARNING, "one-way", (("links", index, "source"),),
                f"nothing goes back from {link.destination!r} to {link.source!r}",
                "add 'both_ways: true', or a link back",
            )  # fmt: skip
    hosts = [device.id for device in parts.devices if device.kind == HOST]
    if not hosts:
        return
    reached = set(hosts) | {d.id for d in parts.devices if _in_host_memory(d)}
    while more := {b for pair in ways for a, b in (pair, pair[::-1]) if a in reached} - reached:
        reached |= more
    for index, device in enumerate(parts.devices):
        if device.id not in reached:
            yield Remark(
                Severity.WARNING, "unlinked", (("devices", index, "id"),),
                f"{device.id!r} has no link to the host, {hosts[0]!r}, and doesn't share its "
                "memory",
                "add a link, or 'shares: " + hosts[0] + "'",
            )  # fmt: skip


def _in_host_memory(device: DeviceSpec) -> bool:
    return device.shares is not None or bool(device.figures.memory.shared_with_host)


def _shared(parts: PoolParts) -> Iterator[Remark]:
    devices = {device.id: device for device in parts.devices}
    for link in parts.links:
        ends = [devices[link.source], devices[link.destination]]
        if sum(end.kind == HOST for end in ends) != 1:
            continue
        (device,) = (end for end in ends if end.kind != HOST)
        if _in_host_memory(device):
            yield Remark(
                Severity.WARNING, "shared-link", (link.bandwidth,),
                f"{device.id!r} shares the host's memory: nothing has to go over a link to it",
                "leave the link out; or if its software copies, say so: 'shared_with_host: false'",
            )  # fmt: skip


def _limits(parts: PoolParts) -> Iterator[Remark]:
    memory = {device.id: device.memory_bytes for device in parts.devices}
    for device_id, limit in parts.limits.memory_bytes.items():
        there = memory.get(device_id)
        if there is not None and limit > there:
            yield Remark(
                Severity.WARNING, "memory", (("limits", "memory", device_id),),
                f"{device_id!r} may use {SIZE.write(limit)}, and has {SIZE.write(there)}",
                "lower the limit, or leave it out",
            )  # fmt: skip


def _cores_twice(parts: PoolParts) -> Iterator[Remark]:
    taken: dict[int, str] = {}
    for index, device in enumerate(parts.devices):
        for position, core in enumerate(device.cores):
            owner = taken.get(core)
            if owner is not None:
                again = "is listed twice" if owner == device.id else f"belongs to {owner!r} too"
                yield Remark(
                    Severity.WARNING, "cores-twice", (("devices", index, "cores", position),),
                    f"core {core} {again}", "give each core to one device, once",
                )  # fmt: skip
                break
            taken[core] = device.id
