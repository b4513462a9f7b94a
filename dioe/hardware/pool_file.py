"""Pool files: their schema, files that include others, devices that name a descriptor.

Nothing in a file can name code or a library. An included file gives devices, links, buses, pins and
limits; what the including file says of the same ones wins. Errors have the place in the file that
they are in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from dioe.hardware import catalogue
from dioe.hardware.descriptor import DeviceDescriptor, load_descriptor
from dioe.hardware.figures import Closed, Figure
from dioe.hardware.limits import Limits, LimitsSection
from dioe.hardware.schema_errors import first_of, parse_or_errors
from dioe.hardware.spec import (
    BoundaryCost,
    Bus,
    DeviceSpec,
    Link,
    Pool,
    TargetBeginning,
    contradictions,
)
from dioe.types import ConfigError, KnownAs
from dioe.yaml_text import Document, KeyPath, read_document

FORMAT = "dioe-pool"

MAX_DEPTH = 8
MAX_FILES = 64
"""Limits on files that include each other: how deep, and how many in all."""

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class FileLink(Link):
    """A link as it is written in a file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    both_ways: bool = False
    """Whether there is an equal one in the other direction."""

    def links(self) -> tuple[Link, ...]:
        """The links that this stands for."""
        there = Link(
            self.source, self.destination, self.bandwidth, self.latency, self.bus, self.name
        )
        back = replace(there, source=self.destination, destination=self.source)
        return (there, back) if self.both_ways else (there,)


class PoolFile(Closed):
    """A system: its devices, the links between them, and what plans on it have to keep."""

    format: Literal["dioe-pool"] = "dioe-pool"
    """What sort of file this is."""
    version: Literal[1] = 1
    """Of the format."""
    name: str = Field(default="", max_length=200)
    """What people call the system."""
    include: tuple[str, ...] = ()
    """Pool files beside this one whose entries it takes over; its own win."""
    devices: tuple[DeviceSpec, ...] = ()
    """Devices; those of included files are changed by naming their id."""
    links: tuple[FileLink, ...] = ()
    """Links between devices."""
    buses: tuple[Bus, ...] = ()
    """What links share."""
    boundaries: tuple[BoundaryCost, ...] = ()
    """What it costs that a stage hands a value to one of another backend."""
    pins: dict[Annotated[str, Field(min_length=1)], TargetBeginning] = Field(default_factory=dict)
    """Patterns of op names (or `type:Conv`), and the device or target that those ops run on."""
    limits: LimitsSection = LimitsSection()
    """What plans may use at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written."""

    document: Document
    path: KeyPath

    def __str__(self) -> str:
        return self.document.place(self.path)

    def below(self, *more: str | int) -> Place:
        """The place of what is at ``more`` in what is here."""
        return Place(self.document, (*self.path, *more))

    def error(self, cause: str, fix: str, *more: str | int) -> ConfigError:
        """An error about what is here, or below it."""
        return ConfigError(cause, place=str(self.below(*more)), fix=fix)


