"""Lint of figures: what can't be so, and what is rarely so.

Rules look at the figures of one device, those of its descriptor included. Each finding stands at
the figure that is written in the file that is judged: what a descriptor says is its own file's
affair. A false alarm costs more than a gap, so measured figures, which are facts however odd, are
left alone where a rule only compares.

===================== ======== ==================================================================
rule                  severity what it finds
===================== ======== ==================================================================
source                error    a source that names none: todo, unknown, ?
unverified            warning  a figure of kind unverified
plausible             warning  a figure far beyond what has been built
sparse                error    a dense peak that equals, or passes, a figure with sparsity
double                warning  a peak twice the catalogue's dense one of the same device
precision-order       warning  int8 below fp16, bf16 or fp32; fp16 or bf16 below fp32
mode                  error    a peak in a power mode that the device doesn't have
power                 error    idle at or above TDP; the cap of a power mode above TDP
precision             warning  a peak, or a precision of the software, that the chip doesn't have
precision-source      warning  precisions without a source
standard              error    a link faster than the standard in its name
name                  error    a file of the catalogue that isn't called as its device's id
===================== ======== ==================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from dioe.hardware import catalogue
from dioe.hardware.descriptor import DeviceDescriptor, Figures
from dioe.hardware.figures import (
    Arithmetic,
    BandwidthFigure,
    Figure,
    FigureKind,
    Peak,
    rate_text,
)
from dioe.hardware.findings import Finding, Severity
from dioe.hardware.quantities import BANDWIDTH, POWER, RATE, SIZE, TIME, Unit
from dioe.hardware.schema_errors import dotted
from dioe.hardware.standards import named_bandwidth
from dioe.yaml_text import Document, KeyPath

ROUNDING = 0.02
"""Figures on pages are rounded: PCIe 4.0 x16 is 31.5 GB/s, and 32 on most of them."""

SAME = 0.01
"""Two figures that differ by less are one: H100's 989.4 and 989 TFLOPS."""

