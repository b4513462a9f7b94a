"""Placement instances in the published format: read, checked, as integer-indexed tuples.

The format is that of the code of Tarnawski et al., "Efficient Algorithms for Device Placement of
DNN Graph Operators" (NeurIPS 2020), which calls every accelerator an FPGA. Times have no unit
there; all are in the same one.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dioe.types import InputError

MAX_FILE_BYTES = 2**28
"""Larger files are refused: 256 MiB hold over half a million nodes."""

_SAME_COST = 1e-6
"""By so much the published programs let the costs of one node's edges differ."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operator or a layer; ``color`` is its colour class, None if it has none."""

    id: int
    cpu_time: float
    accelerator_time: float
    size_bytes: float
    supported: bool
    """Whether an accelerator can run it."""
    color: int | None = None


@dataclass(frozen=True)
class Instance:
    """A placement problem. Nodes go by their index in ``nodes``, not by their id.

    ``edges`` holds each pair (source, reader) once, and ``costs`` per node the time to move its
    output between an accelerator and host memory (0 where nothing reads it).
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    costs: tuple[float, ...]
    max_accelerators: int
    max_cpus: int
    memory_bytes: float
    """Memory of one accelerator."""

    @cached_property
    def usable_bytes(self) -> float:
        """What a search lets an accelerator hold: its memory, a trifle less where sizes have
        fractions, as sums of those depend on their order."""
        whole = all(node.size_bytes.is_integer() for node in self.nodes)
        return self.memory_bytes * (1.0 if whole else 1 - 1e-9)

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """The readers of each node's output."""
        return _adjacent(len(self.nodes), self.edges)

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """What each node reads."""
        return _adjacent(len(self.nodes), ((b, a) for a, b in self.edges))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The nodes in a topological order; shorter than ``nodes`` if there is a cycle."""
        missing = [len(before) for before in self.predecessors]
        order = [node for node, count in enumerate(missing) if count == 0]
        for node in order:
            for reader in self.successors[node]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    order.append(reader)
        return tuple(order)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The nodes that have to share a device: a group a colour class, the others alone."""
        members: dict[object, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            members[("alone", index) if node.color is None else node.color].append(index)
        return tuple(tuple(group) for group in members.values())


def _adjacent(count: int, edges: Any) -> tuple[tuple[int, ...], ...]:
    lists: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        lists[a].append(b)
    return tuple(map(tuple, lists))


def read_instance(path: str | Path) -> Instance:
    """Read and check a file; raises InputError with the file, and the node, edge or field."""
    content = load_json(path)
    return parse_instance(content, str(path))


def load_json(path: str | Path) -> Any:
    """What a JSON file holds; raises InputError where it isn't one, or is too large."""
    place = str(path)
    fix = "give a JSON file of the published placement format; docs/placement.md shows one"
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"can't read it: {reason}", place=place, fix=fix) from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(
            f"larger than {MAX_FILE_BYTES // 2**20} MiB, more than this command reads",
            place=place,
            fix="merge nodes: chains and branches that belong together",
        )
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"not JSON: {error.msg} ({where})", place=place, fix=fix) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"not JSON: {reason}", place=place, fix=fix) from None


def parse_instance(content: object, place: str) -> Instance:
    """The instance that a JSON value describes; ``place`` names it in errors (InputError)."""
    whole = _Fields(content, place, "an instance")
    memory = whole.number("maxSizePerFPGA")
    accelerators, cpus = whole.count("maxFPGAs"), whole.count("maxCPUs")
    listed = whole.items("nodes")
    if not listed:
        raise InputError(
            "there are no nodes to place", place=f"{place}: nodes", fix="list one or more"
        )
    sized = any(isinstance(item, Mapping) and "size" in item for item in listed)
    nodes: list[Node] = []
    index: dict[int, int] = {}
    for position, item in enumerate(listed):
        node = _node(item, f"{place}: nodes[{position}]", sized)
        if node.id in index:
            raise InputError(
                f"id {node.id} is that of nodes[{index[node.id]}] too",
                place=f"{place}: nodes[{position}]",
                fix="give each node an id of its own",
            )
        index[node.id] = position
        nodes.append(node)
    edges, costs = _edges(whole.items("edges"), index, place)
    instance = Instance(tuple(nodes), edges, costs, accelerators, cpus, memory)
    if not math.isfinite(sum(_amounts(instance))):
        raise InputError(
            "its times and sizes add up to more than a number can be",
            place=place,
            fix="write them in larger units",
        )
    _check_acyclic(instance, place)
    return instance


