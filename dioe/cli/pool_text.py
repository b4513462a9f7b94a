"""Pools and the catalogue as tables: devices with their figures, links, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dioe.cli.terminal import new_table
from dioe.text import printable
from dioe.types import ConfigError

if TYPE_CHECKING:
    from dioe.hardware import DeviceSpec, Link, Pool
    from dioe.hardware.figures import PowerFigure, TimeFigure
    from dioe.hardware.reached import Reached

_NO_BREAK = "\u00a0"


def print_pool(out: Console, pool: Pool, title: str) -> None:
    """The pool's devices with their figures, and below them what else it says."""
    out.print(_devices_table(pool.devices, f"{title}: {pool.name}" if pool.name else title))
    if any(
        rate.measured for d in pool.devices for rate in (*_peaks(d).values(), _bandwidth(d)) if rate
    ):
        _line(out, "* measured")
    for device in pool.devices:
        if device.vector_extensions:
            _line(out, f"{device.id} has {' '.join(device.vector_extensions)}")
    if pool.links:
        out.print(_links_table(pool.links))
    for bus in pool.buses:
        over = [way for way, link in _ways(pool.links) if link.bus == bus.id]
        _line(
            out,
            f"bus {bus.id}{f', {bus.name}' if bus.name else ''}: {_giga(bus.bandwidth.value)} GB/s "
            f"a direction for {', '.join(over) or 'no link'} together",
        )
    limits = [*_limits(pool)]
    if limits:
        _line(out, f"limits: {'; '.join(limits)}")
    for pattern, target in pool.pins:
        _line(out, f"pin: {pattern} on {target}")


def pool_json(pool: Pool) -> dict[str, Any]:
    """The pool as ``--json`` has it: rates in operations and bytes per second."""
    return {
        "name": pool.name,
        "devices": [
            {
                "id": device.id,
                "catalogue": device.device,
                "known_as": str(device.known_as),
                "shares": device.shares,
                **_figures_json(device),
            }
            for device in pool.devices
        ],
        "links": [
            {
                "source": link.source,
                "destination": link.destination,
                "name": link.name,
                "bandwidth": link.bandwidth.value,
                "latency_s": _value(link.latency),
                "bus": link.bus,
            }
            for link in pool.links
        ],
    }


def _figures_json(device: DeviceSpec) -> dict[str, Any]:
    bandwidth = _bandwidth(device)
    return {
        "name": device.name,
        "memory_bytes": device.memory_bytes,
        "peaks": {precision: rate.per_s for precision, rate in _peaks(device).items()},
        "bandwidth": None if bandwidth is None else bandwidth.per_s,
        "tdp_w": _value(device.figures.power.tdp),
    }


def print_catalogue(out: Console) -> None:
    """What comes with DIOE: the descriptors with their figures, and the pools."""
    devices, pools, broken = _shipped()
    out.print(_devices_table(devices, "Devices, for pool files", shipped=True))
    listed = new_table("Pools, for --hardware")
    listed.add_column("name", no_wrap=True)
    listed.add_column("what it is", overflow="fold")
    listed.add_column("devices", overflow="fold")
    for name, pool in pools.items():
        listed.add_row(
            name, escape(printable(pool.name)), ", ".join(device.id for device in pool.devices)
        )
    out.print(listed)
    for cause in broken:
        _line(out, cause)


def catalogue_json() -> dict[str, Any]:
    """What comes with DIOE, as ``--json`` has it."""
    devices, pools, broken = _shipped()
    return {
        "devices": [
            {"id": device.device, "kind": device.kind, **_figures_json(device)}
            for device in devices
        ],
        "pools": {name: pool_json(pool) for name, pool in pools.items()},
        "broken": broken,
    }


def _shipped() -> tuple[list[DeviceSpec], dict[str, Pool], list[str]]:
    """Every descriptor as a device, every pool by name, and what is wrong with damaged files."""
    from dioe.hardware import DeviceSpec, catalogue, pool_from

    devices: list[DeviceSpec] = []
    pools: dict[str, Pool] = {}
    broken = []
    for name in catalogue.names(catalogue.DEVICES):
        try:
            known = catalogue.descriptor(name)
        except ConfigError as error:
            broken.append(f"{error.place}: {error.cause}")
        else:
            size = known.figures.memory.size
            devices.append(
                DeviceSpec(
                    id=known.kind, name=known.name, device=known.id, figures=known.figures,
                    memory_bytes=None if size is None else size.value,
                )
            )  # fmt: skip
    for name in catalogue.names(catalogue.POOLS):
        try:
            pools[name] = pool_from(catalogue.path_of(name, catalogue.POOLS))
        except ConfigError as error:
            broken.append(f"{error.place}: {error.cause}")
    return devices, pools, broken


