"""Descriptions of devices: the figures that modelled times come from, each with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from dioe.types import ConfigError, Precision

PLACE = "null"


class DescriptionError(ConfigError):
    """A description that can't be. ``path`` are the keys that lead to what is wrong in it."""

    def __init__(
        self, cause: str, *, place: str = "", fix: str = "", path: tuple[str, ...] = ()
    ) -> None:
        super().__init__(cause, place=place, fix=fix)
        self.path = path


@dataclass(frozen=True, slots=True)
class LinkModel:
    """The way between the host's memory and a device's, the same in both directions.

    ``bandwidth_gbps`` is in 10⁹ bytes per second and direction, ``latency_us`` what an empty
    transfer takes. The directions don't slow each other down. ``source`` says where the figures
    come from. Raises DescriptionError for figures that can't be.
    """

    bandwidth_gbps: float
    latency_us: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        _positive("bandwidth_gbps", self.bandwidth_gbps)
        _not_negative("latency_us", self.latency_us)
        _text("source", self.source)

    def transfer_ms(self, nbytes: int) -> float:
        """Milliseconds that a transfer takes when nothing else is under way."""
        return self.latency_us / 1e3 + nbytes / (self.bandwidth_gbps * 1e6)


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What a modelled device is like. Raises DescriptionError for figures that can't be.

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
        for name in ("id", "name", "source", "uuid"):
            _text(name, getattr(self, name))
        kind, _, index = self.id.partition(":")
        if not (kind.isidentifier() and index.isascii() and index.isdecimal()) or kind == "cpu":
            raise _error(
                f"{self.id!r} is no id of a modelled device", "write kind:number, npu:0", "id"
            )
        self._check_peaks()
        if isinstance(self.memory_bytes, bool) or not isinstance(self.memory_bytes, int):
            raise _error(
                f"memory_bytes is {self.memory_bytes!r}", "give a whole number", "memory_bytes"
            )
        _positive("memory_bytes", self.memory_bytes)
        _positive("memory_gbps", self.memory_gbps)
        for name in ("compute_efficiency", "memory_efficiency"):
            share = getattr(self, name)
            _positive(name, share)
            if share > 1:
                raise _error(f"{name} is {share!r}", "give a share of at most 1", name)
        _not_negative("launch_us", self.launch_us)
        _not_negative("dispatch_us", self.dispatch_us)
        if not isinstance(self.dynamic_shapes, bool):
            raise _error(
                f"dynamic_shapes is {self.dynamic_shapes!r}", "give true or false", "dynamic_shapes"
            )

    def _check_peaks(self) -> None:
        if not isinstance(self.peak_tflops, Mapping):
            raise _error(
                f"peak_tflops is {self.peak_tflops!r}",
                "give a number for each precision",
                "peak_tflops",
            )
        if not self.peak_tflops:
            raise _error(
                "no precision has a peak", "give peak_tflops for one at least", "peak_tflops"
            )
        for precision, peak in self.peak_tflops.items():
            if precision not in set(Precision):
                raise _error(
                    f"{precision!r} is no precision",
                    f"use: {', '.join(Precision)}",
                    "peak_tflops",
                    precision,
                )
            _positive(precision, peak, "peak_tflops")

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
        """A description from plain data, such as YAML gives: the fields by their names, and a
        ``source`` of the figures of the device and of its link.

        Raises DescriptionError for an unknown or a missing key and for values that can't be.
        """
        values = _known(cls, record, ())
        link, peaks = values["link"], values["peak_tflops"]
        if not isinstance(link, Mapping):
            raise _error(f"link is {link!r}", "give its bandwidth_gbps and latency_us", "link")
        known = _known(LinkModel, link, ("link",))
        try:
            values["link"] = LinkModel(**known)
        except DescriptionError as error:
            raise _error(f"link: {error.cause}", error.fix, "link", *error.path) from None
        if isinstance(peaks, Mapping):
            values["peak_tflops"] = {_precision(name): peak for name, peak in peaks.items()}
        return cls(**values)


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        from dioe.yaml_text import known_key

        raise _error(
            f"{name!r} is no precision", known_key(str(name), Precision), "peak_tflops", name
        ) from None


def _known(
    kind: type[DeviceModel | LinkModel], record: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """The record, every key of which is a field, and that has those it needs."""
    known = [field.name for field in fields(kind)]
    for key in record:
        if key not in known:
            from dioe.yaml_text import known_key

            raise _error(f"unknown key {key!r}", known_key(str(key), known), *path, key)
    for field in fields(kind):
        if field.default is MISSING and field.name not in record:
            raise _error(
                f"the key {field.name!r} is missing", f"add '{field.name}: …' there", *path
            )
    if record.get("source", "") == "":
        where = (*path, "source") if "source" in record else path
        raise _error(
            "there is no source of the figures",
            "add 'source: …': a datasheet, a page, 'assumed'",
            *where,
        )
    return dict(record)


def _number(name: str, value: object, *path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        fix = "give a number"
        if isinstance(value, str) and _is_float(value):  # YAML 1.1 takes 1e9 for text
            fix = f"write it as {float(value)!r}"
        raise _error(f"{name} is {value!r}", fix, *path, name)
    return value


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _positive(name: str, value: object, *path: str) -> None:
    if _number(name, value, *path) <= 0:
        raise _error(f"{name} is {value!r}", "give a number above 0", *path, name)


def _not_negative(name: str, value: object) -> None:
    if _number(name, value) < 0:
        raise _error(f"{name} is {value!r}", "give 0 or more", name)


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _error(f"{name} is {value!r}", "give a text, in quotes if need be", name)


def _error(cause: str, fix: str, *path: str) -> DescriptionError:
    return DescriptionError(cause, place=PLACE, fix=fix, path=path)


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
