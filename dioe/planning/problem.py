"""What planning decides on: blocks, what they cost on each target, and what lies between them.

Everything is immutable: what was learnt from a measurement goes into a new ``Problem``, made with
``dataclasses.replace`` or ``Problem.with_costs``. Times in ms, sizes in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from dioe.graph import Block, OpGraph, stage_io
from dioe.planning.allowed import Allowed
from dioe.planning.network import Network
from dioe.types import Basis, Precision, Resources, Target


@dataclass(frozen=True, slots=True)
class Cost:
    """A time, what it rests on, and the number of runs behind it."""

    ms: float
    basis: Basis = Basis.MEASURED
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A cost that grows with the bytes of a value."""

    fixed_ms: float = 0.0
    ms_per_byte: float = 0.0

    def ms(self, nbytes: int) -> float:
        """The cost of a value of ``nbytes``."""
        return self.fixed_ms + self.ms_per_byte * nbytes

    def __add__(self, other: Line) -> Line:
        return Line(self.fixed_ms + other.fixed_ms, self.ms_per_byte + other.ms_per_byte)


@dataclass(frozen=True, slots=True)
class BlockNode:
    """A block with what goes in and out of it.

    ``reads`` are the values it takes from other blocks or the model's inputs (no weights),
    ``gives`` those that other blocks or the model's outputs need; both with their sizes, 0 where
    unknown (only the fixed part of a boundary is counted then). ``weight_bytes`` are its weights as
    the model has them; what several blocks share is the first one's. Blocks of one ``group`` run on
    one device (colocation); an empty group is none.
    """

    id: str
    kind: str
    ops: tuple[str, ...]
    reads: Mapping[str, int]
    gives: Mapping[str, int]
    weight_bytes: int = 0
    group: str = ""