def _devices_table(devices: Sequence[DeviceSpec], title: str, *, shipped: bool = False) -> Table:
    """One row for each device; columns that none of them fills are left out."""
    columns = {
        "device": [device.device if shipped else device.id for device in devices],
        "name": [escape(printable(device.name)) for device in devices],
        "cores": ["" if d.capacity is None else f"{d.capacity:g}" for d in devices],
        "memory": [_memory(device) for device in devices],
        "GB/s": ["" if (rate := _bandwidth(d)) is None else rate.text(1e9) for d in devices],
        "peak, TOPS": [
            " ".join(f"{p}{_NO_BREAK}{rate.text(1e12)}" for p, rate in _peaks(device).items())
            for device in devices
        ],
        "W": [_short(_value(device.figures.power.tdp)) for device in devices],
        "known as": ["" if shipped else str(device.known_as) for device in devices],
    }
    table = new_table(title)
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    for name in filled:
        table.add_column(
            name,
            justify="right" if name in ("cores", "memory", "GB/s", "W") else "left",
            no_wrap=name not in ("name", "peak, TOPS"),
            overflow="fold",
        )
    for row in zip(*filled.values(), strict=True):
        table.add_row(*(cell or "-" for cell in row))
    return table


@dataclass(frozen=True, slots=True)
class _Rate:
    """Per second, of the cores that the device has; a peak, or what was measured."""

    per_s: float
    measured: bool

    def text(self, unit: float) -> str:
        return f"{_short(self.per_s / unit)}{'*' if self.measured else ''}"


def _peaks(device: DeviceSpec) -> dict[str, _Rate]:
    """The dense peak of each precision that the device's software exposes."""
    from dioe.hardware.reached import compute_rate, known_precisions

    rates = {str(p): compute_rate(device, p) for p in known_precisions(device.figures)}
    return {precision: _rate(device, rate) for precision, rate in rates.items() if rate is not None}


def _bandwidth(device: DeviceSpec) -> _Rate | None:
    from dioe.hardware.reached import memory_rate

    rate = memory_rate(device)
    return None if rate is None else _rate(device, rate)


def _rate(device: DeviceSpec, reached: Reached) -> _Rate:
    """Without the share of a peak that is reached."""
    from dioe.hardware.reached import part_of_cores

    whole = reached.per_s / reached.share
    return _Rate(whole if reached.measured else whole * part_of_cores(device), reached.measured)


def _memory(device: DeviceSpec) -> str:
    if device.shares is not None:
        return f"of {device.shares}"
    size = device.memory_bytes
    return "" if size is None else f"{size / 2**30:.1f} GiB"


def _links_table(links: Sequence[Link]) -> Table:
    table = new_table("Links")
    for heading in ("link", "name"):
        table.add_column(heading, overflow="fold")
    for heading in ("GB/s a direction", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bus")
    for way, link in _ways(links):
        latency = "-" if link.latency is None else f"{link.latency.value * 1e6:g} µs"
        table.add_row(
            way, escape(printable(link.name)) or "-", _giga(link.bandwidth.value), latency,
            escape(printable(link.bus)) or "-",
        )  # fmt: skip
    return table


def _ways(links: Sequence[Link]) -> Iterator[tuple[str, Link]]:
    """Each link with its ends in words; two equal ones in opposite directions as one."""
    shown: set[tuple[str, str]] = set()
    for link in links:
        back = replace(link, source=link.destination, destination=link.source)
        if (link.destination, link.source) in shown and back in links:
            continue
        shown.add((link.source, link.destination))
        yield f"{link.source} {'<->' if back in links else '->'} {link.destination}", link


def _limits(pool: Pool) -> Iterator[str]:
    from dioe.hardware.limits import EVERY_DEVICE

    for device, size in pool.limits.memory_bytes.items():
        yield f"{device} {size / 2**30:.1f} GiB"
    for device, precisions in pool.limits.forbidden.items():
        who = "no device" if device == EVERY_DEVICE else f"{device} not"
        yield f"{who} in {', '.join(sorted(precisions))}"
    if pool.limits.max_stages is not None:
        yield f"at most {pool.limits.max_stages} stages"
    if pool.limits.power_w is not None:
        yield f"{pool.limits.power_w:g} W together"


def _value(figure: TimeFigure | PowerFigure | None) -> float | None:
    return None if figure is None else figure.value


def _giga(per_s: float | None) -> str:
    return "" if per_s is None else _short(per_s / 1e9)


def _short(value: float | None) -> str:
    """Three digits, or all before the point."""
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(out: Console, text: str) -> None:
    out.print(printable(text), markup=False)
