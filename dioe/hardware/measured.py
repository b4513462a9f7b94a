"""What `dioe calibrate` found, over what is known of a pool and over what is written in its file.

Figures of an earlier calibration of the same backends go; all else stays, what a person wrote above
all: links and boundaries that aren't from a calibration are never replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from dioe.hardware import catalogue
from dioe.hardware.descriptor import BackendFigures, Figures
from dioe.hardware.figures import Figure
from dioe.hardware.pool_file import FileLink, PoolFile
from dioe.hardware.pools import (
    Hardware,
    load_pool,
    plain,
    plain_figures,
    save_pool,
    write_pool_data,
)
from dioe.hardware.schema_errors import first_of, parse_or_errors
from dioe.hardware.spec import BoundaryCost, DeviceSpec, Link, Pool
from dioe.yaml_text import read_document

SOURCE = "dioe calibrate "
"""How the source of every figure of a calibration begins."""

_Item = TypeVar("_Item", Link, BoundaryCost)


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures by device id, the backends (by device id) that were looked at to find them, and what
    lies between devices and between backends. ``devices`` are those that a pool may not have."""

    figures: Mapping[str, Figures]
    backends: Mapping[str, Collection[str]]
    links: Sequence[Link] = ()
    boundaries: Sequence[BoundaryCost] = ()
    devices: Sequence[DeviceSpec] = field(default=())

    def over(self, pool: Pool) -> Pool:
        """The pool with these figures."""
        known = {device.id for device in pool.devices}
        devices = [*pool.devices, *(d for d in self.devices if d.id not in known)]
        return replace(
            pool,
            devices=tuple(replace(d, figures=self.figures_over(d.id, d.figures)) for d in devices),
            links=tuple(_merged(pool.links, self.links)),
            boundaries=tuple(_merged(pool.boundaries, self.boundaries)),
        )

    def figures_over(self, device: str, earlier: Figures) -> Figures:
        """The figures of a device, those of an earlier calibration of these backends left out."""
        left = without_calibration(earlier, self.backends.get(device, ()))
        found = self.figures.get(device, Figures())
        # where nothing was learned anew, what was learned before holds
        again = {factor.backend for factor in found.op_factors}
        kept = [f for f in left.op_factors if not (f.backend in again and is_calibrated(f))]
        left = left.model_copy(update={"op_factors": tuple(kept)})
        return found.over(left)


def is_calibrated(figure: Figure | None) -> bool:
    """Whether a figure is a calibration's."""
    return figure is not None and figure.source.startswith(SOURCE)


def without_calibration(figures: Figures, backends: Collection[str]) -> Figures:
    """The figures but for those that a calibration found through these backends."""
    peaks = [p for p in figures.peaks if not (p.backend in backends and is_calibrated(p))]
    parts = [_stripped(part) if part.backend in backends else part for part in figures.by_backend]
    return figures.model_copy(
        update={
            "peaks": tuple(peaks),
            "by_backend": tuple(p for p in parts if p != BackendFigures(backend=p.backend)),
        }
    )


def _stripped(part: BackendFigures) -> BackendFigures:
    single = ("launch_overhead", "dispatch_overhead", "bandwidth")
    gone: dict[str, Any] = {n: None for n in single if is_calibrated(getattr(part, n))}
    gone["by_working_set"] = tuple(f for f in part.by_working_set if not is_calibrated(f))
    return part.model_copy(update=gone)


def _merged(earlier: Sequence[_Item], new: Sequence[_Item]) -> Iterator[_Item]:
    """The earlier ones, those of a calibration replaced, and the new ones that weren't there."""
    found = {(item.source, item.destination): item for item in new}
    for item in earlier:
        own = found.pop((item.source, item.destination), None)
        yield own if own is not None and _replaceable(item) else item
    yield from found.values()


def _replaceable(item: Link | BoundaryCost) -> bool:
    return is_calibrated(item.fixed if isinstance(item, BoundaryCost) else item.bandwidth)


def write_measured(
    measured: Measured, pool: Pool, path: str | PathLike[str], hardware: Hardware = None
) -> None:
    """Write ``pool`` with what was measured; where it was read from a file (``hardware``), that
    file's contents as they are written there, comments left out, with what was measured.

    In another folder what the file includes and the descriptors beside it can't be named any more:
    there all of it is written out. Raises ConfigError.
    """
    file = _file_of(hardware)
    if file is None:
        save_pool(measured.over(pool), path)
    elif file.resolve().parent == Path(path).resolve().parent:
        write_pool_data(_updated(measured, pool, file), path)
    else:
        merged = measured.over(load_pool(file))
        beside = [replace(d, device="") if _is_file(d.device) else d for d in merged.devices]
        save_pool(replace(merged, devices=tuple(beside)), path)


def _file_of(hardware: Hardware) -> Path | None:
    if hardware is None or isinstance(hardware, Pool):
        return None
    shipped = catalogue.path_of(str(hardware), catalogue.POOLS)
    return Path(hardware) if shipped is None or Path(hardware).exists() else shipped


def _is_file(descriptor: str) -> bool:
    return descriptor.endswith((".yaml", ".yml"))


def _updated(measured: Measured, pool: Pool, path: Path) -> dict[str, Any]:
    """What a file holds, with what was measured."""
    document = read_document(path)
    file = parse_or_errors(document, PoolFile)
    if isinstance(file, list):
        raise first_of(file)
    data = copy.deepcopy(document.data)
    merged = measured.over(pool)
    devices = data.setdefault("devices", [])
    for i, device in enumerate(file.devices):
        if device.id in measured.figures:
            devices[i]["figures"] = plain_figures(measured.figures_over(device.id, device.figures))
    written = {device.id for device in file.devices}
    included = {device.id for device in pool.devices}
    for name, figures in measured.figures.items():
        if name in written:
            continue
        if name in included:  # from a file that this one includes: it is changed by its id
            devices.append({"id": name, "figures": plain_figures(figures)})
        else:
            devices.append(plain(merged.device(name)))
    # what the pool has from files that this one includes counts as well
    links = _new(measured.links, pool.links)
    gone = {(link.source, link.destination) for link in links}
    written_links = zip(file.links, data.get("links") or [], strict=True)
    data["links"] = [
        *(row for link, row in written_links if not _ways(link) & gone),
        *map(plain, links),
    ]
    boundaries = _new(measured.boundaries, pool.boundaries)
    gone = {(boundary.source, boundary.destination) for boundary in boundaries}
    written_costs = zip(file.boundaries, data.get("boundaries") or [], strict=True)
    data["boundaries"] = [
        *(row for b, row in written_costs if (b.source, b.destination) not in gone),
        *map(plain, boundaries),
    ]
    for section in ("links", "boundaries"):
        if not data[section] and section not in document.data:
            del data[section]
    return data


def _new(measured: Sequence[_Item], known: Sequence[_Item]) -> list[_Item]:
    """What was measured, but for what is known otherwise than from a calibration."""
    kept = {(each.source, each.destination) for each in known if not _replaceable(each)}
    return [each for each in measured if (each.source, each.destination) not in kept]


def _ways(link: FileLink) -> set[tuple[str, str]]:
    return {(one.source, one.destination) for one in link.links()}