_PLACEHOLDER = re.compile(
    r"[\W_]*(todo|tbd|fixme|xxx|unknown|none|null|n/a|na|somewhere|source|url|link|internet|google"
    r"|guess(ed)?|estimated?|assum(ed|ption)|(todo|tbd|fixme)\b.*)?[\W_]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding before its place is known: it goes to the first of ``at`` that is in the files that
    are judged, a figure or the path of another value; ``key`` is that of the figure meant."""

    severity: Severity
    rule: str
    at: tuple[Figure | KeyPath, ...]
    cause: str
    fix: str
    key: str = "value"


class Places(Protocol):
    """Where what a rule speaks of is written; None where that is in another file."""

    def figure(self, figure: Figure, key: str) -> str | None: ...
    def path(self, path: KeyPath) -> str | None: ...


def placed(remarks: Iterable[Remark], places: Places) -> Iterator[Finding]:
    """The remarks that concern the files that are judged, each with its place."""
    for remark in remarks:
        for at in remark.at:
            place = places.figure(at, remark.key) if isinstance(at, Figure) else places.path(at)
            if place is not None:
                yield Finding(remark.severity, remark.rule, place, remark.cause, remark.fix)
                break


def lint_descriptor(descriptor: DeviceDescriptor, document: Document) -> Iterator[Finding]:
    """What looks wrong in a descriptor, which the document holds."""
    places = _InDocument(descriptor, document)
    file = Path(document.file)
    twins = [
        known
        for known in _catalogue()
        if _same_device(known, descriptor) and not _is_file_of(known, file)
    ]
    yield from placed(figure_remarks(descriptor, descriptor.kind, twins), places)
    in_catalogue = file.resolve().parent == catalogue.folder(catalogue.DEVICES).resolve()
    if in_catalogue and file.stem != descriptor.id:
        yield Finding(
            Severity.ERROR, "name", document.place(("id",)),
            f"the id is {descriptor.id!r}, and the file is called {file.name!r}",
            f"call the file {descriptor.id}.yaml: the catalogue finds devices by their files",
        )  # fmt: skip


class _InDocument:
    """Places of a descriptor's figures."""

    def __init__(self, descriptor: DeviceDescriptor, document: Document) -> None:
        self._document = document
        self._path_by_id = {id(figure): path for path, figure in descriptor.all_figures()}

    def figure(self, figure: Figure, key: str) -> str | None:
        path = self._path_by_id.get(id(figure))
        return None if path is None else self._document.place((*path, key))

    def path(self, path: KeyPath) -> str | None:
        return self._document.place(path)


def twins_of(name: str, kind: str, descriptor: str) -> list[DeviceDescriptor]:
    """Descriptors of the catalogue that are about a device of a pool: the one that it names, else
    those that drivers report by its name."""
    known = _catalogue()
    if descriptor:
        return [found for found in known if found.id == descriptor]
    return [found for found in known if found.kind == kind and _called(found, name)]


def _catalogue() -> Iterator[DeviceDescriptor]:
    for name in catalogue.names():
        found = catalogue.find_descriptor(name)
        if found is not None:
            yield found


def _same_device(known: DeviceDescriptor, other: DeviceDescriptor) -> bool:
    if known.kind != other.kind:
        return False
    both = set(known.reported_as) & set(other.reported_as)
    return known.id == other.id or bool(both) or _called(known, other.name)


def _called(known: DeviceDescriptor, name: str) -> bool:
    return bool(name) and (_plain(known.name) == _plain(name) or catalogue.reports(known, name))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _is_file_of(known: DeviceDescriptor, file: Path) -> bool:
    path = catalogue.path_of(known.id)
    return path is not None and path.resolve() == file.resolve()


def figure_remarks(
    figures: Figures, kind: str, twins: Sequence[DeviceDescriptor]
) -> Iterator[Remark]:
    """What looks wrong in the figures of a device of that kind; ``twins`` are what the catalogue
    knows of it."""
    for path, figure in figures.all_figures():
        yield from source_remarks(figure, dotted(path))
        yield from _plausible(path, figure, kind)
    for rule in _RULES:
        yield from rule(figures)
    for twin in twins:
        yield from _against_the_catalogue(figures, twin)


def source_remarks(figure: Figure, name: str) -> Iterator[Remark]:
    """A figure that nobody vouches for."""
    if figure.kind is FigureKind.UNVERIFIED:
        yield Remark(
            Severity.WARNING, "unverified", (figure,), f"{name} is unverified",
            "find where it comes from, or leave it out", "kind",
        )  # fmt: skip
    elif _PLACEHOLDER.fullmatch(figure.source):
        yield Remark(
            Severity.ERROR, "source", (figure,), f"{name} has no source: {figure.source!r}",
            "name the page, the datasheet or the derivation, or write 'kind: unverified'", "source",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Range:
    """What has been built, from and to, in the unit's own."""

    unit: Unit
    low: float
    high: float


_MIB, _TIB = 1 << 20, 1 << 40
_RANGES: dict[KeyPath, Range] = {
    ("peaks",): Range(RATE, 1e8, 20e15),
    ("memory", "size"): Range(SIZE, _MIB, 4 * _TIB),
    ("memory", "bandwidth"): Range(BANDWIDTH, 0.1e9, 50e12),
    ("memory", "by_working_set"): Range(BANDWIDTH, 0.1e9, 1e15),  # caches
    ("launch_overhead",): Range(TIME, 0, 10e-3),
    ("dispatch_overhead",): Range(TIME, 0, 0.1),
    ("power", "tdp"): Range(POWER, 0.1, 3000),
    ("power", "idle"): Range(POWER, 0, 1000),
    ("power", "modes", "cap"): Range(POWER, 0.1, 3000),
    ("interconnects", "bandwidth"): Range(BANDWIDTH, 1e6, 10e12),
}
LINK_BANDWIDTH, LINK_LATENCY = Range(BANDWIDTH, 1e6, 10e12), Range(TIME, 0, 0.1)
_HOST_MEMORY = Range(SIZE, _MIB, 64 * _TIB)


def _plausible(path: KeyPath, figure: Figure, kind: str) -> Iterator[Remark]:
    keys = tuple(part for part in path if isinstance(part, str))
    within = _HOST_MEMORY if (kind, keys) == ("cpu", ("memory", "size")) else _RANGES.get(keys)
    if within is not None:
        yield from range_remarks(figure, within, dotted(path))


def range_remarks(figure: Figure, within: Range, name: str) -> Iterator[Remark]:
    """A figure beyond what has been built."""
    value: float = getattr(figure, "value", within.low)
    if figure.kind is not FigureKind.MEASURED and not within.low <= value <= within.high:
        low, high = (within.unit.write(bound) for bound in (within.low, within.high))
        yield Remark(
            Severity.WARNING, "plausible", (figure,),
            f"{name} is {shown(within.unit, value)}; no device is beyond {low} to {high}",
            "check the unit and the decimal point",
        )  # fmt: skip


def shown(unit: Unit, value: float) -> str:
    """A quantity in four digits."""
    return unit.write(int(value) if unit.whole else float(f"{value:.4g}"))


def _rate(peak: Peak) -> str:
    return rate_text(float(f"{peak.value:.4g}"), peak.precision)


def _own_sparse(figures: Figures) -> Iterator[Remark]:
    for peak in figures.peaks:
        if peak.sparse is not None and peak.value >= peak.sparse * (1 - SAME):
            what = "equals" if _same(peak.value, peak.sparse) else "is above"
            yield Remark(
                Severity.ERROR, "sparse", (peak,),
                f"the dense {peak.precision} peak {what} its own figure with sparsity",
                "write the dense one, often half of it",
            )  # fmt: skip


def _against_the_catalogue(figures: Figures, twin: DeviceDescriptor) -> Iterator[Remark]:
    for peak in figures.peaks:
        known = [other for other in twin.peaks if _comparable(peak, other)]
        if peak.kind is FigureKind.MEASURED or any(_same(peak.value, o.value) for o in known):
            continue
        for other in known:
            dense = _rate(other)
            if other.sparse is not None and _same(peak.value, other.sparse):
                yield Remark(
                    Severity.ERROR, "sparse", (peak,),
                    f"the {peak.precision} peak is the catalogue's figure with sparsity of "
                    f"{twin.id}, whose dense one is {dense}",
                    "write the dense one as value, this one as 'sparse:'",
                )  # fmt: skip
            elif _same(peak.value, 2 * other.value):
                yield Remark(
                    Severity.WARNING, "double", (peak,),
                    f"the {peak.precision} peak is twice the catalogue's dense one of {twin.id}, "
                    f"{dense}",
                    "if it is with sparsity, write the dense one and this one as 'sparse:'",
                )  # fmt: skip


def _comparable(peak: Peak, other: Peak) -> bool:
    sums = {peak.accumulator, other.accumulator} - {""}
    return (peak.precision, peak.mode) == (other.precision, other.mode) and len(sums) < 2


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME * other


_HALF = (Arithmetic.FP16, Arithmetic.BF16)
_NOT_BELOW = {
    Arithmetic.FP16: (Arithmetic.FP32,),
    Arithmetic.BF16: (Arithmetic.FP32,),
    Arithmetic.INT8: (*_HALF, Arithmetic.FP32),
}


def _precision_order(figures: Figures) -> Iterator[Remark]:
    stated = [peak for peak in figures.peaks if peak.kind is not FigureKind.MEASURED]
    for mode, backend in dict.fromkeys((peak.mode, peak.backend) for peak in stated):
        here = [peak for peak in stated if (peak.mode, peak.backend) == (mode, backend)]
        for narrow, wider in _NOT_BELOW.items():
            best = max(_of(here, narrow), key=_value, default=None)
            # with the sums that cost most: fp16 into fp16 may well be faster than int8 into int32
            others = [min(_of(here, wide), key=_value, default=None) for wide in wider]
            for other in filter(None, others):
                if best is not None and best.value < other.value * (1 - SAME):
                    yield Remark(
                        Severity.WARNING, "precision-order", (best, other),
                        f"the {narrow} peak, {_rate(best)}, is below that of "
                        f"{other.precision}, {_rate(other)}",
                        "check both; leave out a precision that the chip only emulates",
                    )  # fmt: skip
                    break


def _of(peaks: Sequence[Peak], precision: Arithmetic) -> list[Peak]:
    return [peak for peak in peaks if peak.precision is precision]


def _value(peak: Peak) -> float:
    return peak.value


def _known_modes(figures: Figures) -> Iterator[Remark]:
    modes = {mode.id for mode in figures.power.modes}
    for peak in figures.peaks:
        if peak.mode and peak.mode not in modes:
            listed = ", ".join(sorted(modes))
            yield Remark(
                Severity.ERROR, "mode", (peak,),
                f"{peak.mode!r} is no power mode of the device",
                f"its modes are: {listed}" if modes else "list it below power.modes",
                "mode",
            )  # fmt: skip


def _power(figures: Figures) -> Iterator[Remark]:
    power = figures.power
    if power.tdp is None:
        return
    tdp = shown(POWER, power.tdp.value)
    if power.idle is not None and power.idle.value >= power.tdp.value:
        yield Remark(
            Severity.ERROR, "power", (power.idle, power.tdp),
            f"idle power, {shown(POWER, power.idle.value)}, isn't below TDP, {tdp}",
            "check both",
        )  # fmt: skip
    for mode in power.modes:
        if mode.cap.value > power.tdp.value * (1 + SAME):
            yield Remark(
                Severity.ERROR, "power", (mode.cap, power.tdp),
                f"the cap of the mode {mode.id!r}, {shown(POWER, mode.cap.value)}, is above TDP, "
                f"{tdp}",
                "check both; TDP is that of the highest mode",
            )  # fmt: skip


def _precisions(figures: Figures) -> Iterator[Remark]:
    section = figures.precisions
    if (section.hardware or section.software) and not section.source.strip():
        yield Remark(
            Severity.WARNING, "precision-source", (("precisions",),),
            "nothing says where the precisions are from", "add 'source: …' below precisions",
        )  # fmt: skip
    if not section.hardware:
        return
    listed = ", ".join(section.hardware)
    for name in section.software or ():
        if name not in section.hardware:
            yield Remark(
                Severity.WARNING, "precision", (("precisions", "software"),),
                f"the software is said to expose {name}, and the chip to have {listed}",
                "correct one of the two lists",
            )  # fmt: skip
    for peak in figures.peaks:
        if peak.precision not in section.hardware and peak.kind is not FigureKind.MEASURED:
            yield Remark(
                Severity.WARNING, "precision", (peak,),
                f"there is a peak of {peak.precision}, and the chip is said to have {listed}",
                "correct one of the two",
                "precision",
            )  # fmt: skip


def _interconnects(figures: Figures) -> Iterator[Remark]:
    for way in figures.interconnects:
        if way.bandwidth is not None:
            yield from standard_remarks(way.name, way.bandwidth, "the interconnect")


def standard_remarks(name: str, bandwidth: BandwidthFigure, what: str) -> Iterator[Remark]:
    """A way that is faster, in one direction, than the standard in its name."""
    standard = named_bandwidth(name)
    if standard is not None and bandwidth.value > standard[1] * (1 + ROUNDING):
        yield Remark(
            Severity.ERROR, "standard", (bandwidth,),
            f"{what} has {shown(BANDWIDTH, bandwidth.value)}; {standard[0]} has "
            f"{shown(BANDWIDTH, standard[1])} in one direction",
            "write what goes one way, not the sum of both; or correct the name",
        )  # fmt: skip


_Rule: TypeAlias = Callable[[Figures], Iterator[Remark]]
_RULES: tuple[_Rule, ...] = (
    _own_sparse, _precision_order, _known_modes, _power, _precisions, _interconnects,
)  # fmt: skip