class ContextKey(NamedTuple):
    """A backend opened on a device with its resources: what makes two stages neighbours."""

    device: str
    backend: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class TargetCosts:
    """What each block costs on a target of one precision, inside a stage (fused, in the backend's
    own layout); blocks that are left out can't run there.

    ``dispatch_ms`` is the price of a stage, ``entry`` and ``exit`` of one value that comes into or
    leaves one, ``copy_in`` and ``copy_out`` of its way into and out of the memory of the context,
    where that isn't the host's: each once, however many stages there read the value. Targets of one
    context that all have ``mixes`` may share a stage. ``memory_bytes`` is the size of the device's
    memory, None where there is no limit. ``weight_bytes`` and ``workspace_bytes`` are what blocks
    keep there and need besides while they run; weights that are left out take their share of the
    model's own, by the precision.
    """

    target: Target
    blocks: Mapping[str, Cost]
    resources: Resources = field(default_factory=Resources)
    mixes: bool = False
    dispatch_ms: float = 0.0
    entry: Line = field(default_factory=Line)
    exit: Line = field(default_factory=Line)
    copy_in: Line = field(default_factory=Line)
    copy_out: Line = field(default_factory=Line)
    memory_bytes: int | None = None
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    workspace_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def context(self) -> ContextKey:
        """What the target's stages run in."""
        return ContextKey(self.target.device, self.target.backend, self.resources)

    @property
    def precision(self) -> Precision:
        """Its one precision."""
        return self.target.precisions[0]


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device with its lanes: in-order queues of stages that run at the same time.

    ``lanes`` is None where stages never wait for one. ``memory_bytes`` is a limit, None for none.
    ``busy_w`` and ``idle_w`` are what it draws, in watts, None where nobody knows.
    """

    id: str
    lanes: int | None = 1
    memory_bytes: int | None = None
    busy_w: float | None = None
    idle_w: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkCosts:
    """What it takes to bring a value from one device's memory to another's, while lanes compute.

    Transfers of one ``queue`` wait for each other: links of a shared bus have one name there, an
    empty name is a queue of the link's own, and with None no transfer waits.
    """

    source: str
    destination: str
    cost: Line
    queue: str | None = ""


@dataclass(frozen=True)
class Problem:
    """Blocks in a topological order, and what placing them on targets costs.

    ``handover`` is the price of one context following another on a lane (threads that fight), for
    two stages of one context too; pairs left out cost nothing. ``switch`` is the price of a value
    that a block of another precision reads inside one stage, for each such block.

    Without ``devices`` everything runs on one lane, that of the caller, one stage after the other.
    With them (all that targets name) each device has its own lanes, and values cross ``links``;
    what lies between two devices without one costs nothing. ``edge_ms`` takes the place of a
    link's cost for single values, by name. Model inputs start in the memory of ``home``, and model
    outputs go there; empty: they are wherever they are needed. ``allowed`` are limits on plans.

    Raises ValueError if blocks, values, targets, devices or links contradict each other.
    """

    blocks: tuple[BlockNode, ...]
    targets: tuple[TargetCosts, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    handover: Mapping[tuple[ContextKey, ContextKey], float] = field(default_factory=dict)
    switch: Line = field(default_factory=Line)
    devices: tuple[DeviceNode, ...] = ()
    links: tuple[LinkCosts, ...] = ()
    edge_ms: Mapping[str, float] = field(default_factory=dict)
    home: str = ""
    allowed: Allowed = field(default_factory=Allowed)

    def __post_init__(self) -> None:
        self._check_blocks()
        self._check_targets()
        self._check_devices()

    def _check_blocks(self) -> None:
        if not self.blocks:
            raise ValueError("there are no blocks")
        if len(self.positions) != len(self.blocks):
            raise ValueError("two blocks have one id")
        made = set(self.inputs)
        for block in self.blocks:
            missing = [value for value in block.reads if value not in made]
            if missing:
                raise ValueError(f"block {block.id!r} reads {missing[0]!r} before it is made")
            twice = made.intersection(block.gives)
            if twice:
                raise ValueError(f"value {min(twice)!r} is made twice")
            made.update(block.gives)

    def _check_targets(self) -> None:
        keys = [(t.context, t.precision) for t in self.targets]
        if not keys or len(set(keys)) != len(keys):
            raise ValueError("there are no targets, or two of one context and precision")
        for costs in self.targets:
            if len(costs.target.precisions) != 1:
                raise ValueError(f"{costs.target} has several precisions: give one at a time")
            unknown = set(costs.blocks) - set(self.positions)
            if unknown:
                raise ValueError(f"{costs.target} has a cost of {min(unknown)!r}, no such block")
            lines = [
                costs.dispatch_ms,
                *_parts(costs.entry + costs.copy_in),
                *_parts(costs.exit + costs.copy_out),
            ]
            if not all(_is_time(ms) for ms in (*lines, *(c.ms for c in costs.blocks.values()))):
                raise ValueError(f"{costs.target} has a cost that is no time")
        if not all(_is_time(ms) for ms in (*self.handover.values(), *_parts(self.switch))):
            raise ValueError("a handover or a switch has a cost that is no time")

    def _check_devices(self) -> None:
        ids = {device.id for device in self.devices}
        if len(ids) != len(self.devices):
            raise ValueError("two devices have one id")
        if not ids:
            groups = any(block.group for block in self.blocks)
            if self.links or self.home or self.edge_ms or groups:
                raise ValueError("links, a home, groups and costs of edges need devices")
            return
        ends = [end for link in self.links for end in (link.source, link.destination)]
        named = [t.target.device for t in self.targets] + ends + ([self.home] if self.home else [])
        unknown = [device for device in named if device not in ids]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of the devices")
        if len({(link.source, link.destination) for link in self.links}) != len(self.links):
            raise ValueError("two links have the same ends")
        if any(link.source == link.destination for link in self.links):
            raise ValueError("a link goes from a device to itself")
        if any(device.lanes is not None and device.lanes < 1 for device in self.devices):
            raise ValueError("a device has no lane")
        times = [ms for link in self.links for ms in _parts(link.cost)]
        if not all(_is_time(ms) for ms in (*times, *self.edge_ms.values())):
            raise ValueError("a link or an edge has a cost that is no time")

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Where each block stands in ``blocks``, by id."""
        return {block.id: i for i, block in enumerate(self.blocks)}

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """The position of the block that gives a value; model inputs are left out."""
        return {value: i for i, block in enumerate(self.blocks) for value in block.gives}

    @cached_property
    def readers(self) -> Mapping[str, tuple[int, ...]]:
        """Positions of the blocks that read a value, ascending."""
        found: dict[str, list[int]] = {}
        for i, block in enumerate(self.blocks):
            for value in block.reads:
                found.setdefault(value, []).append(i)
        return {value: tuple(users) for value, users in found.items()}

    @cached_property
    def network(self) -> Network:
        """Devices, values and the ways between them by number, for the timeline."""
        return Network.of(self)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Which targets may share a stage: those of a context that mixes, else one by one."""
        found: dict[tuple[object, ...], list[int]] = {}
        for i, costs in enumerate(self.targets):
            key = (costs.context,) if costs.mixes else (costs.context, i)
            found.setdefault(key, []).append(i)
        return tuple(map(tuple, found.values()))

    @cached_property
    def group_of(self) -> tuple[int, ...]:
        """The number in ``groups`` of each target."""
        numbers = {i: g for g, members in enumerate(self.groups) for i in members}
        return tuple(numbers[i] for i in range(len(self.targets)))

    def handover_ms(self, before: int, after: int) -> float:
        """The price of a stage of target ``after`` following one of target ``before``."""
        pair = (self.targets[before].context, self.targets[after].context)
        return self.handover.get(pair, 0.0)

    def with_costs(self, target: int, costs: Mapping[str, Cost]) -> Problem:
        """The same with some blocks' costs on a target (by its index) replaced or added."""
        changed = replace(self.targets[target], blocks={**self.targets[target].blocks, **costs})
        targets = (*self.targets[:target], changed, *self.targets[target + 1 :])
        return replace(self, targets=targets)


