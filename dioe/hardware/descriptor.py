"""Descriptors: what a kind of device can do, in figures that each name their source.

A descriptor is about a product (``hwconfigs/devices/mlu370-x8.yaml``), a pool about a system of
devices (:mod:`dioe.hardware.pools`). The classes are the schema of the files: pydantic reads and
checks them, and JSON Schema and the reference in docs/ are made from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from dioe.hardware.figures import (
    Arithmetic,
    BandwidthFigure,
    Closed,
    CountFigure,
    Figure,
    FractionFigure,
    OpFactor,
    Peak,
    PowerFigure,
    SizeFigure,
    TimeFigure,
)
from dioe.hardware.profiles import HardwareSection
from dioe.hardware.quantities import SIZE, Size
from dioe.hardware.schema_errors import parse, problem_at
from dioe.yaml_text import Document, KeyPath, read_document

FORMAT = "dioe-device"

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
"""A name in the catalogue: ``mlu370-x8``."""


class WorkingSetBandwidth(BandwidthFigure):
    """The bandwidth at which a working set that a cache may hold is read and written."""

    working_set: Size
    """Bytes in use."""


class MemorySection(Closed):
    """The memory that the device computes from."""

    size: SizeFigure | None = None
    """All of it."""
    bandwidth: BandwidthFigure | None = None
    """Between the memory and the device."""
    by_working_set: tuple[WorkingSetBandwidth, ...] = ()
    """Bandwidths of smaller working sets, which caches hold."""
    shared_with_host: bool | None = None
    """Whether it is the host's memory, so that nothing has to be copied."""


class AchievableSection(Closed):
    """Shares of the peaks that large, well-written kernels reach; measured ones have it in them."""

    compute: FractionFigure | None = None
    """Of the peak of a precision."""
    memory: FractionFigure | None = None
    """Of the memory's bandwidth."""


class PowerMode(Closed):
    """A setting of the device that trades speed for power; peaks name the one they hold in."""

    id: str = Field(min_length=1, max_length=40)
    """Its name: MAXN, 30W."""
    cap: PowerFigure
    """What it limits the device to."""


class PowerSection(Closed):
    """What the device draws."""

    tdp: PowerFigure | None = None
    """Under sustained load, by design."""
    idle: PowerFigure | None = None
    """When nothing runs."""
    modes: tuple[PowerMode, ...] = ()
    """Power modes, where there are several."""


class PrecisionSection(Closed):
    """What the chip computes in, and what its software lets one use: often less."""

    hardware: tuple[Arithmetic, ...] = ()
    """Of the chip."""
    software: tuple[Arithmetic, ...] | None = None
    """What the vendor's software exposes; left out where nobody looked."""
    source: str = ""
    """Where that is said."""


class Interconnect(Closed):
    """A way out of the device: a host interface or one between equal devices."""

    name: str = Field(min_length=1, max_length=60)
    """The standard: PCIe 4.0 x16, NVLink."""
    bandwidth: BandwidthFigure | None = None
    """In one direction."""


class BackendFigures(Closed):
    """What a device is like through one backend, as far as it was measured through it.

    These say what an op costs as a roofline: dispatch once a run, and for every op a launch and its
    bytes at the bandwidth of its working set, or its arithmetic at the backend's peak
    (``docs/calibration.md``).
    """

    backend: Annotated[str, Field(min_length=1, max_length=64)]
    """The backend: onnxruntime, openvino."""
    launch_overhead: TimeFigure | None = None
    """Spent on every op besides its work."""
    dispatch_overhead: TimeFigure | None = None
    """Spent on every run of a stage besides its ops."""
    bandwidth: BandwidthFigure | None = None
    """Of ops on values that no cache holds: bytes read and written."""
    by_working_set: tuple[WorkingSetBandwidth, ...] = ()
    """Of ops on values that caches hold."""


