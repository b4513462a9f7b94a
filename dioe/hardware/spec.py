"""What DIOE knows of a system: its devices, and the links between them.

These frozen data classes are also the schema of pool files: pydantic reads the constraints off the
annotations (:mod:`dioe.hardware.pools`). Building one in Python checks only what would make a pool
contradict itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from pydantic import ConfigDict, Field

from dioe.hardware.descriptor import Figures
from dioe.hardware.figures import BandwidthFigure, TimeFigure
from dioe.hardware.limits import EVERY_DEVICE, Limits
from dioe.types import ConfigError, InputError, KnownAs, Resources
from dioe.yaml_text import known_key

_STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)

Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
DeviceId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(:[0-9]+)?$")]
"""Kind and index: ``cpu``, ``gpu:0``."""


@dataclass(frozen=True, slots=True)
class Cache:
    """``count`` equal caches of one level, each shared by ``shared_by`` of the machine's cores."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    level: Count
    """1 is the nearest to a core."""
    kind: str
    """data or unified."""
    size_bytes: Bytes
    """Of one of them."""
    count: Count = 1
    """How many there are."""
    shared_by: Count = 1
    """Logical cores that use one."""

    @property
    def name(self) -> str:
        """The usual short name: ``L1d``, ``L2``, ``L3``."""
        return f"L{self.level}{'d' if self.kind == 'data' else ''}"


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A NUMA node and the usable cores (ids) that are near its memory."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: Index
    """The kernel's number of it."""
    cores: tuple[Index, ...]
    """Ids of its usable logical cores."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device of a pool: what it is and how much of it may be used.

    A field is None, or empty, where nothing is known. ``figures`` are those written for this device
    in the pool, completed by those of the descriptor that ``device`` names.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: DeviceId
    """Kind and index: cpu, gpu:0."""
    kind: str = ""
    """cpu, gpu, npu, mlu, dla; that of the id where it is left out."""
    device: str = ""
    """The descriptor whose figures hold here: a name in the catalogue (mlu370-x8), or a file beside
    this one (./mine.yaml)."""
    name: str = ""
    """What people call it."""
    known_as: KnownAs = KnownAs.MODELLED
    """How far its numbers can be trusted: hardware (discovered), simulated, contract, modelled."""
    provenance: str = ""
    """Where the numbers of this entry come from: discovery, a datasheet, an example."""
    architecture: str = ""
    """Of the processor: x86_64."""
    cores: tuple[Index, ...] = ()
    """Ids of the usable logical cores."""
    capacity: Positive | None = None
    """CPU time that may be used, in cores: the smaller of usable cores and CPU quota, so 1.5 is
    possible."""
    logical_cores: Count | None = None
    """Of the machine."""
    physical_cores: Count | None = None
    """Of the machine."""
    memory_bytes: Bytes | None = None
    """Memory that may be used, as it was found; what plans have to keep is under `limits`."""
    memory_total_bytes: Bytes | None = None
    """Memory that is there."""
    caches: tuple[Cache, ...] = ()
    """Data and unified caches that the usable cores have."""
    vector_extensions: tuple[str, ...] = ()
    """Of the instruction set: avx512f."""
    numa_nodes: tuple[NumaNode, ...] = ()
    """NUMA nodes of the usable cores."""
    is_virtual: bool | None = None
    """Whether this is a virtual machine."""
    shares: DeviceId | None = None
    """The device whose memory this one uses."""
    figures: Figures = Figures()
    """What is known of it in figures; they win over those of the descriptor."""

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.id.partition(":")[0])

    @property
    def limited(self) -> bool:
        """True if a quota or the affinity leaves less than the machine's cores."""
        return (
            self.capacity is not None
            and self.logical_cores is not None
            and self.capacity < self.logical_cores
        )


@dataclass(frozen=True, slots=True)
class Bus:
    """What several links share: their transfers together are no faster than it."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: Annotated[str, Field(min_length=1, max_length=60)]
    """What links call it."""
    bandwidth: BandwidthFigure
    """In one direction."""
    name: str = ""
    """The standard: PCIe 4.0 x16."""


@dataclass(frozen=True, slots=True)
class Link:
    """A way for data from one device to another; a way back is a link of its own, or ``both_ways``
    in a file."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    source: DeviceId
    """Where data comes from."""
    destination: DeviceId
    """Where it goes."""
    bandwidth: BandwidthFigure
    """In this direction."""
    latency: TimeFigure | None = None
    """What an empty transfer takes; nothing where it is left out."""
    bus: str = ""
    """The id of the bus that it goes over."""
    name: str = ""
    """The standard: PCIe 4.0 x16."""

    def transfer_ms(self, nbytes: int) -> float:
        """Milliseconds that a transfer takes when nothing else is under way."""
        latency_s = 0.0 if self.latency is None else self.latency.value
        return (latency_s + nbytes / self.bandwidth.value) * 1e3


TargetBeginning = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]*(:[0-9]+)?(/[A-Za-z0-9][A-Za-z0-9_.+-]*){0,2}$", max_length=100
    ),
]
"""A device, or the beginning of a target: ``cpu``, ``cpu/openvino``."""


