"""docs/catalogue.md, from the files in hwconfigs/: ``python -m benchmarks.catalogue_page``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dioe.hardware import catalogue, load_pool
from dioe.hardware.descriptor import DeviceDescriptor
from dioe.hardware.figures import Arithmetic, FigureKind, Peak

PAGE = Path(__file__).parents[1] / "docs/catalogue.md"

_HEAD = """\
# The catalogue

Devices and systems that come with DIOE, made from [hwconfigs/](../hwconfigs) by `python -m
benchmarks.catalogue_page`; `dioe devices --catalogue` lists them too. A pool file names a device by
its id (`device: rtx-4090`), `--hardware` a pool. A device that a backend finds under one of the
names below gets the figures that stand here, until `dioe calibrate` measures its own.

Peaks are dense, in 10¹² operations a second, a multiply-add counting 2. What stands beside *d* was
derived from other figures, the rest is from pages that anybody could write. Public tables are often
wrong, so each figure in the files names its source, and what no source was found for is left out.
Memory is in GiB (makers' GB of DRAM).

| id | device | fp32 | fp16 | bf16 | int8 | GiB | GB/s | W |
|---|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    devices = catalogue.descriptors()
    rows = "\n".join(_row(device) for device in devices)
    parts = "\n".join(line for device in devices for line in _device(device))
    pools = "\n".join(_pools())
    pools_head = "## Pools\n\n| name | what it is | devices |\n|---|---|---|"
    return f"{_HEAD}{rows}\n\n{pools_head}\n{pools}\n\n## Devices\n{parts}\n"


def _row(device: DeviceDescriptor) -> str:
    def peak(precision: Arithmetic) -> str:
        found = [p for p in device.peaks if p.precision is precision]
        best = max(found, key=lambda p: p.value, default=None)
        return "" if best is None else _figure(best.value / 1e12, best.kind)

    size, bandwidth, tdp = device.memory.size, device.memory.bandwidth, device.power.tdp
    cells = [
        f"`{device.id}`",
        device.name,
        *(peak(Arithmetic(name)) for name in ("fp32", "fp16", "bf16", "int8")),
        "" if size is None else _figure(size.value / 2**30, size.kind),
        "" if bandwidth is None else _figure(bandwidth.value / 1e9, bandwidth.kind),
        "" if tdp is None else _figure(tdp.value, tdp.kind),
    ]
    return f"| {' | '.join(cells)} |"


def _figure(value: float, kind: FigureKind) -> str:
    return f"{value:.5g}{' *d*' if kind is FigureKind.DERIVED else ''}"


def _pools() -> Iterator[str]:
    for name in catalogue.names(catalogue.POOLS):
        pool = load_pool(catalogue.folder(catalogue.POOLS) / f"{name}.yaml")
        devices = ", ".join(f"{d.id} ({d.device})" if d.device else d.id for d in pool.devices)
        yield f"| `{name}` | {pool.name} | {devices} |"


def _device(device: DeviceDescriptor) -> Iterator[str]:
    yield f"\n### {device.id}\n"
    yield device.notes
    if device.reported_as:
        names = ", ".join(f"`{name}`" for name in device.reported_as)
        needed = ", ".join(device.vector_extensions)
        yield f"\nFound as {names}{f' with {needed}' if needed else ''}."
    modes: dict[str, list[str]] = {}
    for peak in device.peaks:
        if peak.mode:
            modes.setdefault(peak.mode, []).append(_rate(peak))
    if modes:
        listed = "; ".join(f"{mode}: {', '.join(rates)}" for mode, rates in modes.items())
        yield f"\nPeaks by power mode: {listed}."
    sources = dict.fromkeys(figure.source for _, figure in device.all_figures())
    if sources:
        yield "\nSources:\n"
    for source in sources:
        yield f"- {source}"


def _rate(peak: Peak) -> str:
    return f"{peak.precision} {peak.value / 1e12:.5g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
