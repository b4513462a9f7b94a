"""A schedule as tracks of bars: what its timeline shows, whatever it is drawn with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dioe.planning.lifetimes import lifetimes
from dioe.planning.memory import weight_bytes
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import PlacedStage, Transfer


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that takes time, in ms. ``target`` is that of a stage, empty for a transfer;
    ``stage`` is the stage's number, ``transfer`` the transfer itself."""

    name: str
    start_ms: float
    end_ms: float
    target: str = ""
    stage: int = -1
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """What happens on one lane of a ``device``, or, where that is empty, in one queue of links: one
    bar after the other."""

    name: str
    device: str
    bars: tuple[Bar, ...]


def tracks(schedule: Schedule) -> tuple[Track, ...]:
    """Lanes in the order of the devices, then the links' queues. Devices without a stage are left
    out, and transfers that take no time."""
    return (*_lanes(schedule), *_links(schedule))


def _lanes(schedule: Schedule) -> Iterable[Track]:
    simulated = schedule.simulation.stages
    targets = schedule.problem.targets
    found: dict[tuple[str, int], list[Bar]] = {}
    for number, (stage, times) in enumerate(zip(schedule.placement.stages, simulated, strict=True)):
        target = str(targets[stage.targets[0]].target)
        device = times.device or targets[stage.targets[0]].target.device
        found.setdefault((device, times.lane), []).append(
            Bar(contents(stage), times.start_ms, times.end_ms, target, number)
        )
    order = {device.id: i for i, device in enumerate(schedule.problem.devices)}
    lanes: dict[str, int] = {}
    for device, _ in found:
        lanes[device] = lanes.get(device, 0) + 1
    for device, lane in sorted(found, key=lambda key: (order.get(key[0], 0), *key)):
        name = f"{device} lane {lane}" if lanes[device] > 1 else device
        bars = sorted(found[device, lane], key=lambda bar: bar.start_ms)
        yield Track(name, device, tuple(bars))


def contents(stage: PlacedStage) -> str:
    """What a stage is of, in short: the nodes of a pipeline, or its first and last block."""
    nodes = list(dict.fromkeys(block.rpartition(".")[0] or block for block in stage.blocks))
    if len(nodes) == 1 and len(stage.blocks) > 1:
        return f"{nodes[0]} ({len(stage.blocks)} blocks)"
    if len(stage.blocks) == 1:
        return stage.blocks[0]
    if any("." in block for block in stage.blocks):
        return ", ".join(nodes)  # of a pipeline
    return f"{stage.blocks[0]} … {stage.blocks[-1]}"


def _links(schedule: Schedule) -> Iterable[Track]:
    found: dict[str, list[Transfer]] = {}
    for transfer in schedule.transfers:
        if transfer.end_ms > transfer.start_ms:
            queue = transfer.queue or f"{transfer.source} to {transfer.destination}"
            found.setdefault(queue, []).append(transfer)
    for queue in sorted(found):
        for number, row in enumerate(_apart(found[queue])):
            bars = tuple(Bar(t.value, t.start_ms, t.end_ms, transfer=t) for t in row)
            yield Track(queue if not number else f"{queue} ({number + 1})", "", bars)


def _apart(transfers: Iterable[Transfer]) -> Sequence[Sequence[Transfer]]:
    """Transfers that don't wait for each other, in as many rows as it takes to draw them."""
    rows: list[list[Transfer]] = []
    for transfer in sorted(transfers, key=lambda t: (t.start_ms, t.end_ms)):
        row = next((r for r in rows if r[-1].end_ms <= transfer.start_ms), None)
        if row is None:
            rows.append([transfer])
        else:
            row.append(transfer)
    return rows


def memory_steps(schedule: Schedule) -> Mapping[str, Sequence[tuple[float, float]]]:
    """By device the bytes that it holds from each instant on, in ms: weights from the start, values
    and workspaces while they live."""
    problem = schedule.problem
    held: dict[str, float] = {}
    for block, target in schedule.placement.targets.items():
        costs = problem.targets[target]
        node = problem.blocks[problem.positions[block]]
        device = costs.target.device
        held[device] = held.get(device, 0.0) + weight_bytes(costs, node)
    changes: dict[str, dict[float, float]] = {device: {0.0: 0.0} for device in held}
    for each in lifetimes(problem, schedule.placement, schedule.simulation):
        if each.nbytes:
            row = changes.setdefault(each.device, {0.0: 0.0})
            row[each.start_ms] = row.get(each.start_ms, 0.0) + each.nbytes
            row[each.end_ms] = row.get(each.end_ms, 0.0) - each.nbytes
    steps: dict[str, list[tuple[float, float]]] = {}
    for device, row in changes.items():
        now = held.get(device, 0.0)
        steps[device] = []
        for time_ms in sorted(row):
            now += row[time_ms]
            steps[device].append((time_ms, max(0.0, now)))
    return steps
