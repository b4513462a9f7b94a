"""What a device of a pool reaches: rates of arithmetic and of memory, from its figures.

A measured figure is what was reached, on this very device, and is taken as it is. Any other is a
peak: a share of it is reached, and a part of the cores has its part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dioe.hardware.descriptor import BackendFigures, Figures, WorkingSetBandwidth
from dioe.hardware.figures import (
    Arithmetic,
    BandwidthFigure,
    Figure,
    FigureKind,
    Peak,
    TimeFigure,
)
from dioe.hardware.spec import DeviceSpec
from dioe.types import Precision

COMPUTE_SHARE = 0.44
"""Of a peak where a descriptor doesn't say: ResNet-50 in fp16 at batch 64 on a Cambricon
MLU370-X4, 5134 images/s of 8.2 GFLOP, is about 44 % of its 96 TFLOPS (a public README of that
card)."""

MEMORY_SHARE = 0.8
"""Of a memory's bandwidth where a descriptor doesn't say: assumed."""

_BEST_FIRST = tuple(FigureKind)


@dataclass(frozen=True, slots=True)
class Reached:
    """A rate (operations or bytes per second), the figure it rests on, and the share of that."""

    per_s: float
    figure: Figure
    share: float = 1.0

    @property
    def measured(self) -> bool:
        """Whether it was measured on the device."""
        return self.figure.kind is FigureKind.MEASURED

    @property
    def basis(self) -> str:
        """What it rests on, in words: ``measured``, with what its note says (``simulated``), or
        ``third_party figure × 0.44``."""
        if not self.measured:
            return f"{self.figure.kind} figure × {self.share:.2g}"
        return f"measured ({self.figure.note})" if self.figure.note else "measured"


def compute_rate(
    device: DeviceSpec, precision: Precision, *, backend: str = "", mode: str = ""
) -> Reached | None:
    """Operations per second in a precision, through a backend, in a power mode; None where no
    figure says.

    Measured through this very backend counts most, then measured through any, then the rest by
    how they came about.
    """
    wanted = Arithmetic(precision)
    peaks = [p for p in device.figures.peaks if p.precision is wanted and p.mode in ("", mode)]
    if not mode and not peaks:  # figures by power mode alone: the fastest mode
        peaks = [p for p in device.figures.peaks if p.precision is wanted]
    if not peaks:
        return None

    def rank(peak: Peak) -> tuple[bool, int, float]:
        return peak.backend != backend, _BEST_FIRST.index(peak.kind), -peak.value

    measured = [peak for peak in peaks if peak.kind is FigureKind.MEASURED]
    best = min(measured or peaks, key=rank)
    if best.kind is FigureKind.MEASURED:
        return Reached(best.value, best)
    achievable = device.figures.achievable.compute
    share = COMPUTE_SHARE if achievable is None else achievable.value
    share *= part_of_cores(device)
    return Reached(best.value * share, best, share)


def memory_rate(
    device: DeviceSpec, working_set: int | None = None, *, backend: str = ""
) -> Reached | None:
    """Bytes per second of reads and writes together, through a backend; of a working set of so many
    bytes, where caches have figures of their own. None where no figure says.

    As with ``compute_rate``, measured through this backend counts most; then the fastest that was
    measured through any; then what is said of the device.
    """
    own = device.figures.of_backend(backend)
    if own is not None and (found := _through(own, working_set)) is not None:
        return found
    through = [_through(each, working_set) for each in device.figures.by_backend]
    measured = [each for each in through if each is not None]
    if measured:
        return max(measured, key=lambda each: each.per_s)
    memory = device.figures.memory
    achievable = device.figures.achievable.memory
    share = MEMORY_SHARE if achievable is None else achievable.value
    # A few cores alone reach more than their part, and never the whole; others use the rest.
    share *= part_of_cores(device)
    return _by_size(memory.by_working_set, memory.bandwidth, working_set, share)


def launch_s(device: DeviceSpec, backend: str = "") -> float | None:
    """Seconds spent on every op besides its work; through the backend if that was measured, else
    as it is said of the device. None where no figure says."""
    own = device.figures.of_backend(backend)
    figure = None if own is None else own.launch_overhead
    return _seconds(figure or device.figures.launch_overhead)


def dispatch_s(device: DeviceSpec, backend: str = "") -> float | None:
    """Seconds spent on every run of a stage besides its ops, as ``launch_s`` finds them."""
    own = device.figures.of_backend(backend)
    figure = None if own is None else own.dispatch_overhead
    return _seconds(figure or device.figures.dispatch_overhead)


def _seconds(figure: TimeFigure | None) -> float | None:
    return None if figure is None else figure.value


def _through(backend: BackendFigures, working_set: int | None) -> Reached | None:
    return _by_size(backend.by_working_set, backend.bandwidth, working_set, MEMORY_SHARE)


def _by_size(
    by_working_set: Sequence[WorkingSetBandwidth],
    bandwidth: BandwidthFigure | None,
    working_set: int | None,
    share: float,
) -> Reached | None:
    """The bandwidth of a working set: of the smallest listed one that holds it, else of memory."""
    size = math.inf if working_set is None else working_set
    holding = [figure for figure in by_working_set if size <= figure.working_set]
    found = min(holding, key=lambda figure: figure.working_set, default=bandwidth)
    if found is None:
        return None
    if found.kind is FigureKind.MEASURED:
        share = 1.0
    return Reached(found.value * share, found, share)


def part_of_cores(device: DeviceSpec) -> float:
    """The part of the cores its figures are of that a device of a pool has: at most 1."""
    whole = device.figures.cores
    if whole is None or device.capacity is None:
        return 1.0
    threads = (device.logical_cores or 1) / (device.physical_cores or device.logical_cores or 1)
    return min(1.0, device.capacity / threads / whole.value)


def known_precisions(figures: Figures) -> tuple[Precision, ...]:
    """The precisions that DIOE can use and the figures have a peak of, as the software exposes
    them where that is said."""
    software = figures.precisions.software
    exposed = {p.precision for p in figures.peaks} & set(software or Arithmetic)
    return tuple(p for p in Precision if p in {str(a) for a in exposed})


def measured_backends(figures: Figures, precision: Precision) -> list[str]:
    """The backends through which there is a peak of a precision, sorted: what another one reaches
    says nothing of one that may not compute in it at all."""
    peaks = (peak for peak in figures.peaks if peak.precision is Arithmetic(precision))
    return sorted({peak.backend for peak in peaks if peak.backend})