def block_nodes(graph: OpGraph, blocks: Sequence[Block]) -> tuple[BlockNode, ...]:
    """The blocks of ``graph`` (``dioe.graph.find_blocks``) with what they read and give."""

    def sizes(names: Collection[str]) -> dict[str, int]:
        return {name: graph.values[name].nbytes or 0 for name in names}

    weights = dict(_weight_sizes(graph))
    nodes = []
    for block in blocks:
        reads, gives = stage_io(graph, block.ops)
        used = {name for op in block.ops for name in graph.ops[op].reads}
        own = sum(weights.pop(name) for name in used & weights.keys())
        nodes.append(BlockNode(block.id, block.kind, block.ops, sizes(reads), sizes(gives), own))
    return tuple(nodes)


def _weight_sizes(graph: OpGraph) -> Iterator[tuple[str, int]]:
    for name, value in graph.model.ir.graph.initializers.items():
        if value.const_value is not None:
            yield name, value.const_value.nbytes


def build_problem(
    graph: OpGraph,
    blocks: Sequence[Block],
    targets: Sequence[TargetCosts],
    *,
    handover: Mapping[tuple[ContextKey, ContextKey], float] | None = None,
    switch: Line | None = None,
) -> Problem:
    """The problem of placing the blocks of ``graph`` on ``targets``; see ``Problem``."""
    return Problem(
        blocks=block_nodes(graph, blocks),
        targets=tuple(targets),
        outputs=tuple(spec.name for spec in graph.model.outputs),
        inputs=tuple(spec.name for spec in graph.model.inputs),
        handover=dict(handover or {}),
        switch=switch or Line(),
    )


def _parts(line: Line) -> tuple[float, float]:
    return line.fixed_ms, line.ms_per_byte


def _is_time(ms: float) -> bool:
    return math.isfinite(ms) and ms >= 0