@dataclass(frozen=True, slots=True)
class BoundaryCost:
    """What it costs that a stage hands a value to the next one: the backends' threads and caches
    give way to each other. Neither stage's own dispatch is in it, nor a copy over a link."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    source: TargetBeginning
    """The stage before: a device, or the beginning of a target, such as cpu/openvino."""
    destination: TargetBeginning
    """The stage that gets the value."""
    fixed: TimeFigure
    """Of a value of hardly any bytes."""
    bandwidth: BandwidthFigure | None = None
    """Of its bytes; left out where they made no difference."""

    def cost_ms(self, nbytes: int) -> float:
        """Milliseconds that handing over a value of that size costs."""
        moved_s = 0.0 if self.bandwidth is None else nbytes / self.bandwidth.value
        return (self.fixed.value + moved_s) * 1e3


@dataclass(frozen=True, slots=True)
class Pool:
    """The devices of a system, the links between them, and the limits that plans on it keep.

    ``pins`` are patterns of ops, each with the device or target that those ops have to run on.
    Raises ConfigError if there is no device, two have one id, or a link, a limit or ``shares``
    names none.
    """

    devices: tuple[DeviceSpec, ...]
    links: tuple[Link, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    buses: tuple[Bus, ...] = ()
    limits: Limits = Limits()
    name: str = ""
    boundaries: tuple[BoundaryCost, ...] = ()

    def __post_init__(self) -> None:
        for path, problem, fix in contradictions(self):
            place = ".".join(str(part) for part in path)
            raise ConfigError(problem, place=place, fix=fix)

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

    def boundary(self, source: str, destination: str) -> BoundaryCost | None:
        """What handing a value from a stage on one target (``cpu/openvino/bf16``) to one on another
        costs: the entry that names them most closely, None where there is none."""
        found = [
            each
            for each in self.boundaries
            if _begins(source, each.source) and _begins(destination, each.destination)
        ]
        return max(found, key=lambda b: len(b.source) + len(b.destination), default=None)


def _begins(target: str, beginning: str) -> bool:
    return target == beginning or target.startswith(beginning + "/")


class Described(Protocol):
    """A pool, or what is to become one."""

    @property
    def devices(self) -> Sequence[DeviceSpec]: ...
    @property
    def links(self) -> Sequence[Link]: ...
    @property
    def buses(self) -> Sequence[Bus]: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def boundaries(self) -> Sequence[BoundaryCost]: ...


def contradictions(pool: Described) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What makes a pool contradict itself: the path of the field, the problem, and what to do."""
    if not pool.devices:
        yield ("devices",), "a pool has at least one device", "list one below devices"
    ids: dict[str, int] = {}
    for i, device in enumerate(pool.devices):
        if ids.setdefault(device.id, i) != i:
            yield ("devices", i, "id"), f"a second device has the id {device.id!r}", _OWN
        if device.id.partition(":")[0] != device.kind:
            problem = f"{device.id!r} is no device of kind {device.kind!r}"
            yield ("devices", i, "kind"), problem, "leave the kind out: the id says it"
    for i, device in enumerate(pool.devices):
        if device.shares is not None and (device.shares not in ids or device.shares == device.id):
            others = [other for other in ids if other != device.id]
            problem = f"{device.shares!r} is no other device of the pool"
            yield ("devices", i, "shares"), problem, _one_of(device.shares, others, "devices")
    buses: dict[str, int] = {}
    for i, bus in enumerate(pool.buses):
        if buses.setdefault(bus.id, i) != i:
            yield ("buses", i, "id"), f"a second bus has the id {bus.id!r}", _OWN
    ways: set[tuple[str, str]] = set()
    for i, link in enumerate(pool.links):
        ends = {"source": link.source, "destination": link.destination}
        for end, device_id in ends.items():
            if device_id not in ids:
                problem = f"{device_id!r} is no device of the pool"
                yield ("links", i, end), problem, _one_of(device_id, ids, "devices")
        way = (link.source, link.destination)
        if link.source == link.destination:
            problem = "a link goes from one device to another"
            yield ("links", i, "destination"), problem, "name another device"
        elif way in ways:
            problem = f"a second link goes from {way[0]!r} to {way[1]!r}"
            yield ("links", i, "source"), problem, "leave one out"
        ways.add(way)
        if link.bus and link.bus not in buses:
            problem = f"{link.bus!r} is no bus of the pool"
            yield ("links", i, "bus"), problem, _one_of(link.bus, buses, "buses")
    pairs: set[tuple[str, str]] = set()
    for i, boundary in enumerate(pool.boundaries):
        pair = (boundary.source, boundary.destination)
        for end, target in zip(("source", "destination"), pair, strict=True):
            device_id = target.partition("/")[0]
            if device_id not in ids:
                problem = f"{target!r} is on no device of the pool"
                yield ("boundaries", i, end), problem, _one_of(device_id, ids, "devices")
        if pair in pairs:
            problem = f"a second boundary goes from {pair[0]!r} to {pair[1]!r}"
            yield ("boundaries", i, "source"), problem, "leave one out"
        pairs.add(pair)
    for section, named in (("memory", pool.limits.memory_bytes), ("forbid", pool.limits.forbidden)):
        for device_id in named:
            if device_id not in ids and not (section == "forbid" and device_id == EVERY_DEVICE):
                problem = f"{device_id!r} is no device of the pool"
                yield ("limits", section, device_id), problem, _one_of(device_id, ids, "devices")


_OWN = "give it an id of its own"


def _one_of(name: str, known: Iterable[str], what: str) -> str:
    return known_key(name, known).replace("keys", what) if list(known) else f"list it below {what}"


def fingerprint(pool: Pool) -> str:
    """A short hash, the same between runs, of what measured costs depend on; never a host name.

    CPU name, architecture, capacity, vector extensions, and memory as a power of two, since the
    exact size changes with the kernel and with what firmware reserves. Figures and links don't
    count: they describe the hardware, and measuring them again leaves it as it is.
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
    text = json.dumps({"devices": devices, "links": []}, sort_keys=True)
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
