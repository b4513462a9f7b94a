"""What DIOE knows of a system: its devices, and the links between them.

These frozen data classes are also the schema of pool files: pydantic reads the constraints off the
annotations (:mod:`dioe.hardware.pools`). Building one in Python checks only what would make a pool
contradict itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dioe.types import ConfigError, InputError, KnownAs, Resources

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
DeviceId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(:[0-9]+)?$")]
"""Kind and index: ``cpu``, ``gpu:0``."""


@dataclass(frozen=True, slots=True)
class Cache:
    """``count`` equal caches of one level, each shared by ``shared_by`` of the machine's cores."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    level: Count
    kind: str  # data | unified
    size_bytes: Bytes
    count: Count = 1
    shared_by: Count = 1

    @property
    def name(self) -> str:
        """The usual short name: ``L1d``, ``L2``, ``L3``."""
        return f"L{self.level}{'d' if self.kind == 'data' else ''}"


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A NUMA node and the usable cores (ids) that are near its memory."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: Index
    cores: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device: what it is and how much of it this process may use.

    ``provenance`` says where the numbers come from (discovery, a datasheet, an example) and
    ``known_as`` how far they can be trusted. A field is None, or empty, where nothing is known.

    ``cores`` are the ids of the usable logical cores, ``logical_cores`` and ``physical_cores``
    count the machine's. ``capacity`` is the CPU time available, in cores: the smaller of usable
    cores and CPU quota, so 1.5 is possible. ``memory_bytes`` is what may be used,
    ``memory_total_bytes`` what is there. ``shares`` names the device whose memory this one uses.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: DeviceId
    kind: str
    name: str = ""
    known_as: KnownAs = KnownAs.MODELLED
    provenance: str = ""
    architecture: str = ""
    cores: tuple[Index, ...] = ()
    capacity: Positive | None = None
    logical_cores: Count | None = None
    physical_cores: Count | None = None
    memory_bytes: Bytes | None = None
    memory_total_bytes: Bytes | None = None
    caches: tuple[Cache, ...] = ()
    vector_extensions: tuple[str, ...] = ()
    numa_nodes: tuple[NumaNode, ...] = ()
    is_virtual: bool | None = None
    shares: DeviceId | None = None

    @property
    def limited(self) -> bool:
        """True if a quota or the affinity leaves less than the machine's cores."""
        return (
            self.capacity is not None
            and self.logical_cores is not None
            and self.capacity < self.logical_cores
        )


@dataclass(frozen=True, slots=True)
class Link:
    """A way for data from one device to another; a way back is a link of its own.

    ``bandwidth_gbps`` is in 10⁹ bytes per second, ``latency_ms`` what an empty transfer takes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    source: DeviceId
    destination: DeviceId
    bandwidth_gbps: Positive
    latency_ms: NotNegative = 0.0
    known_as: KnownAs = KnownAs.MODELLED
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """The devices of a system and the links between them.

    ``pins`` are patterns of ops, each with the device or target that those ops have to run on.
    Raises ConfigError if there is no device, two have one id, or a link or ``shares`` names none.
    """

    devices: tuple[DeviceSpec, ...]
    links: tuple[Link, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for path, problem in contradictions(self.devices, self.links):
            place = ".".join(str(part) for part in path)
            raise ConfigError(problem, place=place, fix="correct the pool")

    def device(self, device_id: str) -> DeviceSpec:
        """The device of that id; raises InputError."""
        for device in self.devices:
            if device.id == device_id:
                return device
        known = ", ".join(device.id for device in self.devices)
        raise InputError(f"no device {device_id!r} in the pool", fix=f"its devices are: {known}")

    def link(self, source: str, destination: str) -> Link | None:
        """The link between two devices, None where the pool describes none."""
        for link in self.links:
            if (link.source, link.destination) == (source, destination):
                return link
        return None


def contradictions(
    devices: Sequence[DeviceSpec], links: Sequence[Link]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What makes a pool contradict itself: the path of the field, and the problem."""
    if not devices:
        yield ("devices",), "a pool has at least one device"
    ids: dict[str, int] = {}
    for i, device in enumerate(devices):
        if ids.setdefault(device.id, i) != i:
            yield ("devices", i, "id"), f"a second device has the id {device.id!r}"
        if device.id.partition(":")[0] != device.kind:
            yield ("devices", i, "kind"), f"{device.id!r} is no device of kind {device.kind!r}"
    for i, device in enumerate(devices):
        if device.shares is not None and (device.shares not in ids or device.shares == device.id):
            yield ("devices", i, "shares"), f"{device.shares!r} is no other device of the pool"
    ways: set[tuple[str, str]] = set()
    for i, link in enumerate(links):
        ends = {"source": link.source, "destination": link.destination}
        for end, device_id in ends.items():
            if device_id not in ids:
                yield ("links", i, end), f"{device_id!r} is no device of the pool"
        way = (link.source, link.destination)
        if link.source == link.destination:
            yield ("links", i, "destination"), "a link goes from one device to another"
        elif way in ways:
            yield ("links", i, "source"), f"a second link goes from {way[0]!r} to {way[1]!r}"
        ways.add(way)


def fingerprint(pool: Pool) -> str:
    """A short hash, the same between runs, of what measured costs depend on; never a host name.

    CPU name, architecture, capacity, vector extensions, links, and memory as a power of two, since
    the exact size changes with the kernel and with what firmware reserves.
    """
    devices = [
        {
            "id": device.id,
            "name": device.name,
            "known_as": device.known_as,
            "architecture": device.architecture,
            "capacity": None if device.capacity is None else round(device.capacity, 2),
            "memory_class": _memory_class(device.memory_bytes),
            "vector_extensions": sorted(device.vector_extensions),
            "shares": device.shares,
        }
        for device in sorted(pool.devices, key=lambda device: device.id)
    ]
    links = sorted((x.source, x.destination, x.bandwidth_gbps, x.latency_ms) for x in pool.links)
    text = json.dumps({"devices": devices, "links": links}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _memory_class(memory_bytes: int | None) -> int | None:
    return round(math.log2(memory_bytes)) if memory_bytes else None


def resources_for(device: DeviceSpec) -> Resources:
    """What a context on ``device`` should use.

    Backends count the machine's cores and don't see a container's CPU quota, and not all see the
    affinity; more threads than capacity wait for each other at every barrier. So where a limit
    holds, the thread count is set to the whole cores of the capacity, and to no more than the
    physical cores, as backends themselves do. Where none holds it stays None, a backend's own
    default being the configuration its authors tuned.
    """
    if device.capacity is None or not device.limited:
        return Resources()
    threads = math.floor(device.capacity)
    if device.physical_cores is not None:
        threads = min(threads, device.physical_cores)
    return Resources(threads=max(1, threads))
