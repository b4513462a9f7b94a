"""Descriptions of devices: the figures that modelled times come from, each with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dioe.types import ConfigError, Precision

PLACE = "null"


@dataclass(frozen=True, slots=True)
class LinkModel:
    """The way between the host's memory and a device's, the same in both directions.

    ``bandwidth_gbps`` is in 10⁹ bytes per second and direction, ``latency_us`` what an empty
    transfer takes. The directions don't slow each other down.
    """

    bandwidth_gbps: float
    latency_us: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        _positive("bandwidth_gbps", self.bandwidth_gbps)
        _not_negative("latency_us", self.latency_us)

    def transfer_ms(self, nbytes: int) -> float:
        """Milliseconds that a transfer takes when nothing else is under way."""
        return self.latency_us / 1e3 + nbytes / (self.bandwidth_gbps * 1e6)


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What a modelled device is like. Raises ConfigError for figures that can't be.

    ``peak_tflops`` gives for each precision that the device's software exposes the dense peak, in
    10¹² operations per second, a multiply-add counting 2; ``memory_gbps`` is the bandwidth of its
    own memory in 10⁹ bytes per second. Of both the given share is reached (``…_efficiency``).
    ``launch_us`` is spent on every op, ``dispatch_us`` on every run. ``source`` says where the
    figures come from.
    """

    id: str
    name: str
    peak_tflops: Mapping[Precision, float]
    memory_bytes: int
    memory_gbps: float
    link: LinkModel
    compute_efficiency: float = 1.0
    memory_efficiency: float = 1.0
    launch_us: float = 0.0
    dispatch_us: float = 0.0
    dynamic_shapes: bool = True
    source: str = ""
    uuid: str = ""

    def __post_init__(self) -> None:
        kind, _, index = self.id.partition(":")
        if not kind.isidentifier() or not index.isdecimal() or kind == "cpu":
            raise _error(f"{self.id!r} is no id of a modelled device", "write kind:number, npu:0")
        if not self.peak_tflops:
            raise _error("no precision has a peak", "give peak_tflops for one at least")
        for precision, peak in self.peak_tflops.items():
            if precision not in set(Precision):
                raise _error(f"{precision!r} is no precision", f"use: {', '.join(Precision)}")
            _positive(f"peak_tflops of {precision}", peak)
        if not isinstance(self.memory_bytes, int) or self.memory_bytes < 1:
            raise _error(f"memory_bytes is {self.memory_bytes!r}", "give a positive number")
        _positive("memory_gbps", self.memory_gbps)
        for name in ("compute_efficiency", "memory_efficiency"):
            share = getattr(self, name)
            _positive(name, share)
            if share > 1:
                raise _error(f"{name} is {share!r}", "give a share of at most 1")
        _not_negative("launch_us", self.launch_us)
        _not_negative("dispatch_us", self.dispatch_us)

    @property
    def kind(self) -> str:
        """``npu`` of ``npu:0``."""
        return self.id.partition(":")[0]

    def flops_per_ms(self, precision: Precision) -> float:
        """Operations in a millisecond that are reached in a precision that has a peak."""
        return self.peak_tflops[precision] * 1e9 * self.compute_efficiency

    @property
    def bytes_per_ms(self) -> float:
        """Bytes of the device's memory that are read or written in a millisecond."""
        return self.memory_gbps * 1e6 * self.memory_efficiency

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DeviceModel:
        """A description from plain data, such as YAML gives: the fields by their names.

        Raises ConfigError for an unknown or a missing key and for values that can't be.
        """
        values = _known(cls, record, f"device {record.get('id', '?')!r}")
        link = values.get("link")
        if isinstance(link, Mapping):
            values["link"] = LinkModel(**_known(LinkModel, link, "link"))
        elif not isinstance(link, LinkModel):
            raise _error(f"link is {link!r}", "give its bandwidth_gbps and latency_us")
        peaks = values.get("peak_tflops")
        if not isinstance(peaks, Mapping):
            raise _error(f"peak_tflops is {peaks!r}", "give a number for each precision")
        try:
            values["peak_tflops"] = {Precision(name): peak for name, peak in peaks.items()}
        except ValueError as error:
            raise _error(f"{error}", f"use: {', '.join(Precision)}") from None
        return cls(**values)


def _known(
    kind: type[DeviceModel | LinkModel], record: Mapping[str, Any], what: str
) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    if unknown := sorted(map(str, record.keys() - names)):
        raise _error(
            f"{what} has an unknown key {unknown[0]!r}", f"known: {', '.join(sorted(names))}"
        )
    needed = {"bandwidth_gbps"} if kind is LinkModel else _NEEDED
    if missing := sorted(needed - record.keys()):
        raise _error(f"{what} has no {missing[0]!r}", f"add {missing[0]!r}")
    return dict(record)


_NEEDED = {"id", "name", "peak_tflops", "memory_bytes", "memory_gbps", "link"}


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _error(f"{name} is {value!r}", "give a number")
    return value


def _positive(name: str, value: object) -> None:
    if _number(name, value) <= 0:
        raise _error(f"{name} is {value!r}", "give a number above 0")


def _not_negative(name: str, value: object) -> None:
    if _number(name, value) < 0:
        raise _error(f"{name} is {value!r}", "give 0 or more")


def _error(cause: str, fix: str) -> ConfigError:
    return ConfigError(cause, place=PLACE, fix=fix)


GIB = 2**30

_ACHIEVED = 0.44
"""Of the dense peak: ResNet-50 in fp16 at batch 64 on a Cambricon MLU370-X4, 5134 images/s of
8.2 GFLOP, is about 44 % of its 96 TFLOPS (figures of a public README of that card)."""

NPU = DeviceModel(
    id="npu:0",
    name="modelled NPU (Core Ultra, Meteor Lake)",
    peak_tflops={Precision.FP32: 1.375, Precision.FP16: 5.5, Precision.INT8: 11.0},
    memory_bytes=4 * GIB,
    memory_gbps=89.6,
    link=LinkModel(
        bandwidth_gbps=10.0,
        latency_us=50.0,
        source="assumed: copies by the host's cores, one call of a driver each",
    ),
    compute_efficiency=_ACHIEVED,
    memory_efficiency=0.8,
    launch_us=2.0,
    dispatch_us=100.0,
    source=(
        "int8: 11 TOPS (tweaktown.com, hothardware.com); fp16: half of it, derived; fp32: a "
        "quarter of fp16, assumed; memory: two channels of DDR5-5600, derived; the rest assumed"
    ),
)
"""The default NPU, with memory of its own to be copied into."""

GPU = DeviceModel(
    id="gpu:0",
    name="modelled GPU (T4)",
    peak_tflops={Precision.FP32: 8.1, Precision.FP16: 65.0, Precision.INT8: 130.0},
    memory_bytes=16 * GIB,
    memory_gbps=320.0,
    link=LinkModel(
        bandwidth_gbps=12.0,
        latency_us=10.0,
        source="PCIe 3.0 x16: 15.75 GB/s a direction by the standard, about three quarters reached",
    ),
    compute_efficiency=_ACHIEVED,
    memory_efficiency=0.8,
    launch_us=5.0,
    dispatch_us=10.0,
    source=(
        "peaks, memory and its bandwidth: sysrqmts.com, geektopia.es (no bf16 found); launch, "
        "dispatch, latency and the share of the bandwidth that is reached: assumed"
    ),
)
"""The default discrete GPU."""
