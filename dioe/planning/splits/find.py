"""The answer to a placement instance: a split that may be written, judged."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dioe.planning.splits.helpers import Helpers, seed_of
from dioe.planning.splits.instance import Instance
from dioe.planning.splits.judge import Judgement, Split, judge
from dioe.planning.splits.objectives import ObjectiveName
from dioe.planning.splits.search import Found, on_cpus, search
from dioe.planning.splits.starts import Place
from dioe.types import DioeError, InputError, OutOfMemory, UnsupportedError


@dataclass(frozen=True, slots=True)
class Answer:
    """The best split found. ``bound``: no split has less latency (a longest path, each node where
    it is fastest, nothing moved); ``moves`` is what all processes tried."""

    split: Split
    judgement: Judgement
    objective: ObjectiveName
    bound: float
    moves: int
    seconds: float


def find_split(
    instance: Instance,
    *,
    objective: ObjectiveName = "latency",
    time_limit_s: float | None = None,
    work_limit: int | None = None,
    seed: int = 0,
    processes: int = 1,
) -> Answer:
    """Search for the split with the least latency, or (throughput) the least largest load.

    It ends after ``time_limit_s`` seconds or ``work_limit`` moves tried in each process, whichever
    is first; one has to be given. Without the first, the same arguments give the same answer.
    Every accelerator's set is convex and no accelerators wait for each other. With several
    ``processes`` the others are started by spawning: the main module has to be importable.

    Raises InputError for limits that are none, UnsupportedError naming a node that no device may
    run, and OutOfMemory where no split was found that fits.
    """
    begin = time.monotonic()
    _check_limits(time_limit_s, work_limit, processes)
    check_placeable(instance)
    seconds = math.inf
    if time_limit_s is not None:
        seconds = time_limit_s - min(_JUDGING_S * len(instance.nodes), time_limit_s / 4)
    moves = math.inf if work_limit is None else work_limit
    searched = _of_use(instance)
    failed: DioeError | None = None
    found: list[Found] = []
    moved = 0
    with Helpers(searched, objective, range(1, processes), seed, seconds, moves) as helpers:
        left = seconds - (time.monotonic() - begin)
        try:
            found.append(search(searched, objective, seed_of(seed, 0), seconds=left, moves=moves))
        except OutOfMemory as error:
            failed = error
        found += helpers.found()
    if not found:
        raise failed or OutOfMemory("no split was found", place="placement", fix="allow more time")
    best = min(found, key=lambda each: each.value)
    moved = sum(each.moves for each in found)
    split = as_split(searched, best.place, spread=objective == "latency")
    split = replace(split, cpus=(*split.cpus, *[()] * (instance.max_cpus - searched.max_cpus)))
    judgement = judge(instance, split)
    if judgement.faults:
        raise DioeError(
            f"the search made a split that may not be written: {judgement.faults[0]}",
            fix="report it, with the instance",
        )
    return Answer(
        split, judgement, objective, least_latency(instance), moved, time.monotonic() - begin
    )


_JUDGING_S = 3e-5
"""What is kept for judging, a node: some 20 µs on a 2020s server core."""


def _of_use(instance: Instance) -> Instance:
    """The instance without devices that there is nothing for."""
    count = len(instance.groups)
    return replace(
        instance,
        max_accelerators=min(instance.max_accelerators, count),
        max_cpus=min(instance.max_cpus, count),
    )


def _check_limits(time_limit_s: float | None, work_limit: int | None, processes: int) -> None:
    if time_limit_s is None and work_limit is None:
        raise InputError(
            "without a limit it would not end", place="find_split", fix="give time_limit_s"
        )
    if time_limit_s is not None and not (math.isfinite(time_limit_s) and time_limit_s > 0):
        raise InputError(
            f"{time_limit_s:g} seconds are no time limit", place="time limit", fix="give seconds"
        )
    if work_limit is not None and work_limit < 1:
        raise InputError(
            f"{work_limit} moves are no limit", place="work limit", fix="give 1 or more"
        )
    if processes < 1:
        raise InputError(f"{processes} processes", place="processes", fix="give 1 or more")


def check_placeable(instance: Instance) -> None:
    """Raise UnsupportedError naming a node that no device may run."""
    if instance.max_cpus:
        return
    for group in instance.groups:
        nodes = [instance.nodes[each] for each in group]
        first = nodes[0]
        whose = f"node {first.id}" if first.color is None else f"colour class {first.color}"
        place = f"{whose} (nodes {', '.join(str(node.id) for node in nodes[:5])})"
        fix = "allow CPUs (maxCPUs)"
        if not instance.max_accelerators:
            raise UnsupportedError("there are no devices", place="placement", fix=fix)
        unable = next((node for node in nodes if not node.supported), None)
        if unable is not None:
            raise UnsupportedError(
                f"no accelerator can run node {unable.id}, and there are no CPUs",
                place=place,
                fix=fix,
            )
        size = math.fsum(node.size_bytes for node in nodes)
        if size > instance.memory_bytes:
            raise UnsupportedError(
                f"needs {size:.0f} bytes, an accelerator has {instance.memory_bytes:.0f}, and "
                "there are no CPUs",
                place=place,
                fix=fix,
            )


def as_split(instance: Instance, place: Place, *, spread: bool) -> Split:
    """A place as a split: accelerators that have nodes in the order of the data, and each CPU.

    ``spread`` shares what is on CPUs among them anew (which no latency depends on).
    """
    count = instance.max_accelerators
    if spread and instance.max_cpus:
        place = on_cpus(instance, place, instance.max_cpus)
    held: dict[int, list[int]] = {}
    for node in instance.order:
        held.setdefault(place[node], []).append(node)
    return Split(
        cpus=tuple(_sorted(held.get(count + each, ())) for each in range(instance.max_cpus)),
        accelerators=tuple(_sorted(nodes) for device, nodes in held.items() if device < count),
    )


def _sorted(nodes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(nodes))


def least_latency(instance: Instance) -> float:
    """A bound that no split goes below: the longest path, each node where it is fastest."""
    finish = [0.0] * len(instance.nodes)
    for index in instance.order:
        node = instance.nodes[index]
        times = [node.cpu_time] if instance.max_cpus else []
        if instance.max_accelerators and node.supported:
            times.append(node.accelerator_time)
        before = instance.predecessors[index]
        finish[index] = min(times) + max((finish[each] for each in before), default=0.0)
    return max(finish)