class Figures(Closed):
    """What is known of a device in figures. In a pool these win over those of the descriptor that
    the device names: section by section, peaks by precision, mode and backend."""

    peaks: tuple[Peak, ...] = ()
    """Dense peaks, one for each precision and power mode."""
    cores: CountFigure | None = None
    """Physical cores that the peaks are of; a part of them has its share."""
    achievable: AchievableSection = AchievableSection()
    """Shares of peak and bandwidth that are reached."""
    memory: MemorySection = MemorySection()
    """Its memory."""
    lanes: CountFigure | None = None
    """In-order queues that run at once."""
    streams: CountFigure | None = None
    """Streams worth having in a lane."""
    launch_overhead: TimeFigure | None = None
    """Spent on every op (kernel) besides its work."""
    dispatch_overhead: TimeFigure | None = None
    """Spent on every run of a stage, by the host."""
    power: PowerSection = PowerSection()
    """What it draws."""
    precisions: PrecisionSection = PrecisionSection()
    """What it computes in."""
    interconnects: tuple[Interconnect, ...] = ()
    """Ways out of it."""
    by_backend: tuple[BackendFigures, ...] = ()
    """What was measured through one backend each: it counts more than what is said of the device,
    for a stage of that backend."""
    op_factors: tuple[OpFactor, ...] = ()
    """How far classes of ops stay from their rooflines."""

    @model_validator(mode="after")
    def _no_second_ones(self) -> Self:
        modes = [mode.id for mode in self.power.modes]
        for index, mode in enumerate(modes):
            if mode in modes[:index]:
                raise problem_at(
                    ("power", "modes", index, "id"), f"a second mode is called {mode!r}"
                )
        keys = [peak_key(peak) for peak in self.peaks]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                problem = f"a second peak is that of {' '.join(filter(None, key))}"
                raise problem_at(("peaks", index, "precision"), problem)
        backends = [each.backend for each in self.by_backend]
        for index, name in enumerate(backends):
            if name in backends[:index]:
                raise problem_at(("by_backend", index, "backend"), f"a second one is of {name!r}")
        sets: dict[KeyPath, Sequence[WorkingSetBandwidth]] = {
            ("memory",): self.memory.by_working_set,
            **{("by_backend", i): each.by_working_set for i, each in enumerate(self.by_backend)},
        }
        for path, figures in sets.items():
            sizes = [figure.working_set for figure in figures]
            for index, size in enumerate(sizes):
                if size in sizes[:index]:
                    raise problem_at(
                        (*path, "by_working_set", index, "working_set"),
                        f"a second one is of {SIZE.write(size)}",
                    )
        factors = [_item_key(factor) for factor in self.op_factors]
        for index, factor in enumerate(self.op_factors):
            if factors[index] in factors[:index]:
                about = filter(None, (factor.op_class, factor.precision, factor.backend))
                problem = f"a second factor is that of {' '.join(about)}"
                raise problem_at(("op_factors", index, "op_class"), problem)
        return self

    def of_backend(self, backend: str) -> BackendFigures | None:
        """What was measured through a backend; None where nothing was."""
        return next((each for each in self.by_backend if each.backend == backend), None)

    def over(self, other: Figures) -> Figures:
        """These figures, and of ``other`` what they don't have."""
        merged = {name: _over(getattr(self, name), getattr(other, name)) for name in _FIGURES}
        return Figures.model_construct(**merged)

    def beside(self, other: Figures) -> Figures:
        """What these figures have that ``other`` doesn't: ``figures.over(other).beside(other)`` is
        ``figures``, but for what both say alike."""
        return _beside(self, other)

    def all_figures(self) -> Iterator[tuple[tuple[str | int, ...], Figure]]:
        """Every figure with the path to it."""
        yield from _walk(self, ())


