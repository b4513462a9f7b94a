"""What a calibration found, as figures of a pool: each with where it comes from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from dioe.hardware import Pool
from dioe.hardware.descriptor import BackendFigures, Figures, WorkingSetBandwidth
from dioe.hardware.figures import Arithmetic, BandwidthFigure, FigureKind, Peak, TimeFigure
from dioe.hardware.measured import SOURCE, Measured
from dioe.hardware.spec import BoundaryCost, DeviceSpec, Link
from dioe.profiling.calibration import Findings, Reading
from dioe.profiling.calibration_boundaries import BoundaryReading
from dioe.profiling.copies import CopyCosts
from dioe.runtime import Runtime, is_host
from dioe.types import KnownAs

_LEAST_S_PER_BYTE = 1e-12
"""A value that is handed over faster than at 1 TB/s wasn't touched: the rest is noise."""

_DIGITS = 4
"""Significant ones of a figure: the rest is noise."""


@dataclass(frozen=True, slots=True)
class Row:
    """One backend on one device: what was found, and the reasons of what was not.

    ``reason`` says why nothing was measured at all; ``backend`` is empty where a pool has a device
    that isn't here.
    """

    device: str
    backend: str
    version: str
    known_as: KnownAs
    findings: Findings
    reason: str = ""

    @property
    def name(self) -> str:
        """``cpu/openvino``."""
        return f"{self.device}/{self.backend}" if self.backend else self.device


def measured_by(
    rows: Sequence[Row], boundaries: Sequence[BoundaryReading], pool: Pool, runtime: Runtime
) -> Measured:
    """What was found of a pool's devices through each backend, and between backends."""
    figures: dict[str, Figures] = {}
    backends: dict[str, list[str]] = {}
    links: dict[tuple[str, str], Link] = {}
    host = next((device.id for device in pool.devices if is_host(device.id)), None)
    for row in rows:
        if row.reason:
            continue
        backends.setdefault(row.device, []).append(row.backend)
        figures[row.device] = figures.get(row.device, Figures()).over(_figures(row))
        if row.findings.copies is not None and host is not None:
            for link in _links(row, row.findings.copies, host):
                way = (link.source, link.destination)
                best = links.get(way)
                if best is None or link.bandwidth.value > best.bandwidth.value:
                    links[way] = link
    versions = {row.name: f"{row.backend} {row.version}" for row in rows}
    devices = [
        DeviceSpec(
            id=info.id, kind=info.kind, name=info.name, known_as=info.known_as,
            memory_bytes=info.memory_bytes,
        )
        for info in (runtime.registry.placement(name).device for name in figures)
    ]  # fmt: skip
    costs = [_boundary(reading, versions) for reading in boundaries]
    return Measured(figures, backends, list(links.values()), costs, devices)


def _figures(row: Row) -> Figures:
    found = row.findings
    peaks = tuple(
        Peak(
            precision=Arithmetic(precision), value=_rounded(reading.value), backend=row.backend,
            **_told(row, reading),
        )
        for precision, reading in found.peaks.items()
    )  # fmt: skip
    by_size = sorted(found.bandwidths.items())
    beyond = found.memory_bandwidth
    part = BackendFigures(
        backend=row.backend,
        launch_overhead=_time(row, found.launch),
        dispatch_overhead=_time(row, found.dispatch),
        bandwidth=None if beyond is None else _bandwidth(row, beyond),
        by_working_set=tuple(
            WorkingSetBandwidth(
                working_set=nbytes, value=_rounded(reading.value), **_told(row, reading)
            )
            for nbytes, reading in by_size
            if nbytes != found.largest_set
        ),
    )
    empty = part == BackendFigures(backend=row.backend)
    return Figures(peaks=peaks, by_backend=() if empty else (part,))


def _bandwidth(row: Row, reading: Reading) -> BandwidthFigure:
    return BandwidthFigure(value=_rounded(reading.value), **_told(row, reading))


def _time(row: Row, reading: Reading | None) -> TimeFigure | None:
    if reading is None:
        return None
    return TimeFigure(value=_rounded(reading.value), **_told(row, reading))


def _links(row: Row, copies: CopyCosts, host: str) -> list[Link]:
    """Both ways between the host's memory and a device's."""
    ways = (
        (host, row.device, copies.to_fixed_ms, copies.to_ms_per_byte),
        (row.device, host, copies.from_fixed_ms, copies.from_ms_per_byte),
    )
    source = f"{source_of(f'{row.backend} {row.version}')}, fastest of 4 copies"
    told: dict[str, Any] = {
        "source": source, "kind": FigureKind.MEASURED, "note": _stand_in(row.known_as)
    }  # fmt: skip
    return [
        Link(
            source=start, destination=end,
            bandwidth=BandwidthFigure(value=_rounded(1e3 / per_byte_ms), **told),
            latency=TimeFigure(value=_rounded(fixed_ms / 1e3), **told),
        )
        for start, end, fixed_ms, per_byte_ms in ways
        if per_byte_ms > 0
    ]  # fmt: skip


def _boundary(reading: BoundaryReading, versions: Mapping[str, str]) -> BoundaryCost:
    both = f"{versions[reading.source]} to {versions[reading.destination]}"
    told: dict[str, Any] = {
        "source": f"{source_of(both)}, median of {reading.fixed.rounds} rounds",
        "kind": FigureKind.MEASURED,
        "note": "noisy" if reading.fixed.noisy else "",
    }
    moved = reading.s_per_byte if reading.s_per_byte > _LEAST_S_PER_BYTE else 0.0
    return BoundaryCost(
        source=reading.source,
        destination=reading.destination,
        fixed=TimeFigure(value=_rounded(reading.fixed.value), **told),
        bandwidth=BandwidthFigure(value=_rounded(1 / moved), **told) if moved > 0 else None,
    )


def _told(row: Row, reading: Reading) -> dict[str, Any]:
    """Source, kind and note of a figure."""
    rounds = f"median of {reading.rounds} round{'s' * (reading.rounds != 1)}"
    notes = [_stand_in(row.known_as), reading.note, "noisy" if reading.noisy else ""]
    return {
        "source": f"{source_of(f'{row.backend} {row.version}')}, {rounds}",
        "kind": FigureKind.MEASURED,
        "note": ", ".join(filter(None, notes)),
    }


def source_of(what: str) -> str:
    """The source of a figure that ``what`` (a backend and its version) was measured through."""
    return f"{SOURCE}{_version()}, {what}, {datetime.date.today().isoformat()}"


def _version() -> str:
    try:
        return metadata.version("dioe")
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return "0+unknown"


def _stand_in(known_as: KnownAs) -> str:
    return "" if known_as is KnownAs.HARDWARE else str(known_as)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def row_data(row: Row) -> dict[str, Any]:
    """A row as plain data: rates per second, bytes, seconds."""
    found = row.findings

    def reading(each: Reading | None) -> dict[str, Any] | None:
        if each is None:
            return None
        data = {"value": each.value, "rounds": each.rounds, "noisy": each.noisy}
        return data | ({"note": each.note} if each.note else {})

    return {
        "device": row.device,
        "backend": row.backend,
        "version": row.version,
        "known_as": str(row.known_as),
        "reason": row.reason,
        "peaks_per_s": {str(p): reading(each) for p, each in found.peaks.items()},
        "launch_s": reading(found.launch),
        "dispatch_s": reading(found.dispatch),
        "bandwidths_per_s": {
            str(nbytes): reading(each) for nbytes, each in sorted(found.bandwidths.items())
        },
        "problems": dict(found.problems),
    }
