"""A pool as planning sees it: devices with lanes, memory and power, and what transfers cost."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import networkx as nx

from dioe.hardware import DeviceSpec, Pool
from dioe.hardware.limits import Limits
from dioe.hardware.power import Draw, draws_of, fastest_draws
from dioe.planning import DeviceNode, Line, LinkCosts

HOST = "cpu"
"""The kind of the device that feeds come from and results go to."""


def host_of(pool: Pool) -> str:
    """The first CPU of a pool, empty where there is none."""
    return next((device.id for device in pool.devices if device.kind == HOST), "")


def memory_of(pool: Pool, device: str) -> str:
    """The device whose memory it uses: its own, or that of the one it shares."""
    shares = {each.id: each.shares for each in pool.devices}
    seen = set()
    while (other := shares.get(device)) is not None and device not in seen:
        seen.add(device)
        device = other
    return device


def memory_bytes(pool: Pool, limits: Limits, device: str) -> int | None:
    """What plans may use of a device's memory: the limit, else what the pool or the descriptor
    says is there; of one that uses another's memory, that one's."""
    if device in limits.memory_bytes:
        return limits.memory_bytes[device]
    spec = pool.device(memory_of(pool, device))
    if spec.id in limits.memory_bytes:
        return limits.memory_bytes[spec.id]
    size = spec.figures.memory.size
    return spec.memory_bytes if spec.memory_bytes is not None or size is None else size.value


def power_modes(pool: Pool, devices: Sequence[str], power_w: float | None) -> Mapping[str, Draw]:
    """What each device draws, in which power mode: the fastest modes that stay within ``power_w``
    together; where all together don't, each device's least. Devices whose draw nobody knows are
    left out."""
    known = {device: draws_of(pool, device) for device in devices}
    chosen = {device: draws[-1] for device, draws in known.items() if draws}
    if power_w is not None:
        fitting = {draw.device: draw for draw in fastest_draws(pool, devices, power_w)}
        chosen = {
            device: fitting.get(draw.device, known[device][0]) for device, draw in chosen.items()
        }
    return chosen


def device_nodes(
    pool: Pool, limits: Limits, devices: Sequence[str], draws: Mapping[str, Draw]
) -> tuple[DeviceNode, ...]:
    """The devices with their lanes, what plans may use of their memories, and what they draw."""
    return tuple(_node(pool, limits, pool.device(device), draws) for device in devices)


def _node(pool: Pool, limits: Limits, device: DeviceSpec, draws: Mapping[str, Draw]) -> DeviceNode:
    figures = device.figures
    draw = draws.get(device.id)
    return DeviceNode(
        device.id,
        lanes=1 if figures.lanes is None else figures.lanes.value,
        memory_bytes=memory_bytes(pool, limits, device.id),
        busy_w=None if draw is None else draw.watts,
        idle_w=0.0 if figures.power.idle is None else figures.power.idle.value,
    )


# --- ways --------------------------------------------------------------------------------------


def link_costs(pool: Pool, devices: Sequence[str]) -> tuple[LinkCosts, ...]:
    """What it takes from each of the devices to each other one; pairs without a way are left out.

    Nothing within one memory. Else the pool's link between the two, or between devices that use
    their memories, no faster than its bus; else over the host: the sum of both links, in the queue
    of the slower one. Links of one bus share a queue in each direction, to the host and from it.
    """
    found = (_way(pool, a, b) for a, b in itertools.permutations(devices, 2))
    return tuple(link for link in found if link is not None)


def _way(pool: Pool, source: str, destination: str) -> LinkCosts | None:
    if memory_of(pool, source) == memory_of(pool, destination):
        return LinkCosts(source, destination, Line(), None)
    direct = _linked(pool, source, destination)
    if direct is not None:
        return LinkCosts(source, destination, *direct)
    host = host_of(pool)
    first, second = _linked(pool, source, host), _linked(pool, host, destination)
    if not host or first is None or second is None:
        return None
    slower = max(first, second, key=lambda way: way[0].ms_per_byte)
    return LinkCosts(source, destination, first[0] + second[0], slower[1])


def _linked(pool: Pool, source: str, destination: str) -> tuple[Line, str] | None:
    """The cost and the queue of the best link from one memory to another."""
    memories = {device.id: memory_of(pool, device.id) for device in pool.devices}
    wanted = memories.get(source), memories.get(destination)
    exact = pool.link(source, destination)
    links = [exact] if exact is not None else [
        link for link in pool.links if (memories[link.source], memories[link.destination]) == wanted
    ]  # fmt: skip
    buses = {bus.id: bus.bandwidth.value for bus in pool.buses}
    found = []
    for link in links:
        rate = min(link.bandwidth.value, buses.get(link.bus, link.bandwidth.value))
        fixed_s = 0.0 if link.latency is None else link.latency.value
        found.append((Line(fixed_s * 1e3, 1e3 / rate), _queue(pool, link.bus, *wanted)))
    return min(found, key=lambda way: way[0].ms_per_byte, default=None)


def _queue(pool: Pool, bus: str, source: str | None, destination: str | None) -> str:
    """The name of a transfer's queue: that of the bus in its direction, else of the two ends."""
    if not bus:
        return f"{source} to {destination}"
    host = memory_of(pool, host_of(pool))
    if source == host:
        return f"{bus} from {host}"
    return f"{bus} to {host}" if destination == host else f"{bus} across"


def reachable_sets(
    devices: Collection[str], links: Collection[LinkCosts]
) -> tuple[frozenset[str], ...] | None:
    """The largest sets of devices that can all exchange data; None where all of them can."""
    ways = {(link.source, link.destination) for link in links}
    joined: nx.Graph[str] = nx.Graph()
    joined.add_nodes_from(devices)
    joined.add_edges_from((a, b) for a, b in ways if (b, a) in ways)
    sets = [frozenset(each) for each in nx.find_cliques(joined)]
    return None if len(sets) <= 1 else tuple(sorted(sets, key=sorted))


def both(
    left: tuple[frozenset[str], ...] | None, right: tuple[frozenset[str], ...] | None
) -> tuple[frozenset[str], ...] | None:
    """The largest sets that are in one of each."""
    if left is None or right is None:
        return left or right
    met = {a & b for a, b in itertools.product(left, right)}
    return tuple(sorted((s for s in met if not any(s < other for other in met)), key=sorted))


def separated(devices: Collection[str], links: Collection[LinkCosts]) -> Iterator[str]:
    """Pairs of devices that can't exchange data, in words."""
    ways = {(link.source, link.destination) for link in links}
    for a, b in itertools.combinations(devices, 2):
        if (a, b) not in ways or (b, a) not in ways:
            yield f"{a} and {b}"