@dataclass(slots=True)
class PoolParts:
    """A pool being put together, with the place of each part."""

    name: str = ""
    device_by_id: dict[str, tuple[DeviceSpec, Place]] = field(default_factory=dict)
    link_by_way: dict[tuple[str, str], tuple[Link, Place]] = field(default_factory=dict)
    bus_by_id: dict[str, tuple[Bus, Place]] = field(default_factory=dict)
    boundary_by_pair: dict[tuple[str, str], tuple[BoundaryCost, Place]] = field(
        default_factory=dict
    )
    pins: dict[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    limits_place: Place | None = None
    figures: list[tuple[Figure, Place]] = field(default_factory=list)
    """Every figure in a pool file, where it is written; merged parts hold the same objects."""
    complete: bool = True
    """Whether every file could be read."""

    @property
    def devices(self) -> Sequence[DeviceSpec]:
        return [device for device, _ in self.device_by_id.values()]

    @property
    def links(self) -> Sequence[Link]:
        return [link for link, _ in self.link_by_way.values()]

    @property
    def buses(self) -> Sequence[Bus]:
        return [bus for bus, _ in self.bus_by_id.values()]

    @property
    def boundaries(self) -> Sequence[BoundaryCost]:
        return [boundary for boundary, _ in self.boundary_by_pair.values()]

    def place(self, path: KeyPath) -> Place | None:
        """Where the part that a path in this pool leads to is written."""
        if path[:1] == ("limits",) and self.limits_place is not None:
            return replace(self.limits_place, path=path)
        section, index = (*path, None, None)[:2]
        if not isinstance(index, int):
            return None
        places = {
            "devices": [place for _, place in self.device_by_id.values()],
            "links": [place for _, place in self.link_by_way.values()],
            "buses": [place for _, place in self.bus_by_id.values()],
            "boundaries": [place for _, place in self.boundary_by_pair.values()],
        }[str(section)]
        return places[index].below(*path[2:])


def read_pool(document: Document) -> Pool:
    """The pool in a document, what it includes read too. Raises ConfigError with
    ``file:line:column`` and a fix."""
    parts = PoolParts()
    _Reader(parts).read(document, ())
    for error in _contradictions(parts, document):
        raise error
    return Pool(
        tuple(parts.devices), tuple(parts.links), tuple(parts.pins.items()), tuple(parts.buses),
        parts.limits, parts.name, tuple(parts.boundaries),
    )  # fmt: skip


def gather_pool(document: Document) -> tuple[PoolParts, list[ConfigError]]:
    """What a document and those that it includes say, and all that is wrong with it.

    Contradictions are looked for where every file could be read; else what isn't there might be in
    a file that is damaged.
    """
    parts = PoolParts()
    errors: list[ConfigError] = []
    _Reader(parts, errors).read(document, ())
    if parts.complete:
        errors += _contradictions(parts, document)
    return parts, errors


def _contradictions(parts: PoolParts, document: Document) -> Iterator[ConfigError]:
    for path, problem, fix in contradictions(parts):
        place = parts.place(path) or Place(document, path)
        yield place.error(problem, fix)


class _Reader:
    """Reads a file and those that it includes into one pool.

    What is wrong is raised, or goes into ``errors`` where that is given.
    """

    def __init__(self, parts: PoolParts, errors: list[ConfigError] | None = None) -> None:
        self._parts = parts
        self._errors = errors
        self._files = 0

    def read(self, document: Document, chain: tuple[Path, ...]) -> None:
        here = _real(Path(document.file))
        file = parse_or_errors(document, PoolFile)
        if isinstance(file, list):
            self._parts.complete = False
            self._wrong(file)
            return
        for index, name in enumerate(file.include):
            place = Place(document, ("include", index))
            try:
                included = self._included(name, place, (*chain, here))
            except ConfigError as error:
                self._parts.complete = False
                self._wrong([error])
            else:
                self.read(included, (*chain, here))
        self._take(file, document)

    def _wrong(self, errors: Sequence[ConfigError]) -> None:
        if self._errors is None:
            raise first_of(errors)
        self._errors += errors

    def _twice(self, what: str, place: Place) -> None:
        self._wrong([place.error(f"a second {what}", "leave one out, or name it otherwise")])

    def _included(self, name: str, place: Place, chain: tuple[Path, ...]) -> Document:
        path = _beside(name, place)
        if (real := _real(path)) in chain:
            ring = " -> ".join(p.name for p in (*chain[chain.index(real) :], path))
            raise place.error(f"the files include each other: {ring}", "take one of them out")
        self._files += 1
        if len(chain) > MAX_DEPTH or self._files > MAX_FILES:
            raise place.error(
                f"files include each other more than {MAX_DEPTH} deep, or more than {MAX_FILES}",
                "write the pool with fewer files",
            )
        return read_document(_existing(path, name, place))

    def _take(self, file: PoolFile, document: Document) -> None:
        parts = self._parts
        parts.name = file.name or parts.name
        self._take_devices(file, document)
        self._take_links(file, document)
        buses: set[str] = set()
        for index, bus in enumerate(file.buses):
            place = Place(document, ("buses", index))
            if bus.id in buses:
                self._twice(f"bus has the id {bus.id!r}", place.below("id"))
                continue
            buses.add(bus.id)
            parts.bus_by_id[bus.id] = (bus, place)
            parts.figures.append((bus.bandwidth, place.below("bandwidth")))
        pairs: set[tuple[str, str]] = set()
        for index, boundary in enumerate(file.boundaries):
            place = Place(document, ("boundaries", index))
            pair = (boundary.source, boundary.destination)
            if pair in pairs:
                self._twice(f"boundary from {pair[0]!r} to {pair[1]!r}", place.below("source"))
                continue
            pairs.add(pair)
            parts.boundary_by_pair[pair] = (boundary, place)
            for name in ("fixed", "bandwidth"):
                if (figure := getattr(boundary, name)) is not None:
                    parts.figures.append((figure, place.below(name)))
        parts.pins = {**file.pins, **{p: t for p, t in parts.pins.items() if p not in file.pins}}
        if file.limits != LimitsSection():
            parts.limits = file.limits.limits().over(parts.limits)
            parts.limits_place = Place(document, ("limits",))

    def _take_devices(self, file: PoolFile, document: Document) -> None:
        parts = self._parts
        seen: set[str] = set()
        for index, device in enumerate(file.devices):
            place = Place(document, ("devices", index))
            if device.id in seen:
                self._twice(f"device has the id {device.id!r}", place.below("id"))
                continue
            seen.add(device.id)
            parts.figures += [
                (figure, place.below("figures", *path))
                for path, figure in device.figures.all_figures()
            ]
            written = document.data["devices"][index]
            earlier = parts.device_by_id.get(device.id)
            merged = device if earlier is None else _changed(earlier[0], device, written)
            try:
                # what an included file names is beside that one, and is in the device already
                named = earlier is None or "device" in written
                merged = _described(merged, written, place) if named else _sized(merged)
            except ConfigError as error:
                self._wrong([error])
            parts.device_by_id[device.id] = (merged, place)

    def _take_links(self, file: PoolFile, document: Document) -> None:
        parts = self._parts
        ways: set[tuple[str, str]] = set()
        for index, link in enumerate(file.links):
            place = Place(document, ("links", index))
            parts.figures.append((link.bandwidth, place.below("bandwidth")))
            if link.latency is not None:
                parts.figures.append((link.latency, place.below("latency")))
            for one in link.links():
                way = (one.source, one.destination)
                if way in ways:
                    self._twice(f"link goes from {way[0]!r} to {way[1]!r}", place.below("source"))
                    break
                ways.add(way)
                parts.link_by_way[way] = (one, place)


def _changed(earlier: DeviceSpec, device: DeviceSpec, written: Mapping[str, object]) -> DeviceSpec:
    """A device of an included file, with what the including one writes of it."""
    new = {name: getattr(device, name) for name in written if name != "figures"}
    if "device" in new and new["device"] != earlier.device:
        return device  # another descriptor: nothing of the earlier one holds
    size = earlier.figures.memory.size
    if size is not None and earlier.memory_bytes == size.value:  # it was told by that alone
        new.setdefault("memory_bytes", None)
    return replace(earlier, **new, figures=device.figures.over(earlier.figures))


def _described(device: DeviceSpec, written: Mapping[str, object], place: Place) -> DeviceSpec:
    """The device with what the descriptor that it names says of it."""
    if not device.device:
        found = device.figures
    else:
        descriptor = find_descriptor(device.device, place)
        if descriptor.kind != device.kind:
            raise place.error(
                f"{device.device!r} is a {descriptor.kind}, not a {device.kind}",
                f"call the device {descriptor.kind}:0, or name another descriptor",
                "device" if "device" in written else "id",
            )
        found = device.figures.over(descriptor.figures)
        if device.known_as is KnownAs.HARDWARE:  # as it was found: costs are kept by what it is
            return replace(device, figures=found)
        device = replace(
            device,
            name=device.name or descriptor.name,
            architecture=device.architecture or descriptor.architecture,
        )
    return _sized(replace(device, figures=found))


def _sized(device: DeviceSpec) -> DeviceSpec:
    """The device with the memory that its figures tell, where nothing else does."""
    size = device.figures.memory.size
    if size is None or device.memory_bytes is not None or device.known_as is KnownAs.HARDWARE:
        return device
    return replace(device, memory_bytes=size.value)


def find_descriptor(name: str, place: Place) -> DeviceDescriptor:
    """The descriptor that a pool names: a file beside it, or one of the catalogue."""
    if name.endswith(_SUFFIXES):
        return load_descriptor(_existing(_beside(name, place), name, place.below("device")))
    try:
        return catalogue.descriptor(name)
    except ConfigError as error:
        if error.place:  # a damaged descriptor, at its own place
            raise
        raise place.error(error.cause, error.fix, "device") from None


def _beside(name: str, place: Place) -> Path:
    """The file of that name beside the one it is written in."""
    if Path(name).is_absolute() or not name.endswith(_SUFFIXES) or "\0" in name:
        raise place.error(
            f"{name!r:.80} is no YAML file beside this one",
            "name one by its relative path, such as ./base.yaml",
        )
    return Path(place.document.file).parent / name


def _existing(path: Path, name: str, place: Place) -> Path:
    """The path, where there is a file of that name."""
    try:
        there = path.is_file()
    except OSError:  # a name too long: no file has it
        there = False
    if not there:
        raise place.error(f"no such file: {name:.80}", "check the path")
    return path


def _real(path: Path) -> Path:
    """The file that links lead to. Links in a circle lead to themselves, and to no file:
    ``Path.resolve`` raises there."""
    return Path(os.path.realpath(path))