def _amounts(instance: Instance) -> Iterator[float]:
    for node in instance.nodes:
        yield from (node.cpu_time, node.accelerator_time, node.size_bytes)
    yield from instance.costs


def _node(item: object, place: str, sized: bool) -> Node:
    fields = _Fields(item, place, "a node")
    number = fields.integer("id")
    fields.place = f"{place} (id {number})"
    return Node(
        id=number,
        cpu_time=fields.number("cpuLatency"),
        accelerator_time=fields.number("fpgaLatency"),
        # as the published programs have it: an instance may be without any sizes
        size_bytes=fields.number("size") if sized else 0.0,
        supported=fields.flag("supportedOnFpga"),
        color=None if fields.absent("colorClass") else fields.integer("colorClass"),
    )


def _edges(
    listed: list[object], index: Mapping[int, int], place: str
) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """The edges once each, and the cost of each node's output."""
    edges: dict[tuple[int, int], None] = {}
    costs: dict[int, float] = {}
    for position, item in enumerate(listed):
        fields = _Fields(item, f"{place}: edges[{position}]", "an edge")
        ends = []
        for name in ("sourceId", "destId"):
            end = fields.integer(name)
            if end not in index:
                raise InputError(
                    f"there is no node with id {end}",
                    place=f"{fields.place}.{name}",
                    fix="name a node that is listed",
                )
            ends.append(index[end])
        source, reader = ends
        cost = fields.number("cost")
        if abs(costs.setdefault(source, cost) - cost) > _SAME_COST * max(1.0, cost):
            raise InputError(
                f"cost is {cost:g}, and {costs[source]:g} on another edge out of the same node",
                place=fields.place,
                fix="one output takes one time: write the same cost on each edge out of a node",
            )
        edges[source, reader] = None
    return tuple(edges), tuple(costs.get(node, 0.0) for node in range(len(index)))


def _check_acyclic(instance: Instance, place: str) -> None:
    left = set(range(len(instance.nodes))) - set(instance.order)
    if not left:
        return
    node = min(left)
    seen: dict[int, int] = {}
    while node not in seen:  # each that is left has a predecessor that is left
        seen[node] = len(seen)
        node = next(before for before in instance.predecessors[node] if before in left)
    cycle = [each for each, number in seen.items() if number >= seen[node]][::-1]
    ids = [str(instance.nodes[each].id) for each in cycle]
    shown = ids if len(ids) <= _SHOWN else [*ids[: _SHOWN - 1], "…"]
    raise InputError(
        f"the nodes {' -> '.join([*shown, ids[0]])} wait for each other in a circle",
        place=f"{place}: edges",
        fix="take out an edge of the circle",
    )


_SHOWN = 8
"""Ids of a circle that an error names."""


class _Fields:
    """The fields of a JSON object, checked as they are read; errors name the place."""

    def __init__(self, item: object, place: str, kind: str) -> None:
        if not isinstance(item, Mapping):
            raise InputError(
                f"is {_shown(item)}, not {kind}", place=place, fix="write a JSON object there"
            )
        self.item, self.place = item, place

    def absent(self, name: str) -> bool:
        return self.item.get(name) is None

    def number(self, name: str) -> float:
        """A finite number that is not negative."""
        value = self._get(name)
        try:
            number = float(value) if _is_number(value) else math.nan
        except OverflowError:
            number = math.inf
        if not (math.isfinite(number) and number >= 0):
            raise self._wrong(name, "a number, 0 or more")
        return number

    def integer(self, name: str) -> int:
        value = self._get(name)
        if not _is_number(value) or (isinstance(value, float) and not value.is_integer()):
            raise self._wrong(name, "an integer")
        return int(value)

    def count(self, name: str) -> int:
        number = self.integer(name)
        if not 0 <= number <= MAX_DEVICES:
            raise self._wrong(name, f"a count from 0 to {MAX_DEVICES}")
        return number

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if value not in (0, 1) or isinstance(value, str):
            raise self._wrong(name, "true or false (or 1 or 0)")
        return bool(value)

    def items(self, name: str) -> list[object]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def _get(self, name: str) -> Any:
        if name not in self.item:
            raise InputError("is missing", place=f"{self.place}.{name}", fix="add it")
        return self.item[name]

    def _wrong(self, name: str, kind: str) -> InputError:
        return InputError(
            f"is {_shown(self.item[name])}",
            place=f"{self.place}.{name}",
            fix=f"write {kind}",
        )


MAX_DEVICES = 100_000
"""Devices of one kind; more are a mistake."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A JSON value in a few words."""
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