class DeviceDescriptor(Figures):
    """A kind of device: who makes it, what it can do, and which backend drives it."""

    format: Literal["dioe-device"]
    """What sort of file this is."""
    version: Literal[1]
    """Of the format."""
    id: Slug
    """Its name in the catalogue, which is its file's name."""
    name: str = Field(min_length=1, max_length=200)
    """What people call it."""
    vendor: str = ""
    """Who makes it."""
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=20)]
    """cpu, gpu, npu, mlu, dla: the first part of device ids."""
    architecture: str = ""
    """Of the chip."""
    reported_as: tuple[str, ...] = ()
    """Names under which drivers report it (shell patterns), so that a device found on a machine
    gets these figures."""
    vector_extensions: tuple[str, ...] = ()
    """Of the instruction set: what a CPU found under such a name has to have, as virtual machines
    hide the model's. Of several descriptors the one that asks for most is taken."""
    backend: HardwareSection | None = None
    """The backend that drives it, and what is asked of it; `dioe resolve` tells what becomes of
    each key."""
    notes: str = ""
    """What else is to be known."""

    @property
    def figures(self) -> Figures:
        """The figures alone."""
        return Figures.model_construct(**{name: getattr(self, name) for name in _FIGURES})


_FIGURES = tuple(Figures.model_fields)

_Part = TypeVar("_Part")


def peak_key(peak: Peak) -> tuple[str, str, str, str]:
    """What tells peaks of one device apart."""
    return peak.precision, peak.accumulator, peak.mode, peak.backend


def _over(mine: _Part, theirs: _Part) -> _Part:
    """``mine``, completed by ``theirs``: sections field by field, lists item by item."""
    if isinstance(mine, Figure) or theirs is None:
        return mine
    if mine is None:
        return theirs
    if isinstance(mine, Closed):
        parts = {n: _over(getattr(mine, n), getattr(theirs, n)) for n in type(mine).model_fields}
        return type(mine).model_construct(**parts)
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        other = {_item_key(item): item for item in theirs}
        have = {_item_key(item) for item in mine}
        # a section of a list is completed as any other, a figure is taken as it is
        both = (
            _over(i, other.get(_item_key(i))) if isinstance(i, BackendFigures) else i for i in mine
        )
        return (*both, *(item for key, item in other.items() if key not in have))  # type: ignore[return-value]
    return mine if mine not in ("", ()) else theirs


def _beside(mine: Figures, theirs: Figures) -> Figures:
    """``mine`` without what ``theirs`` has too: sections field by field, lists item by item."""
    parts = {n: _left(mine, theirs, n) for n in _FIGURES}
    return Figures.model_construct(**parts)


def _left(mine: Closed, theirs: Closed, name: str) -> Any:
    own, other = getattr(mine, name), getattr(theirs, name)
    if own == other:
        return type(mine).model_fields[name].get_default(call_default_factory=True)
    if isinstance(own, Closed) and isinstance(other, Closed) and not isinstance(own, Figure):
        parts = {n: _left(own, other, n) for n in type(own).model_fields}
        return type(own).model_construct(**parts)
    if isinstance(own, tuple) and isinstance(other, tuple):
        return tuple(item for item in own if item not in other)
    return own


def _item_key(item: object) -> object:
    if isinstance(item, Peak):
        return peak_key(item)
    if isinstance(item, WorkingSetBandwidth):
        return item.working_set
    if isinstance(item, PowerMode):
        return item.id
    if isinstance(item, BackendFigures):
        return item.backend
    if isinstance(item, OpFactor):
        return item.op_class, item.precision, item.backend
    return item.name if isinstance(item, Interconnect) else item


def _walk(
    item: object, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Figure]]:
    if isinstance(item, Figure):
        yield path, item
    elif isinstance(item, Closed):
        for name in type(item).model_fields:
            yield from _walk(getattr(item, name), (*path, name))
    elif isinstance(item, tuple):
        for index, part in enumerate(item):
            yield from _walk(part, (*path, index))


def load_descriptor(path: str | PathLike[str]) -> DeviceDescriptor:
    """The descriptor in a YAML file. Raises ConfigError with ``file:line:column`` and a fix."""
    return parse_descriptor(read_document(Path(path)))


def parse_descriptor(document: Document) -> DeviceDescriptor:
    """The descriptor in a document. Raises ConfigError with ``file:line:column`` and a fix."""
    return parse(document, DeviceDescriptor)
